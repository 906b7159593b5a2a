"""Nearest codewords of a large book without looking at all of every codeword.

Turned into its principal axes, a book has most of its length in a few coordinates. With x and c so turned, L the
leading coordinates and T the rest, Cauchy-Schwarz bounds the half distance d(c) = |c|^2 / 2 - x.c from below:

    d(c) >= |c|^2 / 2 - x_L.c_L - |x_T| |c_T|

The bound costs len(L) / width of the work. Codewords whose bound is above the P-th best known distance cannot be
among the P nearest; the few others are measured as the full search does, to the last bit, so the answer is the same.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.jit import contracted
from sparcode.jit.tiles import LANES, tile_distances
from sparcode.query.encoder.math import add_products, dot

LEAST_WORDS = 2048
"""Fewer codewords stay in the second cache, and a full search is as quick."""
LEAST_WIDTH = 32
ENERGY = 0.85
"""Share of the codewords' squared length that the leading coordinates hold, about; a multiple of 8 of them."""

_ZERO = np.float32(0.0)
_SLACK = np.float32(2e-7)
TOGETHER = 8
"""Codewords measured at once: sums in the order of the full search are slow one by one, each addition waits."""


class Screen(NamedTuple):
    """What ``screened`` needs, float32, all None where screening does not pay.

    ``turns`` (M, width, width): coordinates of the book -> principal axes. ``leading`` (M, L, N), ``rests`` (M, N):
    leading coordinates and length of the rest of every codeword. ``rows`` (M, N, width): the codewords. ``longest``
    (M,): the largest |c|^2.
    """

    turns: np.ndarray | None
    leading: np.ndarray | None
    rests: np.ndarray | None
    rows: np.ndarray | None
    longest: np.ndarray | None


def prepare_screen(codebooks: np.ndarray) -> Screen:
    """Return the screen of ``codebooks`` (M, N, width)."""
    count, words, width = codebooks.shape
    if words < LEAST_WORDS or width < LEAST_WIDTH:
        return Screen(None, None, None, None, None)
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


@contracted
def screened(x, turn, leading, rests, rows, longest, norms, values, turned, least, places, indices, kept):
    """Put the P smallest half distances of every row of ``x`` (R, width) into ``kept`` (R, P) ascending.

    ``indices`` (R, P): the codewords they belong to, the smaller first where distances are equal; P <= N. Scratch:
    ``values`` (R, N), ``turned`` (R, width), ``least`` and ``places`` (R, 16).
    """
    many = x.shape[0]
    bounds(x, turn, leading, rests, norms, values[:many], turned[:many], least, places)
    for r in range(many):
        # What rounding can add to bound and distance: a share of |x|^2 + max |c|^2, which |x||c| cannot exceed.
        slack = _SLACK * np.float32(x.shape[1]) * (dot(x[r], x[r]) + longest)
        select(x[r], rows, norms, values[r], slack, places[r], indices[r], kept[r])


@contracted
def select(x, rows, norms, values, slack, places, indices, kept):
    """Measure the codewords whose bound is near enough; ``values`` (N,) bounds, ``places`` where small ones stand."""
    size = kept.shape[0]
    filled = np.int64(0)
    for start in range(0, LANES, TOGETHER):
        filled = measure(x, rows, norms, places[start:], np.int64(TOGETHER), indices, kept, filled)
    limit = kept[size - 1] + slack if filled == size else np.float32(np.inf)
    filled, waiting = np.int64(0), np.int64(0)
    for start in range(0, values.shape[0], LANES):
        stop = min(start + LANES, values.shape[0])
        if stop - start == LANES and not any_near(values[start:stop], limit):
            continue
        for c in range(start, stop):
            if values[c] <= limit:
                places[waiting] = c
                waiting += 1
                if waiting == TOGETHER:
                    filled = measure(x, rows, norms, places, waiting, indices, kept, filled)
                    waiting = np.int64(0)
                    limit = min(limit, kept[size - 1] + slack) if filled == size else limit
    return measure(x, rows, norms, places, waiting, indices, kept, filled)


@contracted
def measure(x, rows, norms, places, count, indices, kept, filled):
    """Insert the half distances of the codewords ``places[:count]``, at most TOGETHER; return the list's length."""
    for spare in range(count, TOGETHER):
        places[spare] = places[0] if count > 0 else 0
    a, b, c, d = rows[places[0]], rows[places[1]], rows[places[2]], rows[places[3]]
    e, f, g, h = rows[places[4]], rows[places[5]], rows[places[6]], rows[places[7]]
    s, t, u, v = norms[places[0]], norms[places[1]], norms[places[2]], norms[places[3]]
    w, y, z, o = norms[places[4]], norms[places[5]], norms[places[6]], norms[places[7]]
    for i in range(x.shape[0]):
        p = x[i]
        s -= p * a[i]
        t -= p * b[i]
        u -= p * c[i]
        v -= p * d[i]
        w -= p * e[i]
        y -= p * f[i]
        z -= p * g[i]
        o -= p * h[i]
    found = (s, t, u, v, w, y, z, o)
    for k in range(count):
        filled = insert(found[k], np.int64(places[k]), indices, kept, filled)
    return filled


@contracted
def bounds(x, turn, leading, rests, norms, values, turned, least, places):
    """Set ``values[r, c]`` to the lower bound of row r of ``x`` and codeword c, see the head of the file.

    ``least`` and ``places`` as in ``tile_distances``.
    """
    size, whole = leading.shape[0], leading.shape[1] // LANES * LANES
    rest = np.empty(x.shape[0], np.float32)
    turned[:] = _ZERO
    add_products(x, turn, turned)
    for r in range(x.shape[0]):
        rest[r] = np.sqrt(max(dot(turned[r, size:], turned[r, size:]), _ZERO))
    start = 0
    for many in (4, 2, 1):
        while start + many <= x.shape[0]:
            stop = start + many
            tile_distances(
                turned[start:stop, :size], leading, norms, rest[start:stop], rests, values[start:stop],
                least[start:stop], places[start:stop],
            )  # fmt: skip
            start = stop
    for r in range(x.shape[0]):
        for c in range(whole, leading.shape[1]):
            total = norms[c] - rest[r] * rests[c]
            for i in range(size):
                total -= turned[r, i] * leading[i, c]
            values[r, c] = total


@contracted
def any_near(part, limit):
    """Tell whether any of 16 values is not above ``limit``."""
    near = np.int32(0)
    for lane in range(LANES):
        near |= np.int32(part[lane] <= limit)
    return near != 0


@contracted
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
