"""Which items may be answered: sets of items that are counted and listed once, however often they filter.

A mask of n items says at once whether an item is in; everything else that a query wants to know of a filter (how many
are left, which ones, the most popular of them) costs a pass over n, so it is kept with the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparcode.data.features import gather_rows
from sparcode.errors import QueryError
from sparcode.types import NO_ITEM, Hits, Queries

_LISTED = 4096
_FIRST_STEP = 1024
_CELLS = 1 << 20


class ItemSet:
    """A set of items as a mask (n,) bool, which its holders share and never write."""

    def __init__(self, mask: np.ndarray, ids: np.ndarray | None = None) -> None:
        # The kernels are compiled for arrays that can be written; another kind would be compiled anew.
        self.mask = mask if mask.flags.writeable and mask.flags.c_contiguous else mask.copy()
        self._ids = ids

    @classmethod
    def of(cls, items: np.ndarray | ItemSet | None, item_count: int, name: str) -> ItemSet | None:
        """Return a mask as a set, None and sets as they are; QueryError unless it is (item_count,) bool."""
        if items is None:
            return None
        mask = items.mask if isinstance(items, ItemSet) else np.asarray(items)
        if mask.dtype != np.bool_ or mask.shape != (item_count,):
            raise QueryError(f"{name}: got {mask.dtype} of shape {mask.shape}, expected bool ({item_count},)")
        return items if isinstance(items, ItemSet) else cls(mask)

    @classmethod
    def from_ids(cls, ids: np.ndarray, item_count: int) -> ItemSet:
        """Return the set of some internal ids, in any order; no pass over the items is made."""
        mask, ids = np.zeros(item_count, bool), np.unique(ids).astype(np.int32)
        mask[ids] = True
        return cls(mask, ids)

    def __and__(self, other: ItemSet) -> ItemSet:
        small, large = (self, other) if self.count <= other.count else (other, self)
        return ItemSet.from_ids(small.ids[large.mask[small.ids]], len(self.mask))

    @cached_property
    def count(self) -> int:
        """How many items are in it."""
        return int(np.count_nonzero(self.mask)) if self._ids is None else len(self._ids)

    @cached_property
    def ids(self) -> np.ndarray:
        """Its items, int32, ascending."""
        return np.flatnonzero(self.mask).astype(np.int32) if self._ids is None else self._ids


@dataclass(frozen=True)
class Eligible:
    """The items that ``allow`` holds (None: all) and ``deny`` does not."""

    item_count: int
    allow: ItemSet | None = None
    deny: ItemSet | None = None

    @classmethod
    def of(cls, item_count: int, allow: np.ndarray | ItemSet | None, deny: np.ndarray | ItemSet | None) -> Eligible:
        """Return the eligible items by masks (n,) bool or sets; raises QueryError on other shapes and types."""
        return cls(item_count, ItemSet.of(allow, item_count, "allow"), ItemSet.of(deny, item_count, "deny"))

    @property
    def allowed(self) -> np.ndarray | None:
        """The mask of ``allow``, as the searcher takes it."""
        return None if self.allow is None else self.allow.mask

    @property
    def denied(self) -> np.ndarray | None:
        """The mask of ``deny``, as the searcher takes it."""
        return None if self.deny is None else self.deny.mask

    def hold(self, items: np.ndarray) -> np.ndarray:
        """Return bool for each of ``items``: whether it is eligible."""
        held = np.ones(len(items), bool) if self.allow is None else self.allow.mask[items]
        return held if self.deny is None else held & ~self.deny.mask[items]

    def at_most(self, limit: int) -> np.ndarray | None:
        """Return the eligible items (int32, ascending) if a filter leaves ``limit`` or fewer, else None."""
        if self.allow is None and self.deny is None:
            return None
        total = self.item_count if self.allow is None else self.allow.count
        if total - (0 if self.deny is None else self.deny.count) > limit:
            return None
        if self.allow is not None:
            ids = self.allow.ids[self.hold(self.allow.ids)]
        else:
            ids = np.flatnonzero(self.hold(np.arange(self.item_count))).astype(np.int32)
        return ids if len(ids) <= limit else None


class PopularItems:
    """All n items, the most popular first, for the places that lists leave empty. ``order``: None = ids ascending."""

    def __init__(self, item_count: int, order: np.ndarray | None = None) -> None:
        self._ascending = order is None
        self.order = np.arange(item_count, dtype=np.int32) if order is None else np.asarray(order, np.int32)

    @cached_property
    def _places(self) -> np.ndarray:
        places = np.empty(len(self.order), np.int32)
        places[self.order] = np.arange(len(self.order), dtype=np.int32)
        return places

    def first(self, count: int, eligible: Eligible) -> np.ndarray:
        """Return the ``count`` most popular eligible items, int32, or all if there are fewer.

        Reads no more of the order than that takes; of a small ``allow`` set its own items.
        """
        order, found, low, step = self._source(eligible), [np.empty(0, np.int32)], 0, max(_FIRST_STEP, count)
        while count > 0 and low < len(order):
            part = order[low : low + step]
            part = part[eligible.hold(part)][:count]
            found.append(part)
            count, low, step = count - len(part), low + step, 2 * step
        return np.concatenate(found)

    def _source(self, eligible: Eligible) -> np.ndarray:
        allow = eligible.allow
        if allow is None or allow.count > _LISTED:
            return self.order
        return allow.ids if self._ascending else allow.ids[np.argsort(self._places[allow.ids])]

    def fill(self, hits: Hits, queries: Queries, eligible: Eligible, *, include_seen: bool = False) -> Hits:
        """Put popular eligible items, score nan, into the empty places at the end of each row of ``hits``.

        Each row leaves out what it holds already and, unless ``include_seen``, its query's history. Writes ``hits``.
        """
        if len(hits.ids) == 1 and hits.ids[0, -1] != NO_ITEM:
            return hits
        short = np.flatnonzero(hits.ids[:, -1] == NO_ITEM)
        if not len(short):
            return hits
        longest = 0 if include_seen else int((queries.indptr[short + 1] - queries.indptr[short]).max())
        popular = self.first(hits.ids.shape[1] + longest, eligible)
        block = max(1, _CELLS // (len(popular) + 1))
        for low in range(0, len(short), block):
            _fill_rows(hits, queries, short[low : low + block], popular, include_seen)
        return hits


def _fill_rows(hits: Hits, queries: Queries, rows: np.ndarray, popular: np.ndarray, include_seen: bool) -> None:
    """Fill ``rows`` from ``popular``, which is long enough for what each row must leave out."""
    held = hits.ids[rows]
    start = (held != NO_ITEM).sum(axis=1)
    free = np.ones((len(rows), len(popular)), bool)
    own, column = np.nonzero(held != NO_ITEM)
    _strike(free, popular, own, held[own, column])
    if not include_seen:
        _strike(free, popular, *gather_rows(queries.indptr, queries.items, rows))
    place = np.cumsum(free, axis=1, dtype=np.int32) + (start[:, None] - 1)
    row, chosen = np.nonzero(free & (place < held.shape[1]))
    target = rows[row], place[row, chosen]
    hits.ids[target] = popular[chosen]
    hits.scores[target] = np.nan


def _strike(free: np.ndarray, popular: np.ndarray, rows: np.ndarray, items: np.ndarray) -> None:
    """Clear ``free`` (rows, P) where ``popular`` (P,) is one of the ``items`` of a row."""
    if not len(popular):
        return
    order = np.argsort(popular)
    place = order[np.searchsorted(popular, items, sorter=order).clip(max=len(popular) - 1)]
    found = popular[place] == items
    free[rows[found], place[found]] = False
