"""One query in one accumulator: which of the ways to answer it is taken, and the sums of given candidates."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.jit.prefetch import prefetch_lists
from sparcode.query.search.adding import add_lists, clear_lists
from sparcode.query.search.base import (
    BAD_ROW,
    BAD_WEIGHT,
    BUCKETS,
    ID_BITS,
    ID_MASK,
    LOW8,
    NARROW_LIMIT,
    TOO_WIDE,
    U0,
    U1,
    U8,
    WIDE_LIMIT,
    Number,
)  # fmt: skip
from sparcode.query.search.crossing import promised_sum
from sparcode.query.search.one_list import row_postings, search_list
from sparcode.query.search.select import order_best
from sparcode.query.search.touched import collect, collect_best, mark_seen

FEW = 16
"""Most results that are kept in order by inserting."""
MOST_CROSSING = 128
"""Most results (and seen items) for which a list is asked what sum it promises: lists are seldom longer."""
LINES = 4
"""Lines of each list asked for before the first is read."""


@exact
def search_query(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    work: np.ndarray,
    seen: np.ndarray,
    allow: np.ndarray,
    deny: np.ndarray,
    ids: np.ndarray,
    sums: np.ndarray,
) -> Number:
    """Answer one query; return the number of results or a negative status, after which scratch is clean.

    ``rows``, ``weights``: (K,) int32. ``seen``: int32 item ids. ``allow``, ``deny``: (n,) bool or empty.
    ``ids`` (k,) int32 and ``sums`` (k,) uint32 receive the best k. TOO_WIDE: the sums may not fit this
    accumulator, nothing was done.
    """
    bound = largest_sum(rows, weights, len(indptr) - 1)
    if bound < 0:
        return bound
    if bound > (NARROW_LIMIT if accumulator.itemsize == 2 else WIDE_LIMIT):
        return np.int64(TOO_WIDE)
    return search_bounded(
        indptr, postings, rows, weights, accumulator, work, seen, allow, deny, ids, sums, np.int64(bound)
    )


@exact
def search_bounded(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    work: np.ndarray,
    seen: np.ndarray,
    allow: np.ndarray,
    deny: np.ndarray,
    ids: np.ndarray,
    sums: np.ndarray,
    bound: Number,
) -> Number:
    """``search_query`` whose ``largest_sum``, int64, is known and fits the accumulator."""
    if len(rows) == 1:
        listed = row_postings(indptr, postings, rows[0])
        found = search_list(listed, np.uint64(weights[0]), accumulator, work, seen, allow, deny, ids, sums)
        if found >= 0:
            return found
    prefetch_lists(indptr, postings, rows, LINES)
    best, results = best_keys(
        indptr, postings, rows, weights, accumulator, work, seen, allow, deny, np.uint64(bound), len(ids)
    )
    for i in range(results):
        ids[i] = ID_MASK - (best[i] & ID_MASK)
        sums[i] = best[i] >> ID_BITS
    return np.int64(results)


@exact
def largest_sum(rows: np.ndarray, weights: np.ndarray, row_count: Number) -> Number:
    """Return an upper bound of any item's sum, or BAD_ROW / BAD_WEIGHT; ids of an item are once in a row."""
    total = np.int64(0)
    for i in range(len(rows)):
        if rows[i] < 0 or rows[i] >= row_count:
            return BAD_ROW
        if weights[i] < 1:
            return BAD_WEIGHT
        total += weights[i]
    return total * 255


@exact
def best_keys(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    work: np.ndarray,
    seen: np.ndarray,
    allow: np.ndarray,
    deny: np.ndarray,
    bound: Number,
    k: Number,
) -> tuple[np.ndarray, Number]:
    """Return an array that starts with the keys of the best k, sorted, and their number. Arguments are sound."""
    half = (len(work) - BUCKETS) // 2
    histogram, keys, spare = work[:BUCKETS], work[BUCKETS : BUCKETS + half], work[BUCKETS + half :]
    touched = spare.view(np.uint32)[:half]
    floor = U1
    need = k + len(seen)
    if k > FEW and need <= MOST_CROSSING and len(allow) == 0 and len(deny) == 0:
        floor = promised_sum(indptr, postings, rows, weights, need, histogram)
    count = add_lists(indptr, postings, rows, weights, accumulator, touched, floor, keys.view(np.uint32))
    mark_seen(accumulator, seen, U0)
    if 0 < k <= FEW:
        best = keys[:k]
        return best, collect_best(accumulator, touched, count, allow, deny, bound, best)
    found = collect(accumulator, touched, count, allow, deny, bound, keys)
    if floor > U1:
        clear_lists(indptr, postings, rows, accumulator)
    return keys, order_best(keys[:found], spare, histogram, k)


@exact
def sum_candidates(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    candidates: np.ndarray,
    sums: np.ndarray,
) -> Number:
    """Write the sum of every candidate over the rows to ``sums`` (R,) uint32; returns 0 or a status.

    All lists are added, the candidates read, and the lists walked again to clear the accumulator.
    """
    bound = largest_sum(rows, weights, len(indptr) - 1)
    if bound < 0:
        return bound
    if bound > (NARROW_LIMIT if accumulator.itemsize == 2 else WIDE_LIMIT):
        return np.int64(TOO_WIDE)
    spare = np.uint64(len(accumulator) - 1)
    end = np.uint64(len(postings))
    prefetch_lists(indptr, postings, rows, LINES)
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i])
        for p in range(min(indptr[row], end), min(indptr[row + U1], end)):
            posting = np.uint64(postings[p])
            item = min(posting >> U8, spare)
            accumulator[item] = np.uint64(accumulator[item]) + weight * (posting & LOW8)
    for i in range(len(candidates)):
        known = 0 <= candidates[i] < len(accumulator) - 1
        sums[i] = accumulator[np.uint64(candidates[i])] if known else 0
    clear_lists(indptr, postings, rows, accumulator)
    return np.int64(0)
