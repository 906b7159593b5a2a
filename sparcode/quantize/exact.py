"""Nearest codewords whose choice does not depend on the batch: BLAS screens, a fixed order of summing decides.

How BLAS rounds a product depends on shapes, threads and machine. So its half distances |c|^2 / 2 - x.c only screen:
any order of summing d products errs by at most gamma_d |x| |c|, gamma_d = d u / (1 - d u), u = 2^-24 (Higham, Accuracy
and Stability of Numerical Algorithms, section 3.1). Codewords within twice that error of the best are measured again
in float64, in one order; the least wins, ties to the smaller number. Few rows have more than one such codeword.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.jit import exact, reordered_without_nan

PRODUCT_VALUES = 1 << 18
"""Values of one matrix product: they stay in the second-level cache until they are scanned."""
TILE_WORDS = 1024
KEPT = 16
"""Codewords that are kept for a second look; of a row with more all are measured."""
HUGE = 1e30
"""Where twice the error may be so large the values may overflow float32: every codeword is measured in float64."""
quiet: Any = np.errstate(over="ignore", invalid="ignore")

_ROUNDING = 2.0**-24
LARGEST = np.int32(0x7FFFFFFF)
_SIGN_PLACE = np.int32(31)


def gamma(terms: int) -> float:
    """Return the relative error bound of a float32 sum of ``terms`` products in any order."""
    return _ROUNDING * terms / (1 - _ROUNDING * terms)


@exact
def squared_gap(x, c):
    """Return |x - c|^2 in float64, eight running sums over the coordinates, folded in a fixed order."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = c.shape[0] - c.shape[0] % 8
    for e in range(0, whole, 8):
        g0, g1 = np.float64(x[e]) - np.float64(c[e]), np.float64(x[e + 1]) - np.float64(c[e + 1])
        g2, g3 = np.float64(x[e + 2]) - np.float64(c[e + 2]), np.float64(x[e + 3]) - np.float64(c[e + 3])
        g4, g5 = np.float64(x[e + 4]) - np.float64(c[e + 4]), np.float64(x[e + 5]) - np.float64(c[e + 5])
        g6, g7 = np.float64(x[e + 6]) - np.float64(c[e + 6]), np.float64(x[e + 7]) - np.float64(c[e + 7])
        s0, s1, s2, s3 = s0 + g0 * g0, s1 + g1 * g1, s2 + g2 * g2, s3 + g3 * g3
        s4, s5, s6, s7 = s4 + g4 * g4, s5 + g5 * g5, s6 + g6 * g6, s7 + g7 * g7
    for e in range(whole, c.shape[0]):
        gap = np.float64(x[e]) - np.float64(c[e])
        s0 += gap * gap
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@exact
def length_of(x):
    """Return |x| in float64."""
    s0 = s1 = s2 = s3 = 0.0
    whole = x.shape[0] - x.shape[0] % 4
    for e in range(0, whole, 4):
        x0, x1, x2, x3 = np.float64(x[e]), np.float64(x[e + 1]), np.float64(x[e + 2]), np.float64(x[e + 3])
        s0, s1, s2, s3 = s0 + x0 * x0, s1 + x1 * x1, s2 + x2 * x2, s3 + x3 * x3
    for e in range(whole, x.shape[0]):
        s0 += np.float64(x[e]) * np.float64(x[e])
    return np.sqrt((s0 + s2) + (s1 + s3))


@exact
def least_of(row):
    """Return the least number of ``row``, which holds no NaN: as integers in the same order, that vectorises."""
    least = LARGEST
    bits = row.view(np.int32)
    for k in range(bits.shape[0]):
        ordered = np.int32(bits[k] ^ (np.int32(bits[k] >> _SIGN_PLACE) & LARGEST))
        least = ordered if ordered < least else least
    return np.int32(least ^ (np.int32(least >> _SIGN_PLACE) & LARGEST)).view(np.float32)


