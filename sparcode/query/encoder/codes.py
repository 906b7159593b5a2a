"""Nearest composite codes of tokens. Distances use |t - c|^2 / 2 - |t|^2 / 2 = |c|^2 / 2 - t.c.

Books with many codewords come with a screen (see ``encoder.screen``); where it does not pay, its arrays are None, and
nothing of it is compiled.
Tokens are taken four at a time, so that they share what is read of a book; every distance is rounded as if alone, in
the order of ``jit.tiles.tile_distances``, with and without a screen.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import numpy as np

from sparcode.jit import contracted
from sparcode.jit.tiles import LANES, ROWS, tile_distances
from sparcode.query.encoder.math import dot
from sparcode.query.encoder.screen import any_near, insert, screened

_ZERO = np.float32(0.0)
_TWO = np.float32(2.0)


def prepare_books(codebooks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return transposed books (M, width, N) and half squared norms (M, N) of ``codebooks`` (M, N, width)."""
    books = np.ascontiguousarray(codebooks.transpose(0, 2, 1), dtype=np.float32)
    norms = np.square(codebooks.astype(np.float64)).sum(2) / 2
    return books, norms.astype(np.float32)


@contracted
def half_distances(x, book, norms, values, least, words):
    """Set ``values[r, c] = norms[c] - x[r] . codeword c`` (R, N) for rows ``x`` (R, width), ``book`` (width, N).

    ``least`` and ``words`` (R, 16) as in ``tile_distances``.
    """
    start = 0
    for size in (4, 2, 1):
        while start + size <= x.shape[0]:
            stop = start + size
            tile_distances(
                x[start:stop], book, norms, None, None, values[start:stop], least[start:stop], words[start:stop]
            )
            start = stop
    for r in range(x.shape[0]):
        for c in range(book.shape[1] // LANES * LANES, book.shape[1]):
            values[r, c] = distance_to(x[r], book, norms, c)


@contracted
def distance_to(x, book, norms, c):
    """Return ``norms[c] - x . codeword c``, rounded as a tile rounds it."""
    total = norms[c]
    for i in range(book.shape[0]):
        total -= x[i] * book[i, c]
    return total


@contracted
def nearest_words(x, book, norms, least, words, indices, kept):
    """Set ``indices[r, 0]`` to the codeword nearest to row r, ties to the smaller, and ``kept[r, 0]`` to its distance.

    Scratch: ``least`` and ``words`` (R, 16) float32 and int32.
    """
    start = 0
    for size in (4, 2, 1):
        while start + size <= x.shape[0]:
            stop = start + size
            tile_distances(x[start:stop], book, norms, None, None, None, least[start:stop], words[start:stop])
            start = stop
    for r in range(x.shape[0]):
        best, word = least[r, 0], np.int64(words[r, 0])
        for lane in range(1, LANES):
            if least[r, lane] < best or (least[r, lane] == best and words[r, lane] < word):
                best, word = least[r, lane], np.int64(words[r, lane])
        for c in range(book.shape[1] // LANES * LANES, book.shape[1]):
            value = distance_to(x[r], book, norms, c)
            if value < best:
                best, word = value, np.int64(c)
        kept[r, 0], indices[r, 0] = best, word


@contracted
def _flat(tokens, codes, distances):
    # (B, K_u, ...) -> (B K_u, ...)
    batch, heads, width = tokens.shape
    probes, books = codes.shape[2:]
    rows = batch * heads
    return tokens.reshape(rows, width), codes.reshape(rows, probes, books), distances.reshape(rows, probes)


@contracted
def smallest(values, least, indices, kept):
    """Put the ``len(kept)`` smallest values into ``kept`` ascending, ties by smaller index, and where they stood.

    ``least`` (16,): the smallest of every sixteenth value.
    """
    size, filled = kept.shape[0], np.int64(0)
    for lane in range(LANES):
        filled = insert(least[lane], np.int64(lane), indices, kept, filled)
    # As many values are not above it, since the lanes have other values each.
    limit = kept[size - 1] if filled == size else np.float32(np.inf)
    filled = np.int64(0)
    whole = values.shape[0] // LANES * LANES
    for start in range(0, whole, LANES):
        if any_near(values[start : start + LANES], limit):
            for c in range(start, start + LANES):
                if values[c] <= limit:
                    filled = insert(values[c], c, indices, kept, filled)
            limit = min(limit, kept[size - 1]) if filled == size else limit
    for c in range(whole, values.shape[0]):
        filled = insert(values[c], c, indices, kept, filled)
    return filled


@contracted
def offer(value, row, word, prefixes, m, kept, rows, words, filled):
    """Insert (value, prefix row, codeword) into the ascending lists, ties by smaller code; return their length."""
    capacity = kept.shape[0]
    place = filled
    while place > 0:
        other = place - 1
        if kept[other] < value:
            break
        if kept[other] == value and not _precedes(prefixes, m, row, word, rows[other], words[other]):
            break
        if place < capacity:
            kept[place], rows[place], words[place] = kept[other], rows[other], words[other]
        place -= 1
    if place < capacity:
        kept[place], rows[place], words[place] = value, row, word
    return min(filled + 1, capacity)


@contracted
def _precedes(prefixes, m, row, word, other_row, other_word):
    # True when the composite code (prefix of `row`, word) is smaller than the other one.
    for i in range(m):
        if prefixes[row, i] != prefixes[other_row, i]:
            return prefixes[row, i] < prefixes[other_row, i]
    return word < other_word


@contracted
def extend(codes, prefixes, m, rows, words, filled):
    """Set the first ``filled`` codes to their prefixes of m codewords and the chosen codeword of book m."""
    copy_words(codes, m, prefixes)
    for a in range(filled):
        for i in range(m):
            codes[a, i] = prefixes[rows[a], i]
        codes[a, m] = words[a]


@contracted
def copy_words(codes, m, prefixes):
    """Set the first m codewords of all ``prefixes`` (P, M) to those of ``codes``."""
    # One by one: numba's assignment of a slice carries the text of its error message, a second of compiling.
    for a in range(codes.shape[0]):
        for i in range(m):
            prefixes[a, i] = codes[a, i]


@contracted
def product_codes(tokens, books, norms, turns, leading, rests, book_rows, longest, codes, distances):
    """Fill ``codes`` (B, K_u, P, M) and squared ``distances`` (B, K_u, P) with the P nearest codes of each token."""
    probes, book_count = codes.shape[2:]
    tokens, codes, distances = _flat(tokens, codes, distances)
    total, width, size = tokens.shape[0], books.shape[1], books.shape[2]
    rows = max(1, min(total, ROWS))
    values = np.empty((rows, size if probes > 1 or turns is not None else 0), np.float32)
    least = np.empty((rows, LANES), np.float32)
    words = np.empty((rows, LANES), np.int32)
    turned = np.empty((rows, width), np.float32)
    # Zeros: distances that are not numbers (damaged weights) choose nothing, and codes must still be of the book.
    indices = np.zeros((rows, min(probes, size)), np.int64)
    best = np.zeros((rows, min(probes, size)), np.float32)
    filled = np.empty(rows, np.int64)
    for start in range(0, total, rows):
        stop = min(start + rows, total)
        many = stop - start
        for t in range(start, stop):
            distances[t, 0] = dot(tokens[t], tokens[t])
        filled[:] = 1
        for m in range(book_count):
            part = tokens[start:stop, m * width : (m + 1) * width]
            if turns is not None:
                screened(
                    part, turns[m], leading[m], rests[m], book_rows[m], longest[m], norms[m], values, turned, least,
                    words, indices, best,
                )  # fmt: skip
            elif probes == 1:
                nearest_words(part, books[m], norms[m], least, words, indices, best)
            else:
                half_distances(part, books[m], norms[m], values, least, words)
                for r in range(many):
                    smallest(values[r], least[r], indices[r], best[r])
            if probes > 1:
                for r in range(many):
                    filled[r] = join(codes[start + r], distances[start + r], filled[r], m, indices[r], best[r])
                continue
            for r in range(many):
                codes[start + r, 0, m] = indices[r, 0]
                distances[start + r, 0] += _TWO * best[r, 0]
        for r in range(many):
            for a in range(filled[r]):
                distances[start + r, a] = max(distances[start + r, a], _ZERO)


@contracted
def join(codes, distances, count, m, indices, best):
    """Extend ``count`` codes (P, M) of m codewords and their distances (P,) by the best codewords of book m.

    The P best pairs of two ascending lists are among the first P of each. Returns how many codes there are then.
    """
    probes, book_count = codes.shape
    kept = np.empty(probes, np.float32)
    rows = np.empty(probes, np.int64)
    words = np.empty(probes, np.int64)
    prefixes = np.empty((probes, book_count), codes.dtype)
    copy_words(codes, m, prefixes)
    filled = np.int64(0)
    for a in range(count):
        for b in range(best.shape[0]):
            value = distances[a] + _TWO * best[b]
            if filled == probes and value > kept[probes - 1]:
                break  # the others of this row are no smaller; equal ones may still come first by their code
            filled = offer(value, a, indices[b], prefixes, m, kept, rows, words, filled)
    extend(codes, prefixes, m, rows, words, filled)
    for a in range(filled):
        distances[a] = kept[a]
    return filled


@contracted
def residual_codes(tokens, books, norms, turns, leading, rests, book_rows, longest, codes, distances):
    """Fill ``codes`` (B, K_u, P, M) and squared ``distances`` (B, K_u, P) by beam search; width 1 is greedy."""
    probes, book_count = codes.shape[2:]
    tokens, codes, distances = _flat(tokens, codes, distances)
    total, width, size = tokens.shape[0], books.shape[1], books.shape[2]
    values = np.empty((probes, size), np.float32)
    least = np.empty((probes, LANES), np.float32)
    lanes = np.empty((probes, LANES), np.int32)
    turned = np.empty((1, width), np.float32)
    kept = np.empty(probes, np.float32)
    rows = np.zeros(probes, np.int64)
    words = np.zeros(probes, np.int64)
    prefixes = np.empty((probes, book_count), codes.dtype)
    residuals = np.empty((probes, width), np.float32)
    parents = np.empty((probes, width), np.float32)
    for t in range(total):
        for i in range(width):
            residuals[0, i] = tokens[t, i]
        count = np.int64(1)
        for m in range(book_count):
            filled = np.int64(1)
            rows[0] = 0
            copy_words(codes[t], m, prefixes)
            if turns is not None and probes == 1:
                screened(
                    residuals[:1], turns[m], leading[m], rests[m], book_rows[m], longest[m], norms[m], values, turned,
                    least, lanes, words.reshape(1, 1), kept.reshape(1, 1),
                )  # fmt: skip
            elif probes == 1:
                nearest_words(residuals[:1], books[m], norms[m], least, lanes, words.reshape(1, 1), kept.reshape(1, 1))
            else:
                half_distances(residuals[:count], books[m], norms[m], values, least, lanes)
                filled = widen(residuals[:count], values, prefixes, m, kept, rows, words)
            extend(codes[t], prefixes, m, rows, words, filled)
            for a in range(count):
                for i in range(width):
                    parents[a, i] = residuals[a, i]
            for a in range(filled):
                for i in range(width):
                    residuals[a, i] = parents[rows[a], i] - books[m, i, words[a]]
            count = filled
        for a in range(count):
            distances[t, a] = dot(residuals[a], residuals[a])


@contracted
def widen(residuals, values, prefixes, m, kept, rows, words):
    """Choose the best (prefix row, codeword of book m) by what remains; return how many there are.

    ``residuals`` (A, width) of the prefixes, ``values`` (A, N) their half distances.
    """
    probes, filled = kept.shape[0], np.int64(0)
    for a in range(residuals.shape[0]):
        square = dot(residuals[a], residuals[a])
        for word in range(values.shape[1]):
            value = square + _TWO * values[a, word]
            if filled < probes or value <= kept[probes - 1]:
                filled = offer(value, a, word, prefixes, m, kept, rows, words, filled)
    return filled
