"""Counted item -> next-item transitions: the posting lists of the ``item`` code family.

count(i -> j) sums 1/distance over the pairs of one sequence at most ``window`` events apart with i before j, plus
``reverse`` times the same for j before i; it is divided by popularity(i)^source_power * popularity(j)^target_power.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.config import ItemFamilyConfig
from sparcode.jit import exact
from sparcode.query.search.best import insert_best
from sparcode.types import Sequences


class Transitions(NamedTuple):
    """CSR of item lists: ``indptr`` (n + 1,) int64, ``items`` int32 ascending in each row, ``values`` float32 > 0."""

    indptr: np.ndarray
    items: np.ndarray
    values: np.ndarray

    def row(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the items that follow ``item`` and their values."""
        part = slice(self.indptr[item], self.indptr[item + 1])
        return self.items[part], self.values[part]


class Events(NamedTuple):
    """E events of training sequences in CSR, and where each of n items occurs; int64 but for ``items``.

    ``indptr`` (sequences + 1,), ``items`` (E,) int32, ``rows`` (E,) the sequence of each event; ``positions`` (E,)
    event numbers sorted by item, item i has ``positions[starts[i]:starts[i + 1]]``, ``starts`` (n + 1,).
    """

    indptr: np.ndarray
    items: np.ndarray
    rows: np.ndarray
    positions: np.ndarray
    starts: np.ndarray


def count_transitions(train: Sequences, item_count: int, config: ItemFamilyConfig | None = None) -> Transitions:
    """Count transitions in ``train`` and keep the ``config.length`` best of every item, ties by smaller id.

    A pair of equal items counts nothing. Popularity is the number of training events of an item. ``config`` gives
    window, reverse, source_power, target_power and length; absent: the defaults.
    """
    config = config or ItemFamilyConfig()
    popularity = np.bincount(train.items, minlength=item_count).astype(np.int64)
    present = np.maximum(popularity, 1).astype(np.float64)
    items = np.ascontiguousarray(train.items, np.int32)
    positions = np.argsort(items, kind="stable").astype(np.int64)
    rows = np.repeat(np.arange(len(train), dtype=np.int64), np.diff(train.indptr))
    starts = np.concatenate([[0], np.cumsum(popularity)]).astype(np.int64)
    events = Events(np.array(train.indptr, np.int64), items.copy(), rows, positions, starts)
    factors = present**-config.source_power, present**-config.target_power
    items, values, counts = best_transitions(events, *factors, config.window, config.reverse, config.length)
    kept = np.arange(config.length)[None, :] < counts[:, None]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Transitions(indptr, items[kept], values[kept])


def count_repeats(train: Sequences, item_count: int, config: ItemFamilyConfig | None = None) -> Transitions:
    """Count how often an item follows itself: lists that hold their own item alone, in the units of transitions.

    A pair of equal items counts once forwards and once backwards, as in ``count_transitions`` any other pair would.
    """
    config = config or ItemFamilyConfig()
    rows = np.repeat(np.arange(len(train)), np.diff(train.indptr))
    sums = np.zeros(item_count)
    for distance in range(1, config.window + 1):
        later, earlier = train.items[distance:], train.items[:-distance]
        same = (later == earlier) & (rows[distance:] == rows[:-distance])
        sums += np.bincount(later[same], minlength=item_count) * ((1.0 + config.reverse) / distance)
    present = np.maximum(np.bincount(train.items, minlength=item_count), 1).astype(np.float64)
    values = (sums * present**-config.source_power * present**-config.target_power).astype(np.float32)
    items = np.flatnonzero(values > 0).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(values > 0)]).astype(np.int64)
    return Transitions(indptr, items, values[items])


@exact
def best_transitions(events, source_factor, target_factor, window, reverse, length):  # type: ignore[no-untyped-def]
    """Count one source item at a time into a dense accumulator, then keep its best targets.

    ``events``: Events; factors (n,) float64. Returns ids (n, length) ascending, values (n, length) float32 and counts
    (n,).
    """
    indptr, items, rows, positions, starts = events
    item_count = starts.shape[0] - 1
    out_items = np.zeros((item_count, length), np.int32)
    out_values = np.zeros((item_count, length), np.float32)
    counts = np.zeros(item_count, np.int64)
    sums = np.zeros(item_count)
    touched = np.empty(item_count, np.int32)
    best_ids = np.empty(length, np.int32)
    best_values = np.empty(length, np.float32)
    for source in range(item_count):
        found = 0
        for place in range(starts[source], starts[source + 1]):
            event = positions[place]
            low = max(indptr[rows[event]], event - window)
            high = min(indptr[rows[event] + 1], event + window + 1)
            for other in range(low, high):
                target = items[other]
                if target == source:
                    continue
                weight = 1.0 / (other - event) if other > event else reverse / (event - other)
                if weight == 0.0:
                    continue
                if sums[target] == 0.0:
                    touched[found] = target
                    found += 1
                sums[target] += weight
        kept = 0
        for place in range(found):
            target = touched[place]
            value = np.float32(sums[target] * source_factor[source] * target_factor[target])
            sums[target] = 0.0
            kept = insert_best(best_ids, best_values, kept, target, value)
        order = np.argsort(best_ids[:kept])
        for place in range(kept):
            out_items[source, place] = best_ids[order[place]]
            out_values[source, place] = best_values[order[place]]
        counts[source] = kept
    return out_items, out_values, counts
