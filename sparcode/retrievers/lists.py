"""Item -> item lists added up over a history: the common part of item-kNN and counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.jit import exact
from sparcode.retrievers.ranking import Histories, check_request, empty_hits, fill, select
from sparcode.types import Hits, Queries


class Lists(NamedTuple):
    """One list an item: ``indptr`` (n + 1,) int64, ``items`` int32, ``values`` float32 above 0."""

    indptr: np.ndarray
    items: np.ndarray
    values: np.ndarray


class Reading(NamedTuple):
    """How lists are read: ``decay`` ^ age, ``depth`` events (0: all), ``distinct``: every item of them once."""

    decay: float
    depth: int
    distinct: bool


class ItemLists:
    """Scores an item by the sum of ``decay^age * value(history item -> item)`` over the last events.

    ``indptr`` (n + 1,) int64, ``items`` int32, ``values`` float32: one list an item, values above 0. ``decay``
    in (0, 1], age 0 = the last event. ``history``: events read, 0 = all. ``distinct``: an item that occurs
    more than once in the history counts once (its last occurrence). Sums are float64 in a fixed order.
    """

    def __init__(
        self,
        name: str,
        indptr: np.ndarray,
        items: np.ndarray,
        values: np.ndarray,
        *,
        decay: float = 1.0,
        history: int = 0,
        distinct: bool = False,
    ) -> None:
        self.name = name
        # Copies: mapped arrays are read-only, which would compile the kernel a second time.
        self._lists = Lists(np.array(indptr, np.int64), np.array(items, np.int32), np.array(values, np.float32))
        self._reading = Reading(float(decay), int(history), bool(distinct))

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits; items that no list reaches are filled in by popularity."""
        check_request(queries, k, len(self._lists.indptr) - 1)
        ids, scores = empty_hits(len(queries), k)
        histories = Histories(queries.indptr, queries.items, not include_seen)
        _search(self._lists, self._reading, histories, ids, scores)
        return Hits(ids, scores)


@exact
def _accumulate(lists: Lists, reading: Reading, history: np.ndarray, used: np.ndarray, sums: np.ndarray) -> None:
    weight = 1.0
    reach = reading.depth if reading.depth > 0 else len(history)
    for age in range(min(reach, len(history))):
        item = history[len(history) - 1 - age]
        if not (reading.distinct and used[item]):
            for place in range(lists.indptr[item], lists.indptr[item + 1]):
                target = lists.items[place]
                if sums[target] == -np.inf:
                    sums[target] = 0.0
                sums[target] += weight * lists.values[place]
        used[item] = True
        weight *= reading.decay
    for item in history:
        used[item] = False


@exact
def _search(lists: Lists, reading: Reading, histories: Histories, ids: np.ndarray, scores: np.ndarray) -> None:
    n = len(lists.indptr) - 1
    sums = np.empty(n, np.float64)
    flags = np.zeros(n, np.bool_)
    for row in range(ids.shape[0]):
        history = histories.items[histories.indptr[row] : histories.indptr[row + 1]]
        sums[:] = -np.inf
        _accumulate(lists, reading, history, flags, sums)
        if histories.exclude:
            for item in history:
                flags[item] = True
        best = np.empty(ids.shape[1], np.float64)
        count = select(sums, flags, ids[row], best)
        scores[row, :count] = best[:count]
        fill(flags, ids[row], scores[row], count)
        for item in history:
            flags[item] = False
