"""Dot-product scores of a block of codes, filtered while they are made: the inner loop of a pair is an addition.

A code of M books scores base + sum_m angle_m[codeword_m] with a few hundred angles an item. Codes that differ only in
the last book are a *run*: with ``known`` the sum of the other books, the score of each is known + angle, and no score
of the run exceeds known + the item's greatest angle of the last book. Rounding is monotone, so that bound holds for the
computed numbers too, and most runs of most items are skipped by it.

With one book every code has a codeword of its own and the angles are a matrix product. How BLAS rounds it depends on
shapes and machine; so its result only filters, under a bound on its error, and what passes is computed again in the one
order of ``fill_angles``. Any order of summing d products errs by at most gamma_d |t| |c|, gamma_d = d u / (1 - d u),
u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparcode.build.score.kept import STRIDE, KeptPairs, any_above, offer, scan_row
from sparcode.jit import contracted, reordered_without_nan

TILE_ITEMS, TILE_BYTES = 64, 1 << 18
"""Items of a tile: at most so many, and so many bytes of angles."""
PRODUCT_ITEMS, PRODUCT_CODES = 256, 1024
"""Matrix products are made in pieces of this shape, which stay in the second-level cache."""
_ROUNDING = 2.0**-24


class ItemBlock(NamedTuple):
    """Items ``first ..`` before they meet codes of one book.

    float32: ``means`` (I, D) of ``item_mean``; ``base`` (I,), the score without the angle; ``upper_bases`` (I,), see
    the function of that name.
    """

    means: np.ndarray
    base: np.ndarray
    upper_bases: np.ndarray
    first: int


# Of a set of numbers any order finds the same extreme.
@reordered_without_nan
def greatest_of(row):
    """Return the greatest number of ``row``, -inf of none."""
    greatest = np.float32(-np.inf)
    for k in range(row.shape[0]):
        greatest = max(greatest, row[k])
    return greatest


@reordered_without_nan
def lowest_of(row):
    """Return the least number of ``row``, inf of none."""
    lowest = np.float32(np.inf)
    for k in range(row.shape[0]):
        lowest = min(lowest, row[k])
    return lowest


@contracted
def item_mean(item, cosine, width, mean):
    """mean (d + padding,) = cosine * sum of the K_c tokens in ``item`` (K_c d,)."""
    for e in range(width):
        mean[e] = 0.0
    for block in range(0, item.shape[0], width):
        for e in range(width):
            mean[e] += item[block + e]
    for e in range(width):
        mean[e] *= cosine


@contracted
def fill_angles(columns, ranges, depths, mean, angles):
    """angles (K,) = sum_e columns[e, k] mean[depth of k's book + e], e ascending; columns (D, K), D a multiple of 4."""
    for m in range(depths.shape[0]):
        low, high, depth = ranges[m], ranges[m + 1], depths[m]
        part = angles[low:high]
        part[:] = np.float32(0.0)
        for e in range(0, columns.shape[0], 4):
            w0, w1 = columns[e, low:high], columns[e + 1, low:high]
            w2, w3 = columns[e + 2, low:high], columns[e + 3, low:high]
            x0, x1, x2, x3 = mean[depth + e], mean[depth + e + 1], mean[depth + e + 2], mean[depth + e + 3]
            for k in range(part.shape[0]):
                # One product a statement, see ``encoder.math.add_product``.
                total = part[k] + w0[k] * x0
                total += w1[k] * x1
                total += w2[k] * x2
                part[k] = total + w3[k] * x3


@contracted
def one_angle(word, mean):
    """Return what ``fill_angles`` gives for one word (D,) of a book that starts at dimension 0."""
    total = np.float32(0.0)
    for e in range(word.shape[0]):
        total += word[e] * mean[e]
    return total


@contracted
def known_of(slots, angles, base):
    """Return base + the angles of all books but the last of one code ``slots`` (M,)."""
    total = base
    for m in range(slots.shape[0] - 1):
        total += angles[slots[m]]
    return total


@contracted
def dot_row(codes, angles, base, out):
    """Fill out (C,) with the dot-product scores of one item; ``codes``: CodeTables."""
    slots, runs = codes.slots, codes.runs
    last = slots[:, slots.shape[1] - 1]
    for r in range(runs.shape[0] - 1):
        known = known_of(slots[runs[r]], angles, base)
        for c in range(runs[r], runs[r + 1]):
            out[c] = known + angles[last[c]]


@contracted
def collect_runs(start, stop, weights, codes, width, kept):
    """Offer the scores of items ``start:stop`` and all codes of two or more books.

    ``weights``: ScorerWeights of float32 items, ``codes``: CodeTables, ``kept``: PairBuffers.
    """
    slots, runs, columns, ranges = codes.slots, codes.runs, codes.columns, codes.ranges
    count, books = stop - start, slots.shape[1]
    angles = np.empty((count, columns.shape[1]), np.float32)
    base, greatest = np.empty(count, np.float32), np.empty(count, np.float32)
    mean = np.zeros(width + columns.shape[0], np.float32)
    for t in range(count):
        item_mean(weights.items[start + t], weights.cosine, width, mean)
        fill_angles(columns, ranges, codes.depths, mean, angles[t])
        base[t] = weights.item_bias[start + t] + weights.perceptron.out_bias
        greatest[t] = greatest_of(angles[t, ranges[books - 1] : ranges[books]])
    last = slots[:, books - 1]
    gathered = np.empty(slots.shape[0], np.float32)
    for r in range(runs.shape[0] - 1):
        first, end = runs[r], runs[r + 1]
        thresholds = kept.raw_thresholds[first:end]
        lowest = lowest_of(thresholds)
        for t in range(count):
            known = known_of(slots[first], angles[t], base[t])
            if not known + greatest[t] > lowest:
                continue
            if codes.adjacent[r]:
                row = angles[t, last[first] : last[first] + end - first]
                scan_row(row, thresholds, known, first, start + t, kept)
            else:
                for c in range(first, end):
                    gathered[c - first] = angles[t, last[c]]
                scan_row(gathered[: end - first], thresholds, known, first, start + t, kept)


@contracted
def item_means(start, weights, width, means, base):
    """Fill means (I, d + padding) and base (I,) of items ``start ..``; ``weights`` as in ``collect_runs``."""
    for i in range(means.shape[0]):
        item_mean(weights.items[start + i], weights.cosine, width, means[i])
        base[i] = weights.item_bias[start + i] + weights.perceptron.out_bias


@contracted
def filter_block(rough, words, items, first_code, kept):
    """Offer the pairs of ``items``, an ItemBlock, whose rough angles (I, X) may lie above their thresholds.

    ``words`` (C, D) of all codes, of which the X from ``first_code`` on are looked at; ``kept``: PairBuffers.
    """
    thresholds = kept.raw_thresholds[first_code : first_code + rough.shape[1]]
    for i in range(rough.shape[0]):
        whole = rough.shape[1] - rough.shape[1] % STRIDE
        for low in range(0, whole, STRIDE):
            if any_above(rough[i, low : low + STRIDE], thresholds[low : low + STRIDE], items.upper_bases[i]):
                offer_some(rough[i], low, low + STRIDE, words, items, i, first_code, kept)
        offer_some(rough[i], whole, rough.shape[1], words, items, i, first_code, kept)


@contracted
def offer_some(row, low, high, words, items, i, first_code, kept):
    """Offer the pairs ``low:high`` of item ``i`` whose rough scores may be high enough, computed exactly."""
    upper, base, mean = items.upper_bases[i], items.base[i], items.means[i]
    for c in range(low, high):
        code = first_code + c
        if upper + row[c] > kept.raw_thresholds[code]:
            offer(base + one_angle(words[code], mean), code, items.first + i, kept)


def upper_bases(means: np.ndarray, base: np.ndarray, longest: float) -> np.ndarray:
    """Return (I,) f32: base plus more than any rounding of the angles and of the sum can amount to.

    ``means`` (I, D), ``base`` (I,) f32, ``longest``: the greatest length of a word.
    """
    size = np.sqrt((means.astype(np.float64) ** 2).sum(axis=1)) * longest
    terms = means.shape[1] + 16
    error = _ROUNDING * terms / (1 - _ROUNDING * terms) * (2 * size + np.abs(base)) + 1e-30
    return np.nextafter((base + error).astype(np.float32), np.float32(np.inf))


def collect_flat(weights: Any, plan: Any, start: int, stop: int, width: int, kept: KeptPairs) -> None:
    """Offer the scores of items ``start:stop`` and codes of one book."""
    vectors = plan.vectors
    means, base = np.zeros((stop - start, vectors.shape[1]), np.float32), np.empty(stop - start, np.float32)
    item_means(start, weights, width, means, base)
    upper = upper_bases(means, base, plan.longest)
    for low in range(0, len(vectors), PRODUCT_CODES):
        part = vectors[low : low + PRODUCT_CODES].T
        for first in range(0, stop - start, PRODUCT_ITEMS):
            rough = means[first : first + PRODUCT_ITEMS] @ part
            items = ItemBlock(means[first:], base[first:], upper[first:], start + first)
            filter_block(rough, vectors, items, low, kept.reserve(rough.size))
