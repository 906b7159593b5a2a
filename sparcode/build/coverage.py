"""Item coverage: every item with a training event stands in at least so many lists (``index.item_floor``).

An item *needs* as many learned lists as it lacks: those of other families that hold it count. A pair is kept on merit
or by the floor of its list, as without coverage; an item that is then still short joins the lists where its value is
highest. These postings are paid from the same budget, so merit ends earlier: the best ``need`` pairs of an item cost
nothing more, the others are *spare*, and needs plus spare pairs kept are the postings stored, exactly.

Pairs worth storing do not include the best of every item, so the best codes of items that may be left over are found
by a pass of their own over these items and all stored codes, in blocks with shards like those of the lists.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sparcode.build.score.candidates import Candidates, grouped
from sparcode.build.score.scoring import ListScorer
from sparcode.index.arrays import Arrays
from sparcode.jit import exact
from sparcode.query.search.best import insert_best

SCORED_AT_ONCE = 1 << 18
"""Scores made before they are searched for the best of each item."""
NEAR = 32
"""Items that need no lists are scored along when fewer than so many lie between two that do."""


class Coverage(NamedTuple):
    """What items need, over P pairs sorted by code and item.

    ``needs`` (n,) int64 lists an item must be in; ``order`` (P,) int64 pairs by item, ``indptr`` (n + 1,) int64 bounds
    in it; ``reserve`` (P,) bool pairs that were scored for coverage alone and are not kept on merit.
    """

    needs: np.ndarray
    order: np.ndarray
    indptr: np.ndarray
    reserve: np.ndarray

    def first(self, keys: np.ndarray, allowed: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        """Return (P,) bool: the best allowed pairs of each item by ``keys`` (P,) f64, ties by code.

        ``counts`` (n,) of each item; absent: as many as it needs.
        """
        return mark_first(self.indptr, self.order, keys, allowed, self.needs if counts is None else counts)

    def missing(self, kept: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return how many lists (n,) int64 each item lacks when the pairs ``kept`` (P,) are stored."""
        found = np.bincount(items[kept], minlength=len(self.needs))
        return np.maximum(self.needs - found, 0)


def coverage_of(items: np.ndarray, needs: np.ndarray, reserve: np.ndarray | None = None) -> Coverage:
    """Return the coverage problem of pairs with these ``items`` (P,) int32; ``reserve`` absent: none of them."""
    counts = np.bincount(items, minlength=len(needs))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    nothing = np.zeros(len(items), bool) if reserve is None else reserve
    return Coverage(needs, grouped(items, len(needs)), indptr, nothing)


def needed_lists(floor: int, trained: np.ndarray, others: Iterable[Arrays], item_count: int) -> np.ndarray:
    """Return how many learned lists (n,) int64 every item needs for ``floor`` lists in all.

    ``trained`` (X,) items of training events: others need none. ``others``: lists of further families.
    """
    needs = np.where(np.bincount(trained, minlength=item_count) > 0, floor, 0)
    for lists in others:
        needs -= np.bincount(lists["items"], minlength=item_count)
    return np.maximum(needs, 0).astype(np.int64)


@exact
def mark_first(indptr, order, keys, allowed, counts):
    """Return the mask of ``Coverage.first``."""
    chosen = np.zeros(keys.shape[0], np.bool_)
    for item in range(counts.shape[0]):
        for _ in range(counts[item]):
            best = -1
            for place in range(indptr[item], indptr[item + 1]):
                pair = order[place]
                if allowed[pair] and not chosen[pair] and (best < 0 or keys[pair] > keys[best]):
                    best = pair
            if best < 0:
                break
            chosen[best] = True
    return chosen


def unsettled(candidates: Candidates, needs: np.ndarray, threshold: float) -> np.ndarray:
    """Return what items need (n,) whose best pairs may be missing among the candidates; 0 for the others.

    All pairs above ``threshold`` are candidates, so an item with enough of them has its best ones there.
    """
    above = np.bincount(candidates.items[candidates.values > np.float32(threshold)], minlength=len(needs))
    return np.where(above >= needs, 0, needs)


def best_codes(scorer: ListScorer, codes: np.ndarray, needs: np.ndarray) -> Arrays:
    """Return the ``needs`` (n,) best pairs of every item with codes (C, M): ``codes`` i32, ``items`` i32, ``values``.

    Of equal values the smaller code is the better one.
    """
    plan = scorer.plan(codes)
    wanted = np.minimum(needs, len(codes))
    ends = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int64)
    rows, values = np.full(ends[-1], -1, np.int32), np.full(ends[-1], -np.inf, np.float32)
    step = max(1, SCORED_AT_ONCE // max(len(codes), 1))
    for low, high in needy_ranges(wanted):
        for start in range(low, high, step):
            scores = scorer.scores(plan, start, min(start + step, high))
            take_best(scores, ends[start : start + len(scores) + 1], rows, values)
    items = np.repeat(np.arange(len(needs), dtype=np.int32), wanted)
    return {"codes": rows, "items": items, "values": values}


def needy_ranges(needs: np.ndarray) -> list[tuple[int, int]]:
    """Return ranges of items that hold all with a need, and gaps of fewer than NEAR items between them."""
    items = np.flatnonzero(needs)
    if not len(items):
        return []
    breaks = np.flatnonzero(np.diff(items) > NEAR) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(items, breaks)]


@exact
def take_best(scores, ends, rows, values):
    """Write of scores (I, C) the best of item i to ``rows`` and ``values`` at ``ends[i]:ends[i + 1]``, best first.

    ``ends`` (I + 1,); at most C places an item.
    """
    for i in range(scores.shape[0]):
        low, high = ends[i], ends[i + 1]
        count = 0
        for code in range(scores.shape[1] if low < high else 0):
            count = insert_best(rows[low:high], values[low:high], count, code, scores[i, code])


def with_reserve(candidates: Candidates, found: Arrays) -> tuple[Candidates, np.ndarray]:
    """Add pairs found for coverage to the candidates; returns all, and (P,) bool which of them are new."""
    width = np.int64(max(int(candidates.items.max(initial=-1)), int(found["items"].max(initial=-1))) + 1)
    known = candidates.codes.astype(np.int64) * width + candidates.items
    keys = found["codes"].astype(np.int64) * width + found["items"]
    spots = np.searchsorted(known, keys)
    fresh = np.append(known, -1)[spots] != keys
    together = np.concatenate([known, keys[fresh]])
    order = np.argsort(together, kind="stable")
    values = np.concatenate([candidates.values, found["values"][fresh]])[order]
    together = together[order]
    counts = np.bincount(together // width, minlength=len(candidates.indptr) - 1)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Candidates(indptr, (together % width).astype(np.int32), values), order >= len(known)
