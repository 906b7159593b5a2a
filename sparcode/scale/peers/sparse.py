"""What all sparse peers share: checks, the clock of the build, settings, batches by single queries."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from sparcode.errors import ConfigError
from sparcode.scale.peers.build_clock import BuildTime, timed_build
from sparcode.scale.peers.protocols import with_overrides


class SparseEngine:
    """Base of the sparse peers; see ``peers.SparsePeer`` for what each offers.

    A subclass gives ``_construct`` (timed), ``_prepare`` (not timed: compiling, buffers), ``search`` and ``bytes``.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True
    most_items: ClassVar[int | None] = None

    def __init__(self, lists: Any, item_count: int, taken: BuildTime, settings: dict[str, Any]) -> None:
        self.item_count = item_count
        self.build_seconds, self.build_cpu_seconds = taken
        self.settings = settings
        self._lists = lists
        self._prepare()

    @classmethod
    def build(
        cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, *, seed: int = 0, **settings: Any
    ) -> Self:
        """Take over posting lists (see ``peers.SparsePeer``) in one thread."""
        _check_lists(indptr, postings)
        chosen = {**with_overrides(cls.defaults(), settings, cls.name), "seed": seed}
        cls._library()
        lists, taken = timed_build(lambda: cls._construct(indptr, postings, item_count, chosen))
        return cls(lists, item_count, taken, chosen)

    def search_batch(self, rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) ids, one query after the other: what an engine without a batch call does."""
        ids = np.full((len(indptr) - 1, k), -1, np.int64)
        edges = indptr.tolist()
        for query, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            found = self.search(rows[low:high], weights[low:high], k)
            ids[query, : len(found)] = found
        return ids

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return at most k ids of one query, best first."""
        raise NotImplementedError

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the settings of the engine."""
        return {}

    def _prepare(self) -> None:
        """Make what searching needs beside the lists."""

    @classmethod
    def _library(cls) -> Any:
        """Import the library, so that its absence is told before any work and its import is not timed."""

    @classmethod
    def _construct(cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, settings: dict[str, Any]) -> Any:
        raise NotImplementedError


def best_of(values: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    """Return the ids of the k largest values, largest first."""
    if k < len(values):
        places = np.argpartition(values, len(values) - k)[len(values) - k :]
        values, ids = values[places], ids[places]
    return ids[np.argsort(-values, kind="stable")]


def _check_lists(indptr: np.ndarray, postings: np.ndarray) -> None:
    if indptr.dtype != np.uint64 or postings.dtype != np.uint32:
        what = f"posting lists of {indptr.dtype} offsets and {postings.dtype} postings"
        raise ConfigError(f"{what}; expected uint64 and uint32, as an Index holds them")