@exact
def to_half_distances(row, halves):
    """Replace the products x.c in ``row`` (N,) by |c|^2 / 2 - x.c and return the least, see ``least_of``."""
    least = LARGEST
    for k in range(row.shape[0]):
        value = halves[k] - row[k]
        row[k] = value
        bits = np.float32(value).view(np.int32)
        ordered = np.int32(bits ^ (np.int32(bits >> _SIGN_PLACE) & LARGEST))
        least = ordered if ordered < least else least
    return np.int32(least ^ (np.int32(least >> _SIGN_PLACE) & LARGEST)).view(np.float32)


# Whole numbers: any order gives the same sum.
@reordered_without_nan
def count_upto(row, bar):
    """Return how many numbers of ``row`` are at most ``bar``, and the sum of their places."""
    count, places = np.int32(0), np.int32(0)
    for k in range(row.shape[0]):
        found = np.int32(row[k] <= bar)
        count += found
        places += found * np.int32(k)
    return count, places


@exact
def keep(value, word, bar, values, words, count):
    """Note ``word``; return the new count: KEPT + 1 when there are more than KEPT up to ``bar``."""
    if count == KEPT:
        count = 0
        for i in range(KEPT):
            if values[i] <= bar:
                values[count], words[count] = values[i], words[i]
                count += 1
    if count >= KEPT:
        return KEPT + 1
    values[count], words[count] = value, word
    return count + 1


@exact
def sieve(rough, halves, slack, first, best, values, words, counts):
    """Note the codewords ``first ..`` of a tile that may be the nearest; ``rough`` (R, T) holds x.c and is overwritten.

    State of the rows: ``best`` (R,) least half distance, ``values``, ``words`` (R, KEPT), ``counts`` (R,).
    """
    for r in range(rough.shape[0]):
        if not slack[r] < HUGE:
            counts[r] = KEPT + 1
            continue
        row = rough[r]
        least = to_half_distances(row, halves)
        if least > best[r] + slack[r]:
            continue
        best[r] = min(best[r], least)
        bar = best[r] + slack[r]
        count, places = count_upto(row, bar)
        if count == 1:
            counts[r] = keep(row[places], first + places, bar, values[r], words[r], counts[r])
        else:
            for k in range(row.shape[0]):
                if row[k] <= bar and counts[r] <= KEPT:
                    counts[r] = keep(row[k], first + k, bar, values[r], words[r], counts[r])


@exact
def nearest_of_all(x, book):
    """Return the codeword of ``book`` (N, d) that is nearest to ``x`` and its squared distance (float64)."""
    chosen, least = 0, squared_gap(x, book[0])
    for k in range(1, book.shape[0]):
        gap = squared_gap(x, book[k])
        if gap < least:
            chosen, least = k, gap
    return chosen, least


@exact
def nearest_upto(x, book, values, bar):
    """As ``nearest_of_all`` among the codewords whose ``values`` (N,) are at most ``bar``."""
    chosen, least = -1, np.inf
    for k in range(book.shape[0]):
        if values[k] <= bar:
            gap = squared_gap(x, book[k])
            if chosen < 0 or gap < least:
                chosen, least = k, gap
    return chosen, least


@exact
def pick(rows, rough, halves, book, slack, measure, assignment, distances):
    """Write the nearest codeword of every row (R, d), and its squared distance when ``measure``.

    ``rough`` (R, N): the products x.c with all codewords; they are overwritten.
    """
    for r in range(rows.shape[0]):
        gap = -1.0
        if slack[r] < HUGE:
            bar = to_half_distances(rough[r], halves) + slack[r]
            count, chosen = count_upto(rough[r], bar)
            if count > 1:
                chosen, gap = nearest_upto(rows[r], book, rough[r], bar)
        else:
            chosen, gap = nearest_of_all(rows[r], book)
        assignment[r] = chosen
        if measure:
            distances[r] = gap if gap >= 0.0 else squared_gap(rows[r], book[chosen])


