"""Selection with the project's tie order (score descending, id ascending) and the fill rule, shared by retrievers.

A score of ``-inf`` or ``nan`` means "no evidence": such items are never ranked, only filled in by popularity
(ascending internal id) with score ``nan`` when fewer than k items have a score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sparcode.errors import QueryError
from sparcode.jit import exact
from sparcode.query.search.best import worse
from sparcode.types import NO_ITEM, Hits, Queries

BLOCK_BYTES = 64 << 20
"""Memory of one block of dense scores."""


class Histories(NamedTuple):
    """Histories of B queries for kernels: ``indptr`` (B + 1,) int64, ``items`` int32, ``exclude``: leave them out."""

    indptr: np.ndarray
    items: np.ndarray
    exclude: bool


def check_request(queries: Queries, k: int, item_count: int) -> None:
    """Raise QueryError when ``k`` is not positive or a history holds an id outside ``0 .. item_count - 1``."""
    if k < 1:
        raise QueryError(f"k is {k}; expected at least 1")
    if len(queries.items) and (queries.items.min() < 0 or queries.items.max() >= item_count):
        raise QueryError(f"a history holds an internal item id outside 0..{item_count - 1}")


def empty_hits(rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return padded (rows, k) ids and scores."""
    return np.full((rows, k), NO_ITEM, np.int32), np.full((rows, k), -np.inf, np.float32)


def rank_scores(
    score_block: Callable[[int, int], np.ndarray], queries: Queries, k: int, item_count: int, include_seen: bool
) -> Hits:
    """Rank dense scores block by block: ``score_block(start, stop)`` gives (stop - start, n) float32."""
    check_request(queries, k, item_count)
    ids, scores = empty_hits(len(queries), k)
    step = max(1, BLOCK_BYTES // (4 * max(item_count, 1)))
    for start in range(0, len(queries), step):
        stop = min(start + step, len(queries))
        part = queries.slice(start, stop)
        block = score_block(start, stop)
        rank_rows(block, part.indptr, part.items, not include_seen, ids[start:stop], scores[start:stop])
    return Hits(ids, scores)


@exact
def sift_down(ids: np.ndarray, scores: np.ndarray, root: int, size: int) -> None:
    """Restore the heap whose root is the worst entry."""
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        if child + 1 < size and worse(scores[child + 1], ids[child + 1], scores[child], ids[child]):
            child += 1
        if not worse(scores[child], ids[child], scores[root], ids[root]):
            return
        ids[root], ids[child] = ids[child], ids[root]
        scores[root], scores[child] = scores[child], scores[root]
        root = child


@exact
def sort_heap(ids: np.ndarray, scores: np.ndarray, size: int) -> None:
    """Turn a heap with the worst entry on top into best-first order."""
    for end in range(size - 1, 0, -1):
        ids[0], ids[end] = ids[end], ids[0]
        scores[0], scores[end] = scores[end], scores[0]
        sift_down(ids, scores, 0, end)


@exact
def select(values: np.ndarray, blocked: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> int:
    """Write the best ``len(ids)`` unblocked items of ``values`` (n,) best first; return how many there are."""
    k = len(ids)
    size = 0
    for item in range(len(values)):
        value = values[item]
        # Items come in ascending order, so an equal score never replaces an entry: ties keep the smaller id.
        if size == k:
            if value > scores[0] and not blocked[item]:
                ids[0] = item
                scores[0] = value
                sift_down(ids, scores, 0, k)
        elif value > -np.inf and not blocked[item]:
            ids[size] = item
            scores[size] = value
            size += 1
            if size == k:
                for root in range(k // 2 - 1, -1, -1):
                    sift_down(ids, scores, root, k)
    if size < k:
        for root in range(size // 2 - 1, -1, -1):
            sift_down(ids, scores, root, size)
    sort_heap(ids, scores, size)
    return size


@exact
def fill(blocked: np.ndarray, ids: np.ndarray, scores: np.ndarray, count: int) -> None:
    """Fill places from ``count`` on with the most popular items not yet used (score nan); ``blocked`` is restored."""
    if count == len(ids):
        return
    for place in range(count):
        blocked[ids[place]] = True
    end = count
    for item in range(len(blocked)):
        if end == len(ids):
            break
        if not blocked[item]:
            ids[end] = item
            scores[end] = np.nan
            end += 1
    for place in range(count):
        blocked[ids[place]] = False


@exact
def rank_rows(
    values: np.ndarray, indptr: np.ndarray, items: np.ndarray, exclude: bool, ids: np.ndarray, scores: np.ndarray
) -> None:
    """Rank each row of ``values`` (B, n) into padded ``ids``/``scores`` (B, k), leaving out the row's items."""
    blocked = np.zeros(values.shape[1], np.bool_)
    for row in range(values.shape[0]):
        if exclude:
            for position in range(indptr[row], indptr[row + 1]):
                blocked[items[position]] = True
        count = select(values[row], blocked, ids[row], scores[row])
        fill(blocked, ids[row], scores[row], count)
        for position in range(indptr[row], indptr[row + 1]):
            blocked[items[position]] = False


@exact
def walk_order(
    order: np.ndarray,
    values: np.ndarray,
    item_count: int,
    indptr: np.ndarray,
    items: np.ndarray,
    exclude: bool,
    ids: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Give every query the first unseen items of one fixed ``order`` (its scores: ``values``), then fill."""
    blocked = np.zeros(item_count, np.bool_)
    for row in range(ids.shape[0]):
        if exclude:
            for position in range(indptr[row], indptr[row + 1]):
                blocked[items[position]] = True
        count = 0
        for place in range(len(order)):
            if count == ids.shape[1]:
                break
            if not blocked[order[place]]:
                ids[row, count] = order[place]
                scores[row, count] = values[place]
                count += 1
        fill(blocked, ids[row], scores[row], count)
        for position in range(indptr[row], indptr[row + 1]):
            blocked[items[position]] = False
