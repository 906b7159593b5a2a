"""Exact two-tower search: the dot product of a query with every item. The oracle of the approximate indexes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sparcode.retrievers.ranking import check_request, empty_hits, rank_rows, rank_scores
from sparcode.types import Hits, Queries


class QueryEncoder(Protocol):
    """What dense retrievers need of an encoder; ``index.encoder.Encoder`` has it."""

    def tokens(self, queries: Queries) -> np.ndarray:
        """Return (B, K_u, d) float32 unit rows."""
        ...

    def has_tokens(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: False where a query has nothing to encode (no history, no features)."""
        ...

    def encode_one(self, history: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """Return (K_u, d) float32 of one query."""
        ...


class ExactRetriever:
    """Scores every item by its dot product with the query token (the largest one when there are several tokens).

    ``item_vectors``: (n, d) float32 unit rows. A query that cannot be encoded is answered by popularity.
    Scores of a batch and of a single query come from different BLAS calls and may differ in the last bits.
    """

    def __init__(self, encoder: QueryEncoder, item_vectors: np.ndarray, *, name: str = "two-tower") -> None:
        self.name = name
        self.encoder = encoder
        self.item_vectors = np.ascontiguousarray(item_vectors, np.float32)

    @property
    def bytes(self) -> int:
        """Bytes of the item vectors."""
        return self.item_vectors.nbytes

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return the exact best k, (B, k)."""
        check_request(queries, k, len(self.item_vectors))
        tokens = self.encoder.tokens(queries)
        known = self.encoder.has_tokens(queries)

        def block(start: int, stop: int) -> np.ndarray:
            scores = self.scores(tokens[start:stop])
            scores[~known[start:stop]] = -np.inf
            return scores

        return rank_scores(block, queries, k, len(self.item_vectors), include_seen)

    def scores(self, tokens: np.ndarray) -> np.ndarray:
        """Return (B, n) float32 scores of tokens (B, K_u, d)."""
        batch, heads, width = tokens.shape
        if heads == 1:
            return tokens[:, 0] @ self.item_vectors.T
        flat = tokens.reshape(batch * heads, width) @ self.item_vectors.T
        best: np.ndarray = flat.reshape(batch, heads, -1).max(axis=1)
        return best

    def search_one(self, tokens: np.ndarray, history: np.ndarray, k: int) -> Hits:
        """Search for one query that has tokens (K_u, d), leaving out ``history``; hits of shape (1, k)."""
        scores = tokens @ self.item_vectors.T
        if len(scores) > 1:
            scores = scores.max(axis=0, keepdims=True)
        ids, values = empty_hits(1, k)
        rank_rows(scores, np.array([0, len(history)], np.int64), history, True, ids, values)
        return Hits(ids, values)

    def retrieve_one(self, history: np.ndarray, k: int, features: np.ndarray | None = None) -> Hits:
        """Encode and search one non-empty history; hits of shape (1, k)."""
        return self.search_one(self.encoder.encode_one(history, features), history, k)
