"""Content-kNN, the baseline of cold start: items like those of the history by metadata alone, training or not.

The content of an item is its given vectors and its categories weighted by inverse document frequency (log n / items
with the category), each scaled to length 1, side by side, and scaled again. A query is the mean of the content of its
last items with weight ``decay^age``; the score is the cosine. Numbers are not used.
"""

from __future__ import annotations

import numpy as np

from sparcode.data.features import Features, gather_rows
from sparcode.jit import exact
from sparcode.retrievers.ranking import check_request, rank_scores
from sparcode.types import Hits, Queries

HISTORY = 20
DECAY = 0.9


class ContentKnn:
    """Scores items by the cosine of content; items without content, and queries without any, have no score.

    ``features``: of the n items. Scores of a batch and of a single query come from different BLAS calls and may
    differ in the last bits.
    """

    name = "content-knn"

    def __init__(self, features: Features, *, history: int = HISTORY, decay: float = DECAY) -> None:
        self._indptr = np.array(features.categories_indptr, np.int64)
        self._words = np.array(features.categories_items, np.int32)
        self._vocabulary = len(features.vocabulary)
        given = np.zeros((len(features), 0), np.float32) if features.vector is None else features.vector
        self._values, self._vectors, self.has_content = _unit_content(self._indptr, self._words, given)
        self._weights = float(decay) ** np.arange(history)

    @property
    def bytes(self) -> int:
        """Bytes of the content."""
        return sum(array.nbytes for array in (self._indptr, self._words, self._values, self._vectors))

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits; what has no score is filled in by popularity."""
        check_request(queries, k, len(self.has_content))

        def block(start: int, stop: int) -> np.ndarray:
            return self.scores(queries.slice(start, stop))

        return rank_scores(block, queries, k, len(self.has_content), include_seen)

    def scores(self, queries: Queries) -> np.ndarray:
        """Return (B, n) float32 cosines, -inf without content on either side."""
        words, vectors = self.query_content(queries)
        scores: np.ndarray = vectors @ self._vectors.T
        _add_word_scores(self._indptr, self._words, self._values, words, scores)
        scores[:, ~self.has_content] = -np.inf
        scores[~(words.any(axis=1) | vectors.any(axis=1))] = -np.inf
        return scores

    def query_content(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
        """Return the query's part over categories (B, vocabulary) and over vectors (B, V), float32, unit together."""
        rows, items, weights = self._recent(queries)
        place, words = gather_rows(self._indptr, self._words, items)
        _, values = gather_rows(self._indptr, self._values, items)
        shape = (len(queries), self._vocabulary)
        cells = rows[place] * self._vocabulary + words
        by_word = np.bincount(cells, values * weights[place], shape[0] * shape[1]).reshape(shape)
        by_vector = np.zeros((len(queries), self._vectors.shape[1]))
        np.add.at(by_vector, rows, weights[:, None] * self._vectors[items])
        norm = np.sqrt((by_word**2).sum(axis=1) + (by_vector**2).sum(axis=1))
        scale = np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)[:, None]
        return (by_word * scale).astype(np.float32), (by_vector * scale).astype(np.float32)

    def _recent(self, queries: Queries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, item and weight of the last events of every query, oldest first."""
        rows = np.repeat(np.arange(len(queries)), np.diff(queries.indptr))
        age = queries.indptr[1:][rows] - 1 - np.arange(len(rows))
        kept = age < len(self._weights)
        return rows[kept], queries.items[kept], self._weights[age[kept]]


def _unit_content(
    indptr: np.ndarray, words: np.ndarray, given: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values of the categories (aligned with ``words``), vectors (n, V), both float32, and who has content."""
    n = len(indptr) - 1
    rows = np.repeat(np.arange(n), np.diff(indptr))
    rarity = np.log(n / np.maximum(np.bincount(words), 1))[words] if len(words) else np.zeros(0)
    lengths = np.sqrt(np.bincount(rows, rarity**2, n))
    norms = np.sqrt(np.einsum("ij,ij->i", given, given, dtype=np.float64))
    parts = (lengths > 0).astype(np.float64) + (norms > 0)
    # Each part has length 1 or is absent, so the whole has the length sqrt(number of parts).
    by_word = np.divide(1.0, lengths * np.sqrt(parts), out=np.zeros(n), where=lengths > 0)
    by_vector = np.divide(1.0, norms * np.sqrt(parts), out=np.zeros(n), where=norms > 0)
    values = (rarity * by_word[rows]).astype(np.float32)
    return values, given * by_vector[:, None].astype(np.float32), parts > 0


@exact
def _add_word_scores(
    indptr: np.ndarray, words: np.ndarray, values: np.ndarray, queries: np.ndarray, scores: np.ndarray
) -> None:
    """Add to ``scores`` (B, n) the inner products of ``queries`` (B, vocabulary) and the items' categories."""
    for row in range(scores.shape[0]):
        query = queries[row]
        for item in range(scores.shape[1]):
            total = np.float32(0.0)
            for place in range(indptr[item], indptr[item + 1]):
                total += query[words[place]] * values[place]
            scores[row, item] += total
