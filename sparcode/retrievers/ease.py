"""EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019): a full item -> item weight matrix.

With X the binary users x items matrix of training: G = X'X + lambda I, P = G^-1, B_ij = -P_ij / P_jj off the diagonal
and 0 on it; the scores of a history are the sum of the rows of B of its distinct items.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from sparcode.errors import ConfigError, MissingExtraError
from sparcode.jit import exact
from sparcode.retrievers.ranking import check_request, rank_scores
from sparcode.types import Hits, Queries, Sequences

_TILE = 1024


class Ease:
    """Adds up rows of ``weights`` (n, n) float32; a query without a history is answered by popularity."""

    name = "ease"

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    @property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return self.weights.nbytes

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits; every item has a score, of either sign."""
        check_request(queries, k, len(self.weights))

        def block(start: int, stop: int) -> np.ndarray:
            return self.scores(queries.slice(start, stop))

        return rank_scores(block, queries, k, len(self.weights), include_seen)

    def scores(self, queries: Queries) -> np.ndarray:
        """Return (B, n) float32 scores, -inf in the row of an empty history."""
        scores = np.zeros((len(queries), len(self.weights)), np.float32)
        for row in range(len(queries)):
            # Row by row: a gathered copy of a long history's rows would be larger than the whole block.
            for item in np.unique(queries.history(row)):
                scores[row] += self.weights[item]
        scores[np.diff(queries.indptr) == 0] = -np.inf
        return scores


def ease(train: Sequences, item_count: int, *, regularisation: float = 250.0, most_items: int = 25_000) -> Ease:
    """Build the baseline; 4 n^2 bytes and about n^3 multiplications, in place.

    Raises ConfigError when there are more than ``most_items`` items or ``regularisation`` (lambda) is too small for
    float32, MissingExtraError without scipy.
    """
    if item_count > most_items:
        raise ConfigError(
            f"ease inverts an items x items matrix: {item_count:,} items found, at most {most_items:,} allowed; leave "
            f"it out or raise baselines.ease_most_items (memory: {4e-9 * item_count**2:.1f} GB)"
        )
    gram = gram_matrix(train, item_count)
    gram[np.diag_indices(item_count)] += np.float32(regularisation)
    _invert(gram, regularisation)
    _to_weights(gram)
    return Ease(gram)


def gram_matrix(train: Sequences, item_count: int) -> np.ndarray:
    """Return X'X, (n, n) float32 on and above the diagonal and 0 below: users that two items share."""
    rows = np.repeat(np.arange(len(train), dtype=np.int64), np.diff(train.indptr))
    pairs = np.unique(rows * item_count + train.items)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(pairs // item_count, minlength=len(train)))))
    gram = np.zeros((item_count, item_count), np.float32)
    _count_pairs(indptr, pairs % item_count, gram)
    return gram


def _invert(upper: np.ndarray, regularisation: float) -> None:
    """Replace a symmetric positive definite matrix, given on and above its diagonal, by its inverse (same part)."""
    try:
        from scipy.linalg import lapack
    except ImportError:
        raise MissingExtraError("scipy", "train", "ease") from None

    # LAPACK works by columns: the transposed view of rows is what it overwrites without a copy, and upper is lower.
    factor, failed = lapack.spotrf(upper.T, lower=1, clean=0, overwrite_a=1)
    if not failed:
        factor, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ConfigError(
            f"baselines.ease_regularisation is {regularisation:g}, too small to invert this data's matrix in float32; "
            "raise it, e.g. to 250"
        )
    if not np.shares_memory(factor, upper):
        upper[:] = factor.T


def _to_weights(inverse: np.ndarray) -> None:
    """Turn P, given on and above the diagonal, into B; in place, tile by tile."""
    n = len(inverse)
    scale = -1.0 / np.diagonal(inverse)
    for start, stop in pairwise([*range(0, n, _TILE), n]):
        tile = inverse[start:stop, start:stop]
        tile[:] = np.triu(tile) + np.triu(tile, 1).T
        inverse[stop:, start:stop] = inverse[start:stop, stop:].T
    for start, stop in pairwise([*range(0, n, _TILE), n]):
        inverse[start:stop] *= scale
    np.fill_diagonal(inverse, 0.0)


@exact
def _count_pairs(indptr: np.ndarray, items: np.ndarray, gram: np.ndarray) -> None:
    """Add 1 to ``gram[i, j]`` for every row and its items i <= j (ascending in a row)."""
    for row in range(len(indptr) - 1):
        for place in range(indptr[row], indptr[row + 1]):
            for other in range(place, indptr[row + 1]):
                gram[items[place], items[other]] += 1.0
