"""Nearest composite codes of tokens. Distances use |t - c|^2 / 2 - |t|^2 / 2 = |c|^2 / 2 - t.c.

Books with many codewords come with a screen (see ``encoder_screen``), whose arrays hold no book where it does not pay.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import numpy as np

from sparcode.index.encoder_math import dot, kernel
from sparcode.index.encoder_screen import LANES, insert, screened

_ZERO = np.float32(0.0)
_TWO = np.float32(2.0)


def prepare_books(codebooks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return transposed books (M, width, N) and half squared norms (M, N) of ``codebooks`` (M, N, width)."""
    books = np.ascontiguousarray(codebooks.transpose(0, 2, 1), dtype=np.float32)
    norms = np.square(codebooks.astype(np.float64)).sum(2) / 2
    return books, norms.astype(np.float32)


@kernel
def half_distances(x, book, norms, out):
    """Set ``out[c] = norms[c] - x . codeword c``; ``book`` is (width, N), the codewords its columns."""
    rows, columns = book.shape
    for c in range(columns):
        out[c] = norms[c]
    i = 0
    while i + 4 <= rows:
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(columns):
            # One product a statement, see ``encoder_math.add_product``.
            total = out[j] - a * book[i, j]
            total -= b * book[i + 1, j]
            total -= c * book[i + 2, j]
            out[j] = total - d * book[i + 3, j]
        i += 4
    while i < rows:
        for j in range(columns):
            out[j] -= x[i] * book[i, j]
        i += 1


@kernel
def nearest(values, lanes):
    """Return the first index of the smallest value; ``lanes`` is scratch for 16 running minima, which vectorise."""
    count = values.shape[0]
    lanes[:] = values[0]
    start = 0
    while start + 16 <= count:
        part = values[start : start + 16]
        for i in range(16):
            lanes[i] = part[i] if part[i] < lanes[i] else lanes[i]
        start += 16
    lowest = lanes[0]
    for i in range(16):
        lowest = lanes[i] if lanes[i] < lowest else lowest
    for i in range(start, count):
        lowest = values[i] if values[i] < lowest else lowest
    for i in range(count):
        if values[i] == lowest:
            return i
    return 0


@kernel
def _flat(tokens, codes, distances):
    # (B, K_u, ...) -> (B K_u, ...)
    batch, heads, width = tokens.shape
    probes, books = codes.shape[2:]
    rows = batch * heads
    return tokens.reshape(rows, width), codes.reshape(rows, probes, books), distances.reshape(rows, probes)


@kernel
def smallest(values, indices, kept):
    """Put the ``len(kept)`` smallest values into ``kept`` ascending, ties by smaller index, and where they stood."""
    filled = 0
    for i in range(values.shape[0]):
        filled = insert(values[i], i, indices, kept, filled)
    return filled


@kernel
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


@kernel
def _precedes(prefixes, m, row, word, other_row, other_word):
    # True when the composite code (prefix of `row`, word) is smaller than the other one.
    for i in range(m):
        if prefixes[row, i] != prefixes[other_row, i]:
            return prefixes[row, i] < prefixes[other_row, i]
    return word < other_word


@kernel
def extend(codes, prefixes, m, rows, words, filled):
    """Set the first ``filled`` codes to their prefixes of m codewords and the chosen codeword of book m."""
    prefixes[:, :m] = codes[:, :m]
    for a in range(filled):
        codes[a, :m] = prefixes[rows[a], :m]
        codes[a, m] = words[a]


