"""Dot-product scores of a block of codes, sieved while they are made: the inner loop of a pair is an addition.

A code of M books scores base + sum_m angle_m[codeword_m] with a few hundred angles an item. Codes that differ only in
the last book are a *run*: with ``known`` the sum of the other books, the score of each is known + angle, and no score
of the run exceeds known + the item's greatest angle of the last book. Rounding is monotone, so that bound holds for the
computed numbers too, and most runs of most items are skipped by it.

With one book every code has a codeword of its own and the angles are a matrix product. How BLAS rounds it depends on
shapes and machine; so its result only sieves, under a bound on its error, and what passes is computed again in the one
order of ``fill_angles``. Any order of summing d products errs by at most gamma_d |t| |c|, gamma_d = d u / (1 - d u),
u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.build.score.survivors import STRIDE, Survivors, any_above, offer, scan_row
from sparcode.jit import contracted, reordered_without_nan

TILE_ITEMS, TILE_BYTES = 64, 1 << 18
"""Items of a tile: at most so many, and so many bytes of angles."""
PRODUCT_ITEMS, PRODUCT_CODES = 256, 1024
"""Matrix products are made in pieces of this shape, which stay in the second-level cache."""
_ROUNDING = 2.0**-24


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
def dot_row(slots, runs, angles, base, out):
    """Fill out (C,) with the dot-product scores of one item."""
    last = slots[:, slots.shape[1] - 1]
    for r in range(runs.shape[0] - 1):
        known = known_of(slots[runs[r]], angles, base)
        for c in range(runs[r], runs[r + 1]):
            out[c] = known + angles[last[c]]


@contracted
def collect_runs(
    start, stop, weights, columns, ranges, depths, slots, runs, adjacent, width, state
):  # fmt: skip
    """Offer the scores of a tile of items and all codes of two or more books; arrays as in Rescorer and CodePlan."""
    flat, item_bias, cosine, out_bias = weights.items, weights.item_bias, weights.cosine, weights.perceptron.out_bias
    count, books = stop - start, slots.shape[1]
    angles = np.empty((count, columns.shape[1]), np.float32)
    base, greatest = np.empty(count, np.float32), np.empty(count, np.float32)
    mean = np.zeros(width + columns.shape[0], np.float32)
    for t in range(count):
        item_mean(flat[start + t], cosine, width, mean)
        fill_angles(columns, ranges, depths, mean, angles[t])
        base[t] = item_bias[start + t] + out_bias
        greatest[t] = greatest_of(angles[t, ranges[books - 1] : ranges[books]])
    last = slots[:, books - 1]
    gathered = np.empty(slots.shape[0], np.float32)
    for r in range(runs.shape[0] - 1):
        first, end = runs[r], runs[r + 1]
        bars = state.bars[first:end]
        lowest = lowest_of(bars)
        for t in range(count):
            known = known_of(slots[first], angles[t], base[t])
            if not known + greatest[t] > lowest:
                continue
            if adjacent[r]:
                scan_row(angles[t, last[first] : last[first] + end - first], bars, known, first, start + t, state)
            else:
                for c in range(first, end):
                    gathered[c - first] = angles[t, last[c]]
                scan_row(gathered[: end - first], bars, known, first, start + t, state)


@contracted
def item_means(start, weights, width, means, base):
    """Fill means (I, d + padding) and base (I,) of items ``start ..``."""
    flat, item_bias, cosine, out_bias = weights.items, weights.item_bias, weights.cosine, weights.perceptron.out_bias
    for i in range(means.shape[0]):
        item_mean(flat[start + i], cosine, width, means[i])
        base[i] = item_bias[start + i] + out_bias


@contracted
def sieve(rough, slack, words, means, base, first_item, first_code, state):
    """Offer pairs whose rough angles (I, X) may beat their bars; ``slack`` (I,): base and error, ``words`` (C, D)."""
    bars = state.bars[first_code : first_code + rough.shape[1]]
    for i in range(rough.shape[0]):
        whole = rough.shape[1] - rough.shape[1] % STRIDE
        for low in range(0, whole, STRIDE):
            if any_above(rough[i, low : low + STRIDE], bars[low : low + STRIDE], slack[i]):
                sieve_some(rough[i], low, low + STRIDE, bars, slack[i], words, means[i], base[i], first_item + i,
                           first_code, state)  # fmt: skip
        sieve_some(rough[i], whole, rough.shape[1], bars, slack[i], words, means[i], base[i], first_item + i,
                   first_code, state)  # fmt: skip


@contracted
def sieve_some(row, low, high, bars, slack, words, mean, base, item, first_code, state):
    """Offer the pairs ``low:high`` of one item whose rough angles may beat their bars, computed exactly."""
    for c in range(low, high):
        if slack + row[c] > bars[c]:
            offer(base + one_angle(words[first_code + c], mean), first_code + c, item, state)


def slack_of(means: np.ndarray, base: np.ndarray, longest: float) -> np.ndarray:
    """Return (I,) f32: base plus more than any rounding of the angles and of the sum can amount to.

    ``means`` (I, D), ``base`` (I,) f32, ``longest``: the greatest length of a word.
    """
    size = np.sqrt((means.astype(np.float64) ** 2).sum(axis=1)) * longest
    terms = means.shape[1] + 16
    error = _ROUNDING * terms / (1 - _ROUNDING * terms) * (2 * size + np.abs(base)) + 1e-30
    return np.nextafter((base + error).astype(np.float32), np.float32(np.inf))


def collect_flat(weights: Any, plan: Any, start: int, stop: int, width: int, survivors: Survivors) -> None:
    """Offer the scores of items ``start:stop`` and codes of one book."""
    vectors = plan.vectors
    means, base = np.zeros((stop - start, vectors.shape[1]), np.float32), np.empty(stop - start, np.float32)
    item_means(start, weights, width, means, base)
    slack = slack_of(means, base, plan.longest)
    for low in range(0, len(vectors), PRODUCT_CODES):
        part = vectors[low : low + PRODUCT_CODES].T
        for first in range(0, stop - start, PRODUCT_ITEMS):
            rough = means[first : first + PRODUCT_ITEMS] @ part
            state = survivors.reserve(rough.size)
            sieve(rough, slack[first:], vectors, means[first:], base[first:], start + first, low, state)
