"""Nearest codewords of a large book without looking at all of every codeword.

Turned into its principal axes, a book has most of its length in a few coordinates. With x and c so turned, L the
leading coordinates and T the rest, Cauchy-Schwarz bounds the half distance d(c) = |c|^2 / 2 - x.c from below:

    d(c) >= |c|^2 / 2 - x_L.c_L - |x_T| |c_T|

The bound costs len(L) / width of the work. Codewords whose bound is above the P-th best known distance cannot be
among the P nearest; the few others are measured exactly, so the answer is that of the full search.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparcode.index.encoder_math import add_product, dot, kernel

LEAST_WORDS = 2048
"""Fewer codewords stay in the second cache, and a full search is as quick."""
LEAST_WIDTH = 32
ENERGY = 0.85
"""Share of the codewords' squared length that the leading coordinates hold, about; a multiple of 8 of them."""

_ZERO = np.float32(0.0)
_SLACK = np.float32(1e-5)
LANES = 16


class Screen(NamedTuple):
    """What ``screened`` needs, float32, all of no books where screening does not pay.

    ``turns`` (M, width, width): coordinates of the book -> principal axes. ``leading`` (M, L, N), ``rests`` (M, N):
    leading coordinates and length of the rest of every codeword. ``rows`` (M, N, width): the codewords. ``longest``
    (M,): the largest |c|^2.
    """

    turns: np.ndarray
    leading: np.ndarray
    rests: np.ndarray
    rows: np.ndarray
    longest: np.ndarray


def prepare_screen(codebooks: np.ndarray) -> Screen:
    """Return the screen of ``codebooks`` (M, N, width)."""
    count, words, width = codebooks.shape
    if words < LEAST_WORDS or width < LEAST_WIDTH:
        return Screen(*(np.zeros((0, *shape), np.float32) for shape in ((0, 0), (0, 0), (0,), (0, 0), ())))
    books = codebooks.astype(np.float64)
    # The eigenvectors of c c^T, the longest axis first.
    turns = np.stack([np.linalg.eigh(book.T @ book)[1][:, ::-1] for book in books])
    turned = books @ turns
    size = _leading(turned)
    leading = np.ascontiguousarray(turned[:, :, :size].transpose(0, 2, 1))
    rests = np.sqrt(np.square(turned[:, :, size:]).sum(axis=2))
    longest = np.square(books).sum(axis=2).max(axis=1)
    return Screen(*(np.ascontiguousarray(part, np.float32) for part in (turns, leading, rests, codebooks, longest)))


def _leading(turned: np.ndarray) -> int:
    held = np.cumsum(np.square(turned).sum(axis=(0, 1)))
    enough = 1 + int(np.searchsorted(held, ENERGY * held[-1]))
    return min(-(-enough // 8), turned.shape[2] // 8) * 8


@kernel
def screened(x, turn, leading, rests, rows, longest, norms, values, turned, lanes, places, indices, kept):
    """Put the ``len(kept)`` smallest half distances of ``x`` into ``kept`` ascending, ties by smaller index.

    ``indices``: the codewords they belong to. ``values`` (N,), ``turned`` (width,), ``lanes`` and ``places`` (LANES,)
    are scratch. Returns how many there are: all, when the book has as many codewords.
    """
    bounds(x, turn, leading, rests, norms, values, turned)
    lane_minima(values, lanes, places)
    # What rounding can add to a bound: a share of |x|^2 + max |c|^2, which |x||c| cannot exceed.
    slack = _SLACK * (dot(x, x) + longest)
    filled = 0
    for lane in range(LANES):
        filled = insert(norms[places[lane]] - dot(x, rows[places[lane]]), places[lane], indices, kept, filled)
    limit = kept[kept.shape[0] - 1] + slack if filled == kept.shape[0] else np.float32(np.inf)
    filled = 0
    for start in range(0, values.shape[0], LANES):
        stop = min(start + LANES, values.shape[0])
        near: Any = np.int32(0)
        for c in range(start, stop):
            near += np.int32(values[c] <= limit)
        if near == 0:
            continue
        for c in range(start, stop):
            if values[c] <= limit:
                filled = insert(norms[c] - dot(x, rows[c]), c, indices, kept, filled)
        if filled == kept.shape[0]:
            limit = min(limit, kept[filled - 1] + slack)
    return filled


@kernel
def bounds(x, turn, leading, rests, norms, values, turned):
    """Set ``values[c]`` to the lower bound of every codeword, see the head of the file."""
    size = leading.shape[0]
    turned[:] = _ZERO
    add_product(x, turn, turned)
    rest = np.sqrt(max(dot(turned[size:], turned[size:]), _ZERO))
    for c in range(values.shape[0]):
        values[c] = norms[c] - rest * rests[c]
    for i in range(0, size, 4):
        a, b, c, d = turned[i], turned[i + 1], turned[i + 2], turned[i + 3]
        for j in range(values.shape[0]):
            # One product a statement, see ``encoder_math.add_product``.
            total = values[j] - a * leading[i, j]
            total -= b * leading[i + 1, j]
            total -= c * leading[i + 2, j]
            values[j] = total - d * leading[i + 3, j]


@kernel
def lane_minima(values, lanes, places):
    """Set ``places`` to the index of the smallest of every sixteenth value, which vectorises; N >= LANES."""
    for lane in range(LANES):
        lanes[lane] = values[lane]
        places[lane] = lane
    for start in range(LANES, values.shape[0] - LANES + 1, LANES):
        part = values[start : start + LANES]
        for lane in range(LANES):
            better = part[lane] < lanes[lane]
            lanes[lane] = part[lane] if better else lanes[lane]
            places[lane] = np.int32(start + lane) if better else places[lane]


@kernel
def insert(value, index, indices, kept, filled):
    """Insert a value into the ascending list ``kept`` if it is small enough; return the list's length."""
    size = kept.shape[0]
    if filled == size and not value < kept[size - 1]:
        return filled
    place = filled if filled < size else size - 1
    while place > 0 and kept[place - 1] > value:
        kept[place] = kept[place - 1]
        indices[place] = indices[place - 1]
        place -= 1
    kept[place] = value
    indices[place] = index
    return min(filled + 1, size)
