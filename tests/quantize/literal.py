"""Slow, literal forms of the quantizers: one row, one word at a time, in float64."""

from __future__ import annotations

import math

import numpy as np


def gap(x: np.ndarray, word: np.ndarray) -> float:
    """|x - word|^2 in float64: eight sums over the coordinates e mod 8 (the rest goes to the first), folded."""
    squares = (x.astype(np.float64) - word.astype(np.float64)) ** 2
    whole = len(squares) - len(squares) % 8
    sums = [0.0] * 8
    for e, square in enumerate(squares):
        sums[e % 8 if e < whole else 0] += float(square)
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))


def nearest_word(x: np.ndarray, book: np.ndarray) -> int:
    """The number of the nearest word, the smallest of equals."""
    return int(np.argmin([gap(x, word) for word in book]))


def beam_code(x: np.ndarray, books: list[np.ndarray], beam: int) -> list[int]:
    """The best code a beam finds: all extensions of all kept codes, sorted by error and then by the code."""
    kept: list[tuple[int, ...]] = [()]
    for level, book in enumerate(books):
        scored = []
        for code in kept:
            rest = x.astype(np.float64)
            for k, earlier in zip(code, books, strict=False):
                rest = rest - earlier[k].astype(np.float64)
            scored += [(gap(rest, word), (*code, k)) for k, word in enumerate(book)]
        scored.sort()
        kept = [code for _, code in scored[: 1 if level == len(books) - 1 else beam]]
    return list(kept[0])


def greedy_code(x: np.ndarray, books: list[np.ndarray]) -> list[int]:
    """The nearest word of each book to what the earlier ones left."""
    rest, code = x.astype(np.float64), []
    for book in books:
        code.append(nearest_word(rest, book))
        rest = rest - book[code[-1]].astype(np.float64)
    return code


def mapped_row(x: np.ndarray, offset: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(x - offset) @ matrix, every float32 sum over the coordinates in ascending order."""
    out = np.zeros(matrix.shape[1], np.float32)
    for e in range(len(x)):
        out = out + (x[e] - offset[e]) * matrix[e]
    return out


def finite_scalars(y: np.ndarray, levels: list[int], deviations: np.ndarray, gain: float) -> list[int]:
    """round((tanh(gain y / deviation) + 1) / 2 * (levels - 1)) of every coordinate."""
    bounded = [math.tanh(gain * value / size) for value, size in zip(y, deviations, strict=True)]
    return [round((z + 1) / 2 * (level - 1)) for z, level in zip(bounded, levels, strict=True)]


def packed_signs(y: np.ndarray, bits: list[int]) -> list[int]:
    """The signs of y as binary numbers of so many bits, the first bit the highest."""
    text, digits = "".join("1" if value > 0 else "0" for value in y), []
    for count in bits:
        digits.append(int(text[:count], 2))
        text = text[count:]
    return digits
