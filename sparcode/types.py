"""The few types that travel between packages. Letters: B queries, n items, k results (see ARCHITECTURE.md).

Internal item ids are int32, 0 = the item most popular in training; internal user ids are row numbers.
Ragged data are flat values plus a pointer array: row i is ``items[indptr[i]:indptr[i + 1]]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

NO_ITEM = -1
"""Padding id of a result row that holds fewer than k items."""


class Hits(NamedTuple):
    """Answers to a batch of queries, best first; ties are broken by the smaller internal id.

    ``ids``: (B, k) int32, padded with ``NO_ITEM``. ``scores``: (B, k) float32, ``-inf`` where padded and
    ``nan`` where the item was filled in by popularity and therefore has no score.
    """

    ids: np.ndarray
    scores: np.ndarray

    @property
    def filled(self) -> np.ndarray:
        """(B, k) bool: True where popularity filled the place."""
        import numpy as np

        return np.isnan(self.scores) & (self.ids != NO_ITEM)


@dataclass(frozen=True)
class Sequences:
    """Event sequences in chronological order, one row a user (or session).

    ``indptr``: (rows + 1,) int64. ``items``: (events,) int32 internal ids.
    ``times``: (events,) float64, seconds or positions; empty array when unknown.
    """

    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, index: int) -> np.ndarray:
        """Return the items of one row, oldest first."""
        return self.items[self.indptr[index] : self.indptr[index + 1]]


@dataclass(frozen=True)
class Queries:
    """A batch of B queries.

    ``indptr``: (B + 1,) int64, ``items``: int32, the *whole* histories, oldest first: encoders use their
    last events, the seen filter uses all of them. ``user_features``: (B, F) float32 or None; F is the
    width the run's ``features.UserFeatures`` gives. ``times``: (B,) float64 time of each query, or None.
    """

    indptr: np.ndarray
    items: np.ndarray
    user_features: np.ndarray | None = None
    times: np.ndarray | None = None

    @classmethod
    def single(cls, history: np.ndarray, features: np.ndarray | None = None) -> Queries:
        """Return one query: ``history`` (m,) int32 internal ids, oldest first; ``features`` (F,) or None."""
        import numpy as np

        return cls(np.array([0, len(history)], np.int64), history, None if features is None else features[None])

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def history(self, index: int) -> np.ndarray:
        """Return one query's history, oldest first."""
        return self.items[self.indptr[index] : self.indptr[index + 1]]

    def slice(self, start: int, stop: int) -> Queries:
        """Return queries ``start:stop`` as a batch of their own (arrays are views)."""
        low, high = self.indptr[start], self.indptr[stop]
        return Queries(
            self.indptr[start : stop + 1] - low,
            self.items[low:high],
            None if self.user_features is None else self.user_features[start:stop],
            None if self.times is None else self.times[start:stop],
        )


@dataclass(frozen=True)
class EvaluationSet:
    """Queries with the held-out items each of them should find.

    ``users``: (B,) int32 internal user ids. ``target_indptr``: (B + 1,) int64, ``target_items``: int32.
    """

    users: np.ndarray
    queries: Queries
    target_indptr: np.ndarray
    target_items: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def targets(self, index: int) -> np.ndarray:
        """Return the held-out items of one query."""
        return self.target_items[self.target_indptr[index] : self.target_indptr[index + 1]]


class Retriever(Protocol):
    """Anything that answers queries with items. Evaluation sees retrievers only through this."""

    @property
    def name(self) -> str:
        """The name used in tables and JSON."""
        ...

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return the best k items of each query; items of the history are left out unless ``include_seen``."""
        ...
