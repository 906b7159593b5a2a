"""Product quantization: M sub-spaces of width d/M, one book of N codewords each (Jegou et al. 2011).

``fit_rotated`` learns a rotation before it (OPQ, Ge et al. 2013, the non-parametric solution): from the principal axes,
dealt to sub-spaces so that their variances balance, books and rotation are improved in turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparcode.quantize import exact
from sparcode.quantize.kmeans import greedy_trials, kmeans, sums_by_cluster
from sparcode.quantize.rotation import balanced_axes, closest_rotation, mapped, principal_axes
from sparcode.seeding import derive

ROTATION_ROUNDS = 20
LAST_STEPS = 5


def fit(vectors: np.ndarray, books: int, codewords: int, seed: int) -> np.ndarray:
    """Return codebooks (M, N, d/M) float32 fitted to ``vectors`` (rows, d); ValueError if M does not divide d."""
    parts = _split(vectors, books)
    fitted = [kmeans(part, codewords, seed=derive(seed, "product", m)).centroids for m, part in enumerate(parts)]
    return np.stack(fitted)


def fit_books(vectors: np.ndarray, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Return books (sizes[m], d/M) float32, which may differ in size; seeding is greedy, slower and better."""
    parts = _split(vectors, len(sizes))
    return [
        kmeans(part, size, seed=derive(seed, "product", m), trials=greedy_trials(size)).centroids
        for m, (part, size) in enumerate(zip(parts, sizes, strict=True))
    ]


def fit_rotated(
    vectors: np.ndarray, sizes: Sequence[int], seed: int, rounds: int = ROTATION_ROUNDS
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return rotation R (d, d) and books (sizes[m], d/M) of the rotated vectors x R, all float32.

    Ge et al. 2013, algorithm 1: one k-means step for the rotation, then the rotation for the codes; at the end some
    k-means steps. No step raises the error. ValueError if M does not divide d.
    """
    _split(vectors[:1], len(sizes))
    _, variances, axes = principal_axes(vectors)
    rotation = axes[:, balanced_axes(variances, len(sizes))]
    books = fit_books(mapped(vectors, rotation), sizes, seed)
    for _ in range(rounds):
        turned = mapped(vectors, rotation)
        codes = encode(turned, books)
        books = _means(turned, codes, books)
        rotation = closest_rotation(vectors, decode(codes, books))
    rotation = rotation.astype(np.float32)
    turned = mapped(vectors, rotation)
    for _ in range(LAST_STEPS):
        books = _means(turned, encode(turned, books), books)
    return rotation, books


def _means(vectors: np.ndarray, codes: np.ndarray, books: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the books with every used word moved to the mean of its rows."""
    moved = [book.copy() for book in books]
    for part, column, book in zip(_split(vectors, len(books)), codes.T, moved, strict=True):
        sums, counts = sums_by_cluster(np.ascontiguousarray(part), np.ascontiguousarray(column), len(book))
        used = counts > 0
        book[used] = sums[used] / counts[used, None]
    return moved


def encode(vectors: np.ndarray, books: Sequence[np.ndarray]) -> np.ndarray:
    """Return codes (rows, M) int32: in every sub-space the nearest codeword, ties to the smaller.

    Distances are compared in float64; a row's code does not depend on the other rows.
    """
    columns = np.empty((len(books), len(vectors)), np.int32)
    for m, part in enumerate(_split(vectors, len(books))):
        exact.nearest(part, books[m], columns[m])
    return np.ascontiguousarray(columns.T)


def decode(codes: np.ndarray, books: Sequence[np.ndarray]) -> np.ndarray:
    """Return the vectors (rows, d) float32 that codes (rows, M) stand for."""
    words = [book[column] for book, column in zip(books, np.asarray(codes).T, strict=True)]
    return np.concatenate(words, axis=1).astype(np.float32)


def last_digit_costs(vectors: np.ndarray, codes: np.ndarray, books: Sequence[np.ndarray]) -> np.ndarray:
    """Return (rows, N) float32: the squared error of ``vectors`` for every last digit after the others of ``codes``."""
    parts = [np.ascontiguousarray(part) for part in _split(vectors, len(books))]
    costs = np.empty((len(vectors), len(books[-1])), np.float32)
    exact.all_gaps(parts[-1], np.ascontiguousarray(books[-1], np.float32), costs)
    before = [book[column] for book, column in zip(books[:-1], np.asarray(codes).T[:-1], strict=True)]
    for part, words in zip(parts[:-1], before, strict=True):
        costs += np.square(part - words).sum(axis=1)[:, None]
    return costs


def _split(vectors: np.ndarray, books: int) -> list[np.ndarray]:
    width = vectors.shape[1]
    if width % books:
        raise ValueError(f"{books} books do not divide a width of {width}")
    return np.split(np.asarray(vectors, np.float32), books, axis=1)