@kernel
def product_codes(tokens, books, norms, turns, leading, rests, book_rows, longest, codes, distances):
    """Fill ``codes`` (B, K_u, P, M) and squared ``distances`` (B, K_u, P) with the P nearest codes of each token.

    The P best pairs of two ascending lists are among the first P of each, so lists are joined book by book.
    """
    probes, book_count = codes.shape[2:]
    tokens, codes, distances = _flat(tokens, codes, distances)
    total = tokens.shape[0]
    width, size = books.shape[1], books.shape[2]
    values = np.empty(size, np.float32)
    lanes = np.empty(16, np.float32)
    indices = np.empty(min(probes, size), np.int64)
    best = np.empty(min(probes, size), np.float32)
    kept = np.empty(probes, np.float32)
    rows = np.empty(probes, np.int64)
    words = np.empty(probes, np.int64)
    prefixes = np.empty((probes, book_count), codes.dtype)
    places = np.empty(LANES, np.int32)
    turned = np.empty(width, np.float32)
    for t in range(total):
        distances[t, 0] = dot(tokens[t], tokens[t])
        count = 1
        for m in range(book_count):
            part = tokens[t, m * width : (m + 1) * width]
            if turns.shape[0] > 0:
                found = screened(
                    part, turns[m], leading[m], rests[m], book_rows[m], longest[m], norms[m], values, turned, lanes,
                    places, indices, best,
                )  # fmt: skip
            elif probes == 1:
                half_distances(part, books[m], norms[m], values)
                indices[0] = nearest(values, lanes)
                best[0] = values[indices[0]]
                found = 1
            else:
                half_distances(part, books[m], norms[m], values)
                found = smallest(values, indices, best)
            if probes == 1:
                codes[t, 0, m] = indices[0]
                distances[t, 0] += _TWO * best[0]
                continue
            filled = 0
            prefixes[:, :m] = codes[t, :, :m]
            for a in range(count):
                for b in range(found):
                    value = distances[t, a] + _TWO * best[b]
                    filled = offer(value, a, indices[b], prefixes, m, kept, rows, words, filled)
            extend(codes[t], prefixes, m, rows, words, filled)
            distances[t, :filled] = kept[:filled]
            count = filled
        for a in range(count):
            distances[t, a] = max(distances[t, a], _ZERO)


@kernel
def residual_codes(tokens, books, norms, turns, leading, rests, book_rows, longest, codes, distances):
    """Fill ``codes`` (B, K_u, P, M) and squared ``distances`` (B, K_u, P) by beam search; width 1 is greedy."""
    probes, book_count = codes.shape[2:]
    tokens, codes, distances = _flat(tokens, codes, distances)
    total = tokens.shape[0]
    width, size = books.shape[1], books.shape[2]
    values = np.empty(size, np.float32)
    lanes = np.empty(16, np.float32)
    kept = np.empty(probes, np.float32)
    rows = np.empty(probes, np.int64)
    words = np.empty(probes, np.int64)
    prefixes = np.empty((probes, book_count), codes.dtype)
    places = np.empty(LANES, np.int32)
    turned = np.empty(width, np.float32)
    least = np.empty(1, np.float32)
    residuals = np.empty((probes, width), np.float32)
    parents = np.empty((probes, width), np.float32)
    for t in range(total):
        residuals[0] = tokens[t]
        count = 1
        for m in range(book_count):
            filled = 0
            prefixes[:, :m] = codes[t, :, :m]
            for a in range(count):
                if probes == 1 and turns.shape[0] > 0:
                    filled = screened(
                        residuals[0], turns[m], leading[m], rests[m], book_rows[m], longest[m], norms[m], values,
                        turned, lanes, places, words, least,
                    )  # fmt: skip
                    rows[0] = 0
                    continue
                half_distances(residuals[a], books[m], norms[m], values)
                if probes == 1:
                    rows[0] = 0
                    words[0] = nearest(values, lanes)
                    filled = 1
                    continue
                square = dot(residuals[a], residuals[a])
                for word in range(size):
                    value = square + _TWO * values[word]
                    if filled < probes or value <= kept[probes - 1]:
                        filled = offer(value, a, word, prefixes, m, kept, rows, words, filled)
            extend(codes[t], prefixes, m, rows, words, filled)
            parents[:count] = residuals[:count]
            for a in range(filled):
                for i in range(width):
                    residuals[a, i] = parents[rows[a], i] - books[m, i, words[a]]
            count = filled
        for a in range(count):
            distances[t, a] = dot(residuals[a], residuals[a])
