"""Nearest composite codes of tokens: product codes exactly, residual codes by beam search.

Every distance is one of ``quantize.nearest``, so that codes do not depend on the company of a token.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.arithmetic import dot
from sparcode.jit import contracted
from sparcode.jit.tiles import ROWS
from sparcode.quantize.nearest import half_distances, make_scratch, nearest

_ZERO = np.float32(0.0)
_TWO = np.float32(2.0)


class Choices(NamedTuple):
    """An ascending list of up to P codes that extend others by a codeword: ``kept`` (P,) float32 their distances,
    ``rows`` (P,) int64 which code each extends, ``words`` (P,) int64 by which codeword."""

    kept: np.ndarray
    rows: np.ndarray
    words: np.ndarray


@contracted
def nearest_codes(tokens, books, codes, distances):
    """Fill ``codes`` (B, K_u, P, M) and squared ``distances`` (B, K_u, P) with the P nearest codes of each token.

    ``tokens`` (B, K_u, width), ``books`` as ``quantize.nearest.prepare_books`` makes them; P <= N^M, best first.
    """
    _nearest_codes(tokens, books, books.residual, books.screen, codes, distances)


@contracted
def _nearest_codes(tokens, books, residual, screen, codes, distances):
    # None among arguments decides while compiling: the kernels of the other case are then not compiled at all.
    batch, heads, width = tokens.shape
    probes, count = codes.shape[2:]
    rows = batch * heads
    tokens = tokens.reshape(rows, width)
    codes, distances = codes.reshape(rows, probes, count), distances.reshape(rows, probes)
    if residual is None:
        product_codes(tokens, books, screen, codes, distances)
    else:
        residual_codes(tokens, books, screen, codes, distances)


@contracted
def offer(value, row, word, prefixes, m, choices, filled):
    """Insert (value, prefix row, codeword) into the ascending list, ties by smaller code; return its length."""
    kept, rows, words = choices.kept, choices.rows, choices.words
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
def extend(codes, prefixes, m, choices, filled):
    """Set the first ``filled`` codes to their prefixes of m codewords and the chosen codeword of book m."""
    copy_words(codes, m, prefixes)
    for a in range(filled):
        for i in range(m):
            codes[a, i] = prefixes[choices.rows[a], i]
        codes[a, m] = choices.words[a]


@contracted
def copy_words(codes, m, prefixes):
    """Set the first m codewords of all ``prefixes`` (P, M) to those of ``codes``."""
    # One by one: numba's assignment of a slice carries the text of its error message, a second of compiling.
    for a in range(codes.shape[0]):
        for i in range(m):
            prefixes[a, i] = codes[a, i]


@contracted
def product_codes(tokens, books, screen, codes, distances):
    """``nearest_codes`` of rows: ``tokens`` (X, width), ``codes`` (X, P, M), ``distances`` (X, P)."""
    total, (probes, count) = tokens.shape[0], codes.shape[1:]
    width, size = books.words.shape[1:]
    rows = max(1, min(total, ROWS))
    scratch = make_scratch(rows, books, screen, probes > 1)
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
        for m in range(count):
            part = tokens[start:stop, m * width : (m + 1) * width]
            nearest(part, books, screen, m, scratch, indices, best)
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
    choices = Choices(np.empty(probes, np.float32), np.empty(probes, np.int64), np.empty(probes, np.int64))
    prefixes = np.empty((probes, book_count), codes.dtype)
    copy_words(codes, m, prefixes)
    filled = np.int64(0)
    for a in range(count):
        for b in range(best.shape[0]):
            value = distances[a] + _TWO * best[b]
            if filled == probes and value > choices.kept[probes - 1]:
                break  # the others of this row are no smaller; equal ones may still come first by their code
            filled = offer(value, a, indices[b], prefixes, m, choices, filled)
    extend(codes, prefixes, m, choices, filled)
    for a in range(filled):
        distances[a] = choices.kept[a]
    return filled


@contracted
def residual_codes(tokens, books, screen, codes, distances):
    """``nearest_codes`` of rows as in ``product_codes``, by beam search of width P; width 1 is greedy."""
    probes, count = codes.shape[1:]
    width = tokens.shape[1]
    scratch = make_scratch(probes, books, screen, probes > 1)
    choices = Choices(np.empty(probes, np.float32), np.zeros(probes, np.int64), np.zeros(probes, np.int64))
    prefixes = np.empty((probes, count), codes.dtype)
    residuals = np.empty((probes, width), np.float32)
    parents = np.empty((probes, width), np.float32)
    for t in range(tokens.shape[0]):
        for i in range(width):
            residuals[0, i] = tokens[t, i]
        live = np.int64(1)
        for m in range(count):
            copy_words(codes[t], m, prefixes)
            filled = np.int64(1)
            if probes == 1:
                nearest(residuals, books, screen, m, scratch, choices.words.reshape(1, 1), choices.kept.reshape(1, 1))
            else:
                words, values = books.words[m], scratch.values
                half_distances(residuals[:live], words, books.norms[m], values, scratch.least, scratch.places)
                filled = widen(residuals[:live], values, prefixes, m, choices)
            extend(codes[t], prefixes, m, choices, filled)
            for a in range(live):
                for i in range(width):
                    parents[a, i] = residuals[a, i]
            for a in range(filled):
                for i in range(width):
                    residuals[a, i] = parents[choices.rows[a], i] - books.words[m, i, choices.words[a]]
            live = filled
        for a in range(live):
            distances[t, a] = dot(residuals[a], residuals[a])


@contracted
def widen(residuals, values, prefixes, m, choices):
    """Choose the best (prefix row, codeword of book m) by what remains; return how many there are.

    ``residuals`` (A, width) of the prefixes, ``values`` (A, N) their half distances.
    """
    kept, filled = choices.kept, np.int64(0)
    probes = kept.shape[0]
    for a in range(residuals.shape[0]):
        square = dot(residuals[a], residuals[a])
        for word in range(values.shape[1]):
            value = square + _TWO * values[a, word]
            if filled < probes or value <= kept[probes - 1]:
                filled = offer(value, a, word, prefixes, m, choices, filled)
    return filled
