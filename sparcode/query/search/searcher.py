"""A read-only snapshot of an index that answers weighted sparse queries.

Internal ids only; rows are posting lists (see ``layout``), weights positive integers. A Searcher may be used
from several threads at once: each has its own scratch, and the kernels release the interpreter lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparcode.errors import QueryError
from sparcode.index.arrays import read_only
from sparcode.index.layout import Index
from sparcode.jit.packing import pack
from sparcode.query.search import prepared
from sparcode.query.search.arguments import Accumulators, Answers, Filters, Lists, SparseQuery
from sparcode.query.search.base import BAD_ROW, BAD_WEIGHT, BUCKETS, WIDE_LIMIT
from sparcode.query.search.batch import search_batch
from sparcode.query.search.fitting import ENTRIES, ready
from sparcode.query.search.prepared import INT32, STRIDES, exact_int32
from sparcode.types import NO_ITEM

MAX_WEIGHT = 65535
"""Largest weight a row of a query may have."""

_UINT32 = np.dtype(np.uint32)
_empty = np.empty
_NO_IDS = np.zeros(0, np.int32)
_NO_MASK = np.zeros(0, np.bool_)


class SearchResult(NamedTuple):
    """Best items of B queries, ordered by (sum descending, id ascending).

    ``ids``: (B, k) int32, NO_ITEM past a query's count. ``sums``: (B, k) uint32, 0 there. ``counts``: (B,) int32.
    A query finds fewer than k items when its lists hold fewer eligible ones; filling is the caller's.
    """

    ids: np.ndarray
    sums: np.ndarray
    counts: np.ndarray


class Scratch:
    """Buffers of one thread: 6 n bytes of accumulators and 16 (n + longest list) of work, used as touched."""

    def __init__(self, index: Index) -> None:
        longest = min(int(index.lengths().max(initial=0)), index.item_count)
        self.narrow = np.zeros(index.item_count + 1, np.uint16)
        self.wide = np.zeros(index.item_count + 1, np.uint32)
        self.work = np.empty(BUCKETS + 2 * (index.item_count + longest), np.uint64)
        self.work[:BUCKETS] = 0

    @property
    def accumulators(self) -> Accumulators:
        """The buffers as kernels take them."""
        return Accumulators(ENTRIES, self.narrow, self.wide, self.work)


class Searcher:
    """Searches one index. ``index``: the arrays, ``manifest``: what the store says of them (empty in memory)."""

    def __init__(self, index: Index, manifest: dict[str, Any] | None = None) -> None:
        self.index = index
        self.manifest = manifest or {}
        self.item_count = index.item_count
        self.scale = index.scale
        # Read-only like the mapped arrays of a store, so that one compiled version serves both.
        self._lists = Lists(read_only(index.indptr), read_only(index.postings))
        self._local = threading.local()
        self._spare: list[Scratch] = []
        self._plain: Callable[..., int]

    def search(
        self,
        rows: np.ndarray,
        weights: np.ndarray,
        indptr: np.ndarray,
        k: int,
        *,
        seen_indptr: np.ndarray | None = None,
        seen_items: np.ndarray | None = None,
        allow: np.ndarray | None = None,
        deny: np.ndarray | None = None,
        threads: int = 1,
    ) -> SearchResult:
        """Return the best k items of each of B queries; query b reads ``rows[indptr[b]:indptr[b + 1]]``.

        ``rows``, ``weights``: flat int32, weights 1..65535 (a row given twice counts twice). ``indptr``: (B + 1,)
        int64. ``seen_items``: flat int32 ids to leave out, delimited by ``seen_indptr`` (B + 1,) int64.
        ``allow``, ``deny``: (n,) bool for all queries. Any k >= 1. Raises QueryError on rows, weights or
        shapes out of range. The answer does not depend on ``threads``.
        """
        rows, weights, indptr = _int32(rows), _checked_weights(weights), _int64(indptr)
        seen, seen_indptr = _seen(seen_items, seen_indptr, len(indptr) - 1)
        _check_pointer(indptr, min(len(rows), len(weights)), "indptr")
        _check_pointer(seen_indptr, len(seen), "seen_indptr")
        query, filters = SparseQuery(rows, weights), Filters(seen, *self._masks(allow, deny))
        result = _empty_result(len(indptr) - 1, self._checked_k(k))

        def answer(scratch: Scratch, low: int, high: int) -> int:
            while True:
                status: int = search_batch(
                    self._lists, query, indptr[low : high + 1], scratch.accumulators, filters,
                    seen_indptr[low : high + 1], Answers(result.ids[low:high], result.sums[low:high]),
                    result.counts[low:high],
                )  # fmt: skip
                if ready(status):
                    return status

        raise_if_bad(self._in_parts(answer, len(indptr) - 1, threads), self.index.row_count)
        return result

    def search_one(
        self,
        rows: np.ndarray,
        weights: np.ndarray,
        k: int,
        seen: np.ndarray | None = None,
        allow: np.ndarray | None = None,
        deny: np.ndarray | None = None,
        out: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int32, sums uint32) of one query, at most k of each; the path with the least overhead.

        ``rows``, ``weights``, ``seen``: one-dimensional integers, taken as they are when int32 and contiguous.
        Weights 1..65535. ``allow``, ``deny``: (n,) bool. ``out``: arrays (k,) int32 and (k,) uint32 to write to and
        return (their first part where fewer are found). Raises QueryError when a row or weight is out of range.
        """
        if not (rows.dtype is weights.dtype is INT32 and rows.strides == weights.strides == STRIDES):
            rows, weights = exact_int32(rows), exact_int32(weights)
        if len(rows) != len(weights):
            raise QueryError(f"{len(rows)} rows beside {len(weights)} weights")
        try:  # as ``_address`` does: a call costs as much as an array
            address, kind = self._local.address
        except AttributeError:
            address, kind = self._address()
        if out is None:
            # Without ``min``: a call costs as much as an array.
            width = k if 0 < k <= self.item_count else min(self._checked_k(k), self.item_count)
            ids, sums = _empty(width, INT32), _empty(width, _UINT32)
        else:
            ids, sums, width = *out, self._checked_out(out, k)
        hidden = _NO_IDS if seen is None else exact_int32(seen)
        if allow is None and deny is None:
            found = self._plain(address, kind, rows, weights, hidden, ids, sums)
        else:
            filters = Filters(hidden, *self._masks(allow, deny))
            found = prepared.masked_entry()(address, kind, rows, weights, filters, ids, sums)
        if found == width:
            return ids, sums
        if not ready(found):
            return self.search_one(rows, weights, k, seen, allow, deny, out)
        raise_if_bad(found, self.index.row_count)
        return ids[:found], sums[:found]

    def sums_of(self, rows: np.ndarray, weights: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return (R,) uint32: the exact weighted sum of each candidate (int32 ids) over the given rows.

        An id that no list holds, or that is outside the index, gets 0. Raises QueryError as ``search_one``.
        """
        if len(rows) != len(weights):
            raise QueryError(f"{len(rows)} rows beside {len(weights)} weights")
        address, kind = self._address()
        sums = np.empty(len(candidates), np.uint32)
        given = exact_int32(rows), exact_int32(weights), exact_int32(candidates)
        entry = prepared.sums_entry()
        while not ready(status := entry(address, kind, *given, sums)):
            pass
        raise_if_bad(status, self.index.row_count)
        return sums

    @property
    def lists(self) -> Lists:
        """The posting lists of the index, read-only."""
        return self._lists

    def scratch(self) -> Scratch:
        """Return this thread's buffers, made at its first query."""
        if not hasattr(self._local, "scratch"):
            self._local.scratch = Scratch(self.index)
        return self._local.scratch

    def _address(self) -> tuple[Any, Any]:
        """Return where this thread's table of index and scratch is, and its type; made at its first query."""
        try:
            return self._local.address
        except AttributeError:
            address, kind, self._local.table = pack((self._lists, self.scratch().accumulators))
            self._local.address = address, kind
            self._plain = prepared.plain_entry()
            return self._local.address

    def _in_parts(self, answer: Callable[[Scratch, int, int], int], count: int, threads: int) -> int:
        """Run ``answer(scratch, low, high)`` over 0..count in parts, one a thread; returns the first bad status or 0.

        The calling thread does the first part. Scratch of the others is kept for later calls.
        """
        threads = max(1, min(threads, count))
        edges = [count * part // threads for part in range(threads + 1)]
        if threads == 1:
            return answer(self.scratch(), 0, count)

        def borrow(low: int, high: int) -> int:
            try:
                scratch = self._spare.pop()
            except IndexError:
                scratch = Scratch(self.index)
            status = answer(scratch, low, high)
            self._spare.append(scratch)
            return status

        with ThreadPoolExecutor(threads - 1) as pool:
            others = [pool.submit(borrow, *part) for part in pairwise(edges[1:])]
            return min(answer(self.scratch(), 0, edges[1]), *(other.result() for other in others))

    def _checked_out(self, out: tuple[np.ndarray, np.ndarray], k: int) -> int:
        """Return k, which both arrays to write to must have room for, exactly."""
        ids, sums = out
        sound = ids.dtype == INT32 and sums.dtype == _UINT32 and ids.shape == sums.shape == (k,)
        if not (sound and ids.flags.carray and sums.flags.carray):
            what = f"{ids.dtype} of shape {ids.shape} and {sums.dtype} of shape {sums.shape}"
            raise QueryError(f"out: got {what}, expected int32 and uint32 of shape ({k},), contiguous and writeable")
        return self._checked_k(k)

    def _masks(self, allow: np.ndarray | None, deny: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        return self._mask(allow, "allow"), self._mask(deny, "deny")

    def _mask(self, mask: np.ndarray | None, name: str) -> np.ndarray:
        if mask is None:
            return _NO_MASK
        if mask.dtype != np.bool_ or mask.shape != (self.item_count,):
            raise QueryError(f"{name}: got {mask.dtype} of shape {mask.shape}, expected bool ({self.item_count},)")
        return np.ascontiguousarray(mask)

    def _checked_k(self, k: int) -> int:
        if k < 1:
            raise QueryError(f"k is {k}, expected at least 1")
        return k


def open(path: Path | str, *, verify: str = "auto") -> Searcher:
    """Open the index folder ``path`` (RUN/index) as a read-only snapshot.

    ``verify``: ``auto`` (digests and postings, unless these files were verified before), ``full`` or ``none``
    (manifest, sizes and offsets only). Raises CorruptIndexError with the remedy.
    """
    from sparcode.index.store import open_index

    return Searcher(*open_index(Path(path), verify=verify))


def _empty_result(queries: int, k: int) -> SearchResult:
    ids = np.full((queries, k), NO_ITEM, np.int32)
    return SearchResult(ids, np.zeros((queries, k), np.uint32), np.zeros(queries, np.int32))


def raise_if_bad(status: int, row_count: int) -> None:
    """Raise the QueryError that a status below 0 stands for."""
    if status >= 0:
        return
    if status == BAD_ROW:
        raise QueryError(f"a query names a row outside the index; rows are 0..{row_count - 1}")
    if status == BAD_WEIGHT:
        raise QueryError(f"a query weight is outside 1..{MAX_WEIGHT}")
    raise QueryError(f"the weights of a query add up to more than {WIDE_LIMIT // 255}; use smaller weights")


def _checked_weights(weights: np.ndarray) -> np.ndarray:
    weights = np.asarray(weights)
    if weights.size and (weights.min() < 1 or weights.max() > MAX_WEIGHT):
        raise QueryError(f"query weights {weights.min()}..{weights.max()} found, expected 1..{MAX_WEIGHT}")
    return _int32(weights)


def _check_pointer(indptr: np.ndarray, length: int, name: str) -> None:
    sound = len(indptr) > 0 and indptr[0] >= 0 and indptr[-1] <= length and (np.diff(indptr) >= 0).all()
    if not sound:
        raise QueryError(f"{name} must rise within 0..{length}, the length of what it points into")


def _seen(items: np.ndarray | None, indptr: np.ndarray | None, queries: int) -> tuple[np.ndarray, np.ndarray]:
    if items is None or indptr is None:
        return _NO_IDS, np.zeros(queries + 1, np.int64)
    if len(indptr) != queries + 1:
        raise QueryError(f"seen_indptr has {len(indptr)} entries, expected {queries + 1}")
    return _int32(items), _int64(indptr)


def _int32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int32)


def _int64(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int64)
