"""Greedy and beam search over residual codebooks, the same codes whatever the batch.

A code k_1 .. k_l errs by |x - c_1 - .. - c_l|^2. A beam of B keeps the B best codes of every length, of equal ones the
smaller in dictionary order; B = 1 is the greedy search. Half of the error, less |x|^2 / 2, is a sum,

    sum_l (|c_l|^2 / 2 - x.c_l) + sum_{p < l} c_p.c_l

whose first products are one matrix product a block of rows and a book, however wide the beam, and whose others are read
from the table of all products between codewords. With too many codewords for a table the products are taken with the
residuals instead. As in ``exact`` these float32 numbers only screen: what rounding could confuse is measured again in
float64, the residual first, then its squared distance.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparcode.jit import exact
from sparcode.quantize.exact import (
    HUGE,
    LARGEST,
    count_upto,
    gamma,
    half_norms,
    least_of,
    length_of,
    longest,
    quiet,
    squared_gap,
)

TABLE_WORDS = 4096
"""Up to so many codewords the table of their products is made: 64 MiB."""
BLOCK_VALUES = 1 << 18
COLUMN = 16
MANY = 16
INFINITE = np.float32(np.inf)


class Stack(NamedTuple):
    """Residual codebooks made ready for searching; W codewords in all, ``starts`` (L + 1,) int64 parts them.

    ``words`` (W, d), ``halves`` (W,) = |c|^2 / 2, ``products`` (W, W) f32 or (0, 0), ``slopes`` and ``offsets`` (2, L):
    twice the error of a screened value is at most slope |x| + offset; row 0 when all codes share their prefix.
    """

    words: np.ndarray
    halves: np.ndarray
    products: np.ndarray
    starts: np.ndarray
    slopes: np.ndarray
    offsets: np.ndarray


@quiet
def stack_of(books: Sequence[np.ndarray]) -> Stack:
    """Return the stack of books (N_l, d) float32."""
    words = np.ascontiguousarray(np.concatenate(books), np.float32)
    starts = np.concatenate([[0], np.cumsum([len(book) for book in books])]).astype(np.int64)
    wide = words.astype(np.float64)
    products = (wide @ wide.T).astype(np.float32) if len(words) <= TABLE_WORDS else np.zeros((0, 0), np.float32)
    return Stack(words, half_norms(words), products, starts, *_error_bounds(books))


def _error_bounds(books: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.array([longest(book) for book in books])
    sums = np.cumsum(sizes)
    # Beside the d products there are the roundings of norms, tables, residuals and of the sums of all levels.
    error = 2 * gamma(books[0].shape[1] + 4 * len(books) + 16)
    # With residuals |x| + sum |c| takes the place of |x|.
    slopes = error * np.stack([sizes, sums])
    offsets = error * np.stack([sizes * sums, sums * sums])
    return slopes, offsets


@quiet
def search(vectors: np.ndarray, stack: Stack, beam: int, codes: np.ndarray) -> None:
    """Fill ``codes`` (n, L) int32 with the best code of every row of ``vectors`` (n, d) that a beam finds."""
    sizes = np.diff(stack.starts)
    step = max(BLOCK_VALUES // int(sizes.max()) // (1 if len(stack.products) else beam), 16)
    for start in range(0, len(vectors), step):
        rows = np.ascontiguousarray(vectors[start : start + step], np.float32)
        codes[start : start + step] = _search_block(rows, stack, beam, sizes)


def _search_block(rows: np.ndarray, stack: Stack, beam: int, sizes: np.ndarray) -> np.ndarray:
    levels, many = len(sizes), len(rows)
    lengths = np.empty(many)
    fill_lengths(rows, lengths)
    beams, known = np.zeros((many, 1, levels), np.int32), np.zeros((many, 1), np.float32)
    for level, size in enumerate(sizes):
        live = beams.shape[1]
        kept = 1 if level == levels - 1 else min(beam, live * int(size))
        words = stack.words[stack.starts[level] : stack.starts[level + 1]]
        if len(stack.products) or level == 0:
            products = rows @ words.T
        else:
            rests = np.empty((many * live, rows.shape[1]), np.float32)
            residuals(rows, beams, stack.words, stack.starts, level, rests)
            products = rests @ words.T
        next_beams, next_known = np.empty((many, kept, levels), np.int32), np.empty((many, kept), np.float32)
        extend(rows, lengths, products, stack, level, beams, known, next_beams, next_known)
        beams, known = next_beams, next_known
    return beams[:, 0]


@exact
def fill_lengths(rows, out):
    """Fill ``out`` (R,) with |x|."""
    for r in range(rows.shape[0]):
        out[r] = length_of(rows[r])


@exact
def residuals(rows, beams, words, starts, level, out):
    """Fill ``out`` (R B, d) with every row less the first ``level`` codewords of each of its codes, in float32."""
    live = beams.shape[1]
    for r in range(rows.shape[0]):
        for b in range(live):
            rest = out[r * live + b]
            rest[:] = rows[r]
            for p in range(level):
                word = words[starts[p] + beams[r, b, p]]
                for e in range(rest.shape[0]):
                    rest[e] -= word[e]


@exact
def fill_values(products, halves, table, starts, level, code, known, out):
    """Fill ``out`` (N,) with the screened values of one code extended by every codeword of ``level``."""
    first, stop = starts[level], starts[level + 1]
    half = halves[first:stop]
    if table.shape[0] == 0 or level == 0:
        for k in range(out.shape[0]):
            out[k] = known + (half[k] - products[k])
        return
    row = table[starts[0] + code[0], first:stop]
    for k in range(out.shape[0]):
        out[k] = known + (half[k] - products[k]) + row[k]
    for p in range(1, level):
        row = table[starts[p] + code[p], first:stop]
        for k in range(out.shape[0]):
            out[k] += row[k]


@exact
def ordered(bits):
    """Return an integer in the order of the floats for the bits of one, and for that integer the bits again."""
    return np.int32(bits ^ (np.int32(bits >> np.int32(31)) & LARGEST))


@exact
def as_float(value):
    """Return the float32 of an ordered integer."""
    return np.int32(ordered(value)).view(np.float32)


@exact
def fill_minima(values, minima):
    """Fill ``minima`` (m,) int32 with the least of the values at places j, j + m, j + 2 m .. as ordered integers."""
    columns = minima.shape[0]
    bits = values.view(np.int32)
    minima[:] = LARGEST
    for low in range(0, bits.shape[0], columns):
        row = bits[low : low + columns]
        for j in range(row.shape[0]):
            value = ordered(row[j])
            minima[j] = value if value < minima[j] else minima[j]


@exact
def sort_few(places):
    """Sort a few integers in place."""
    for i in range(1, places.shape[0]):
        place, value = i, places[i]
        while place > 0 and places[place - 1] > value:
            places[place] = places[place - 1]
            place -= 1
        places[place] = value


@exact
def climb(value, ladder):
    """Put ``value`` into the ascending ``ladder`` of the least numbers seen if it is below the last."""
    place = ladder.shape[0] - 1
    if value < ladder[place]:
        while place > 0 and ladder[place - 1] > value:
            ladder[place] = ladder[place - 1]
            place -= 1
        ladder[place] = value


@exact
def next_minimum(minima, above):
    """Return the least of ``minima`` that exceeds ``above``, LARGEST if there is none."""
    least = LARGEST
    for j in range(minima.shape[0]):
        value = minima[j] if minima[j] > above else LARGEST
        least = value if value < least else least
    return least


@exact
def bound_of(minima, ladder):
    """Return a number that at least k values do not exceed, k = len(ladder) <= columns: the k-th least minimum or more.

    Of few the k-th distinct one, in passes that vectorise; of many the k-th by insertion.
    """
    last = ladder.shape[0] - 1
    if last < MANY:
        least = np.int32(-LARGEST - 1)
        for _ in range(last + 1):
            least = next_minimum(minima, least)
        return INFINITE if least == LARGEST else as_float(least)
    ladder[:] = INFINITE
    for j in range(minima.shape[0]):
        climb(as_float(minima[j]), ladder)
    return ladder[last]


@exact
def list_upto(values, minima, bar, found):
    """Write the places of values up to ``bar`` into ``found``, column by column; return their number."""
    count = 0
    for j in range(minima.shape[0]):
        if as_float(minima[j]) <= bar:
            for i in range(j, values.shape[0], minima.shape[0]):
                if values[i] <= bar:
                    found[count] = i
                    count += 1
    return count


@exact
def contenders(values, slack, minima, ladder, found):
    """Write the places of the values that may be among the k least, k = len(ladder), ascending; return their number."""
    if ladder.shape[0] == 1:
        count, found[0] = count_upto(values, least_of(values) + slack)
        if count == 1:
            return 1
    fill_minima(values, minima)
    count = list_upto(values, minima, bound_of(minima, ladder) + slack, found)
    ladder[:] = INFINITE
    for i in range(count):
        climb(values[found[i]], ladder)
    bar = ladder[ladder.shape[0] - 1] + slack
    left = 0
    for i in range(count):
        if values[found[i]] <= bar:
            found[left] = found[i]
            left += 1
    sort_few(found[:left])
    return left


@exact
def measured(x, words, starts, level, code, word, rest):
    """Return |x - codewords of ``code`` before ``level`` - ``word``|^2 in float64; ``rest`` (d,) float64 is scratch."""
    for e in range(x.shape[0]):
        rest[e] = np.float64(x[e])
    for p in range(level):
        taken = words[starts[p] + code[p]]
        for e in range(x.shape[0]):
            rest[e] -= np.float64(taken[e])
    return squared_gap(rest, words[starts[level] + word])


@exact
def choose(found, count, keep, gaps):
    """Move the ``keep`` places of least gap (ties: smaller place) to the front of ``found``, ascending places."""
    for slot in range(keep):
        best = slot
        for i in range(slot + 1, count):
            if gaps[i] < gaps[best] or (gaps[i] == gaps[best] and found[i] < found[best]):
                best = i
        found[slot], found[best] = found[best], found[slot]
        gaps[slot], gaps[best] = gaps[best], gaps[slot]
    sort_few(found[:keep])


@exact
def extend(rows, lengths, products, stack, level, beams, known, next_beams, next_known):
    """Extend the codes of every row (R, B, L) by one codeword and keep the best: next_beams (R, B', L).

    ``products`` (R, N) of rows or (R B, N) of residuals with the codewords. Codes of a row are in dictionary order,
    before and after, so the smaller place is the smaller code. ``known`` (R, B), ``next_known`` (R, B'): their values.
    """
    words, starts, table = stack.words, stack.starts, stack.products
    live, keep = beams.shape[1], next_beams.shape[1]
    size = starts[level + 1] - starts[level]
    values, found, gaps = np.empty(live * size, np.float32), np.empty(live * size, np.int32), np.empty(live * size)
    minima = np.empty(max(live * size // COLUMN, min(live * size, 64)), np.int32)
    ladder, rest = np.empty(keep, np.float32), np.empty(rows.shape[1])
    shared = 0 if live == 1 else 1
    slope, offset = stack.slopes[shared, level], stack.offsets[shared, level]
    each = 0 if table.shape[0] or level == 0 else 1
    for r in range(rows.shape[0]):
        slack = np.float32((slope * lengths[r] + offset) * 1.000001 + 1e-30)
        count = live * size
        if slack < HUGE:
            for b in range(live):
                row = products[r * live + b] if each else products[r]
                fill_values(row, stack.halves, table, starts, level, beams[r, b], known[r, b],
                            values[b * size : (b + 1) * size])  # fmt: skip
            count = contenders(values, slack, minima, ladder, found)
        else:
            for i in range(count):
                found[i] = i
        if count > keep:
            for i in range(count):
                b = found[i] // size
                gaps[i] = measured(rows[r], words, starts, level, beams[r, b], found[i] - b * size, rest)
            choose(found, count, keep, gaps)
        for slot in range(keep):
            b = found[slot] // size
            next_beams[r, slot] = beams[r, b]
            next_beams[r, slot, level] = found[slot] - b * size
            next_known[r, slot] = values[found[slot]] if keep > 1 else np.float32(0.0)


@exact
def last_gaps(rows, codes, words, starts, out):
    """Fill ``out`` (R, N_L) with the squared error of every last digit after the first L - 1 digits of ``codes``."""
    last = codes.shape[1] - 1
    rest = np.empty(rows.shape[1])
    for r in range(rows.shape[0]):
        for k in range(out.shape[1]):
            if k == 0:
                for e in range(rows.shape[1]):
                    rest[e] = np.float64(rows[r, e])
                for p in range(last):
                    word = words[starts[p] + codes[r, p]]
                    for e in range(rows.shape[1]):
                        rest[e] -= np.float64(word[e])
            out[r, k] = squared_gap(rest, words[starts[last] + k])
