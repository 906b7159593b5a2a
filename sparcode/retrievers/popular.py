"""Most popular items of the training data."""

from __future__ import annotations

import numpy as np

from sparcode.retrievers.ranking import check_request, empty_hits, walk_order
from sparcode.types import Hits, Queries, Sequences


class FixedOrder:
    """Answers every query with one order of items, minus the items the query has seen.

    ``scores`` (n,): best first, ties by smaller id; items of score ``-inf`` are only used to fill (score nan).
    """

    def __init__(self, name: str, scores: np.ndarray) -> None:
        self.name = name
        self._item_count = len(scores)
        order = np.lexsort((np.arange(len(scores)), -scores))
        self._order = order[scores[order] > -np.inf].astype(np.int32)
        self._values = scores[self._order].astype(np.float32)

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits."""
        check_request(queries, k, self._item_count)
        ids, scores = empty_hits(len(queries), k)
        fixed = (self._order, self._values, self._item_count)
        walk_order(*fixed, queries.indptr, queries.items, not include_seen, ids, scores)
        return Hits(ids, scores)


def popularity(train: Sequences, item_count: int) -> np.ndarray:
    """Return (n,) int64: training events of each item."""
    return np.bincount(train.items, minlength=item_count).astype(np.int64)


def popular(train: Sequences, item_count: int) -> FixedOrder:
    """Build the baseline; the score is the number of training events."""
    return FixedOrder("popular", popularity(train, item_count).astype(np.float64))
