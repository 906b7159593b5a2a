"""What a query reads beside learned codes: for every code family, which posting lists with which integer weights.

A query is a sparse vector over the codes of several families. A family is a block of rows of the index and a
``RowReader``, which turns queries into rows of that block; what the lists hold was counted or learned offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from sparcode.data.features import gather_rows
from sparcode.errors import QueryError
from sparcode.types import Queries

NO_ROWS = np.empty(0, np.int32)


class Rows(NamedTuple):
    """Lists read by B queries: ``rows`` and ``weights`` (> 0) int32, those of query b at ``indptr[b]:indptr[b + 1]``,
    ``indptr`` (B + 1,) int64."""

    rows: np.ndarray
    weights: np.ndarray
    indptr: np.ndarray


class RowReader(Protocol):
    """One code family as queries see it. Readers do not change: threads may share one."""

    @property
    def name(self) -> str:
        """The name of the family in the index."""
        ...

    def read(self, queries: Queries) -> Rows:
        """Return the lists every query reads."""
        ...


class ItemReader:
    """Codes = the history's own items, latest first; ``weights``: of the event of age 0, 1, ... (0 = not read)."""

    name = "item"

    def __init__(self, first_row: int, weights: Sequence[int]) -> None:
        self.first_row = np.int32(first_row)
        self.weights = np.array(weights, np.int32)

    def read(self, queries: Queries) -> Rows:
        """See ``item_rows``."""
        return Rows(*item_rows(queries, self.weights, int(self.first_row)))


class CategoryReader:
    """Codes = the categories of the history's last events, by ascending word.

    ``indptr`` (n + 1,), ``words``: the words of every item as CSR, 0..``word_count`` - 1. ``weights``: of the event of
    age 0, 1, ... (0 = not read). A word that several events bring is one row whose weight is the sum of theirs.
    """

    name = "category"

    def __init__(
        self, first_row: int, word_count: int, indptr: np.ndarray, words: np.ndarray, weights: Sequence[int]
    ) -> None:
        self.first_row, self.word_count = np.int32(first_row), word_count
        self.indptr, self.words = indptr, words
        self._events = ItemReader(0, weights)

    def read(self, queries: Queries) -> Rows:
        """Return the rows of the words and their weights added up."""
        items, weights, event_indptr = self._events.read(queries)
        event, words = gather_rows(self.indptr, self.words, items)
        query = np.repeat(np.arange(len(queries), dtype=np.int64), np.diff(event_indptr))
        cells, sums = _added(query[event] * self.word_count + words, weights[event])
        indptr = np.searchsorted(cells, np.arange(len(queries) + 1, dtype=np.int64) * self.word_count)
        rows = (cells % max(self.word_count, 1)).astype(np.int32) + self.first_row
        return Rows(rows, sums, indptr.astype(np.int64))


class SegmentReader:
    """Codes = the categories of the user, by ascending word: the first ``word_count`` columns of the features, if > 0.

    ``weight``: of every list; a query without history, which has little else to read, reads them with at least 1.
    """

    name = "segment"

    def __init__(self, first_row: int, word_count: int, weight: int) -> None:
        self.first_row, self.word_count, self.weight = np.int32(first_row), word_count, weight

    def read(self, queries: Queries) -> Rows:
        """Return the rows of the words; QueryError when the features are too narrow to hold them."""
        count = len(queries)
        if queries.user_features is None:
            return Rows(NO_ROWS, NO_ROWS, np.zeros(count + 1, np.int64))
        weights = np.where(np.diff(queries.indptr) > 0, self.weight, max(self.weight, 1)).astype(np.int32)
        held = (self._words(queries.user_features) > 0) & (weights > 0)[:, None]
        query, word = np.nonzero(held)
        indptr = np.concatenate([[0], np.cumsum(held.sum(axis=1))]).astype(np.int64)
        return Rows(word.astype(np.int32) + self.first_row, weights[query], indptr)

    def _words(self, features: np.ndarray) -> np.ndarray:
        if features.shape[-1] < self.word_count:
            raise QueryError(
                f"user features are {features.shape[-1]} wide, but the index knows {self.word_count} categories of "
                "users; encode them as this run's data do"
            )
        return features[..., : self.word_count]


def aged_weights(weight: int, item_weights: Sequence[int], decay: float, history: int) -> tuple[int, ...]:
    """Return the weight by age of a family that reads events: ``weight`` for the age that counts most, the others less.

    Ages fade as ``item_weights`` do, or by decay^age where there are none; at most ``history`` ages. Rounded half up
    to whole numbers, so that a small weight reads the latest events alone; what is behind the last > 0 is cut off.
    """
    shares = np.asarray(item_weights, np.float64) if len(item_weights) else decay ** np.arange(history)
    rounded = np.floor(weight * shares[:history] / max(shares.max(), 1e-9) + 0.5).astype(int)
    read = np.flatnonzero(rounded)
    return tuple(int(value) for value in rounded[: read[-1] + 1]) if len(read) else ()


def concatenated(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several families (at least one) query by query, in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    sizes = [np.diff(part.indptr) for part in parts]
    indptr = np.concatenate([[0], np.cumsum(np.sum(sizes, axis=0))]).astype(np.int64)
    rows, weights = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.int32)
    start = indptr[:-1].copy()
    for part, size in zip(parts, sizes, strict=True):
        place = np.repeat(start - part.indptr[:-1], size) + np.arange(len(part.rows))
        rows[place], weights[place] = part.rows, part.weights
        start += size
    return Rows(rows, weights, indptr)


def item_rows(queries: Queries, weights: np.ndarray, first_row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, weights, pointers of the lists of each query's last events, latest first, weight 0 left out."""
    sizes = np.minimum(np.diff(queries.indptr), len(weights))
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    age = np.arange(indptr[-1]) - np.repeat(indptr[:-1], sizes)
    place = np.repeat(queries.indptr[1:], sizes) - 1 - age
    read = weights[age] > 0
    indptr = np.concatenate([[0], np.cumsum(read)]).astype(np.int64)[indptr]
    return queries.items[place[read]].astype(np.int32) + np.int32(first_row), weights[age[read]], indptr


def _added(cells: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct cells ascending and the int32 sums of their weights."""
    distinct, place = np.unique(cells, return_inverse=True)
    return distinct, np.bincount(place.reshape(-1), weights, len(distinct)).astype(np.int32)