@exact
def nearest_of_some(x, book, words, values, bar):
    """As ``nearest_of_all`` among ``words`` (ascending) with values up to ``bar``; distance -1 when it is one."""
    chosen, least, seen = -1, -1.0, 0
    for i in range(words.shape[0]):
        if values[i] > bar:
            continue
        seen += 1
        if seen == 1:
            chosen = words[i]
            continue
        if seen == 2:
            least = squared_gap(x, book[chosen])
        gap = squared_gap(x, book[words[i]])
        if gap < least:
            chosen, least = words[i], gap
    return chosen, least


@exact
def settle(rows, book, slack, best, values, words, counts, measure, assignment, distances):
    """Write the nearest codeword of every row (R, d), and its squared distance when ``measure``."""
    for r in range(rows.shape[0]):
        if counts[r] > KEPT:
            chosen, gap = nearest_of_all(rows[r], book)
        elif counts[r] == 1:
            chosen, gap = words[r, 0], -1.0
        else:
            count = counts[r]
            chosen, gap = nearest_of_some(rows[r], book, words[r, :count], values[r, :count], best[r] + slack[r])
        assignment[r] = chosen
        if measure:
            distances[r] = gap if gap >= 0.0 else squared_gap(rows[r], book[chosen])


@exact
def slacks(rows, by_length, fixed, out):
    """Fill ``out`` (R,) f32 with by_length |x| + fixed, a little above rather than below."""
    for r in range(rows.shape[0]):
        out[r] = np.float32((by_length * length_of(rows[r]) + fixed) * 1.000001 + 1e-30)


@exact
def all_gaps(rows, book, out):
    """Fill ``out`` (R, N) with the squared distance of every row to every codeword, as ``squared_gap`` gives it."""
    for r in range(rows.shape[0]):
        for k in range(book.shape[0]):
            out[r, k] = squared_gap(rows[r], book[k])


@quiet
def half_norms(book: np.ndarray) -> np.ndarray:
    """Return |c|^2 / 2 (N,) float32 of every codeword."""
    return (0.5 * np.square(book, dtype=np.float64).sum(axis=1)).astype(np.float32)


def longest(book: np.ndarray) -> float:
    """Return the length of the longest codeword."""
    return float(np.sqrt(np.square(book, dtype=np.float64).sum(axis=1).max()))


@quiet
def nearest(vectors: np.ndarray, book: np.ndarray, assignment: np.ndarray, distances: np.ndarray | None = None) -> None:
    """Fill ``assignment`` (n,) with the nearest codeword of ``book`` (N, d) for ``vectors`` (n, d), both float32.

    ``distances`` (n,) takes the squared distances. A row's result depends on that row alone.
    """
    book = np.ascontiguousarray(book, np.float32)
    halves, size = half_norms(book), longest(book)
    error = 2 * gamma(book.shape[1] + 8)
    tile = min(len(book), TILE_WORDS)
    step = max(PRODUCT_VALUES // tile, 64)
    measure = distances is not None
    measured = np.empty(0, np.float32) if distances is None else distances
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        rows = np.ascontiguousarray(vectors[part], np.float32)
        slack = np.empty(len(rows), np.float32)
        slacks(rows, error * size, error * size * size, slack)
        if tile == len(book):
            pick(rows, rows @ book.T, halves, book, slack, measure, assignment[part], measured[part])
            continue
        state = _state(len(rows))
        for low in range(0, len(book), tile):
            words = slice(low, low + tile)
            sieve(rows @ book[words].T, halves[words], slack, low, *state)
        settle(rows, book, slack, *state, measure, assignment[part], measured[part])


def _state(rows: int) -> tuple[np.ndarray, ...]:
    best, counts = np.full(rows, np.inf, np.float32), np.zeros(rows, np.int32)
    return best, np.empty((rows, KEPT), np.float32), np.empty((rows, KEPT), np.int32), counts
