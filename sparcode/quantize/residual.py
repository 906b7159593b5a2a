"""Residual quantization: L books of full width in sequence, each quantises what the earlier ones left over.

Books may have different sizes. ``fit`` runs k-means level by level (RQ-KMeans); ``refined`` then moves the words of all
books at once to the least-squares optimum for codes that a beam search chose (Martinez et al. 2018, section 3), which
errs less but gives up that a first digit alone is the nearest cluster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparcode.quantize.beam import Stack, last_gaps, search, stack_of
from sparcode.quantize.kmeans import KMeans, greedy_trials, kmeans, sampled
from sparcode.seeding import derive

ROWS_PER_WORD = 256
"""Rows k-means sees for every codeword of the largest book, at most."""
FEWEST_ROWS = 32


def fit(
    vectors: np.ndarray,
    sizes: Sequence[int],
    *,
    seed: int,
    beam: int = 1,
    refine: int = 0,
    iterations: int = 25,
    rows_per_word: int = ROWS_PER_WORD,
) -> list[np.ndarray]:
    """Return books (sizes[l], d) float32 fitted to ``vectors`` (n, d); ``refine`` rounds of ``refined`` at the end."""
    vectors = sampled(vectors, rows_per_word * max(sizes), "residual sample", seed=seed)
    vectors = np.array(vectors, np.float32)
    rest = vectors.copy()
    books = []
    for level, size in enumerate(sizes):
        found = _clustered(rest, size, derive(seed, "residual", level), iterations)
        rest -= found.centroids[found.assignment]
        books.append(found.centroids)
    for _ in range(refine):
        books = refined(vectors, books, beam)
    return books


def _clustered(rest: np.ndarray, size: int, seed: int, iterations: int) -> KMeans:
    """Cluster all rows, starting where a quarter of them settled if that is enough rows to tell."""
    few = rest[::4]
    if len(few) < FEWEST_ROWS * size or iterations < 5:
        return kmeans(rest, size, seed=seed, iterations=iterations, trials=greedy_trials(size))
    first = iterations * 3 // 5
    start = kmeans(few, size, seed=seed, iterations=first, trials=greedy_trials(size)).centroids
    return kmeans(rest, size, seed=seed, iterations=iterations - first, initial=start)


def refined(vectors: np.ndarray, books: list[np.ndarray], beam: int) -> list[np.ndarray]:
    """Return books that err least for the codes a beam search gives ``vectors`` with ``books``.

    A word no code uses stays where it is, and so do the directions the codes do not determine (adding a vector to all
    words of one book and subtracting it from another changes no sum).
    """
    starts = np.cumsum([0, *[len(book) for book in books]])
    codes = encode(vectors, books, beam)
    together, sums = _normal_equations(vectors, codes + starts[:-1], starts[-1])
    words = np.concatenate(books).astype(np.float64)
    ridge = 1e-3 * np.eye(len(words)) * max(len(vectors) / starts[-1], 1e-12)
    words += np.linalg.solve(together + ridge, sums - together @ words)
    return [words[low:high].astype(np.float32) for low, high in zip(starts[:-1], starts[1:], strict=True)]


def _normal_equations(vectors: np.ndarray, places: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray]:
    together, sums = np.zeros((words, words)), np.zeros((words, vectors.shape[1]))
    for left in places.T:
        order = np.argsort(left, kind="stable")
        cuts = np.flatnonzero(np.diff(left[order], prepend=-1))
        sums[left[order][cuts]] += np.add.reduceat(vectors[order], cuts, axis=0, dtype=np.float64)
        for right in places.T:
            together += np.bincount(left * words + right, minlength=words * words).reshape(words, words)
    return together, sums


def encode(vectors: np.ndarray, books: Sequence[np.ndarray] | Stack, beam: int = 1) -> np.ndarray:
    """Return codes (n, L) int32: the nearest word of each book in turn, or the best that a beam of codes finds.

    Errors are compared in float64, ties go to the smaller code. A row's code does not depend on the other rows.
    ``books`` (N_l, d) or, for many calls, what ``beam.stack_of`` makes of them.
    """
    stack = books if isinstance(books, Stack) else stack_of(books)
    codes = np.empty((len(vectors), len(stack.starts) - 1), np.int32)
    search(vectors, stack, beam, codes)
    return codes


def decode(codes: np.ndarray, books: Sequence[np.ndarray]) -> np.ndarray:
    """Return the vectors (n, d) float32 that codes (n, L) stand for: the words added in the order of the books."""
    total = np.zeros((len(codes), books[0].shape[1]), np.float32)
    for book, column in zip(books, np.asarray(codes).T, strict=True):
        total += book[column]
    return total


def last_digit_costs(vectors: np.ndarray, codes: np.ndarray, books: Sequence[np.ndarray]) -> np.ndarray:
    """Return (n, N_L) float32: the squared error of ``vectors`` for every last digit after the others of ``codes``."""
    costs = np.empty((len(vectors), len(books[-1])), np.float32)
    starts = np.cumsum([0, *[len(book) for book in books]]).astype(np.int64)
    rows, codes = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(codes, np.int32)
    last_gaps(rows, codes, np.ascontiguousarray(np.concatenate(books), np.float32), starts, costs)
    return costs
