"""One query in one accumulator: which of the ways to answer it is taken, and the sums of given candidates."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.jit.prefetch import prefetch_lists
from sparcode.query.search.adding import add_lists, clear_lists
from sparcode.query.search.arguments import Answers, Filters, Lists, SparseQuery
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
from sparcode.query.search.one_list import row_postings, search_list
from sparcode.query.search.select import order_best
from sparcode.query.search.threshold import first_threshold
from sparcode.query.search.touched import collect, collect_best, mark_seen

FEW = 16
"""Most results that are kept in order by inserting."""
MOST_CROSSING = 128
"""Most results (and seen items) for which one list is asked for a threshold: lists are seldom longer."""
LINES = 4
"""Lines of each list asked for before the first is read."""


@exact
def search_query(
    lists: Lists,
    query: SparseQuery,
    accumulator: np.ndarray,
    work: np.ndarray,
    filters: Filters,
    answers: Answers,
) -> Number:
    """Answer one query; return the number of results or a negative status, after which scratch is clean.

    ``accumulator`` and ``work``: see ``Accumulators``. TOO_WIDE: the sums may not fit this accumulator, nothing was
    done.
    """
    bound = largest_sum(query, lists)
    if bound < 0:
        return bound
    if bound > (NARROW_LIMIT if accumulator.itemsize == 2 else WIDE_LIMIT):
        return np.int64(TOO_WIDE)
    return search_bounded(lists, query, accumulator, work, filters, answers, np.int64(bound))


@exact
def search_bounded(
    lists: Lists,
    query: SparseQuery,
    accumulator: np.ndarray,
    work: np.ndarray,
    filters: Filters,
    answers: Answers,
    upper_bound: Number,
) -> Number:
    """``search_query`` whose ``largest_sum``, int64, is known and fits the accumulator."""
    rows, (ids, sums) = query.rows, answers
    if len(rows) == 1:
        listed = row_postings(lists, rows[0])
        found = search_list(listed, np.uint64(query.weights[0]), accumulator, work, filters, answers)
        if found >= 0:
            return found
    prefetch_lists(lists.indptr, lists.postings, rows, LINES)
    best, results = best_keys(lists, query, accumulator, work, filters, np.uint64(upper_bound), len(ids))
    for i in range(results):
        ids[i] = ID_MASK - (best[i] & ID_MASK)
        sums[i] = best[i] >> ID_BITS
    return np.int64(results)


@exact
def largest_sum(query: SparseQuery, lists: Lists) -> Number:
    """Return an upper bound of any item's sum, or BAD_ROW / BAD_WEIGHT; ids of an item are once in a row."""
    rows, weights = query
    row_count = len(lists.indptr) - 1
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
    lists: Lists,
    query: SparseQuery,
    accumulator: np.ndarray,
    work: np.ndarray,
    filters: Filters,
    upper_bound: Number,
    k: Number,
) -> tuple[np.ndarray, Number]:
    """Return an array that starts with the keys of the best k, sorted, and their number. Arguments are sound."""
    half = (len(work) - BUCKETS) // 2
    histogram, keys, spare = work[:BUCKETS], work[BUCKETS : BUCKETS + half], work[BUCKETS + half :]
    touched = spare.view(np.uint32)[:half]
    threshold = U1
    need = k + len(filters.seen)
    if k > FEW and need <= MOST_CROSSING and len(filters.allow) == 0 and len(filters.deny) == 0:
        threshold = first_threshold(lists, query, need, histogram)
    count = add_lists(lists, query, accumulator, touched, threshold, keys.view(np.uint32))
    mark_seen(accumulator, filters.seen, U0)
    if 0 < k <= FEW:
        best = keys[:k]
        return best, collect_best(accumulator, touched, count, filters, upper_bound, best)
    found = collect(accumulator, touched, count, filters, upper_bound, keys)
    if threshold > U1:
        clear_lists(lists, query.rows, accumulator)
    return keys, order_best(keys[:found], spare, histogram, k)


@exact
def sum_candidates(
    lists: Lists, query: SparseQuery, accumulator: np.ndarray, candidates: np.ndarray, sums: np.ndarray
) -> Number:
    """Write the sum of every candidate over the rows to ``sums`` (R,) uint32; returns 0 or a status.

    All lists are added, the candidates read, and the lists walked again to clear the accumulator.
    """
    bound = largest_sum(query, lists)
    if bound < 0:
        return bound
    if bound > (NARROW_LIMIT if accumulator.itemsize == 2 else WIDE_LIMIT):
        return np.int64(TOO_WIDE)
    spare = np.uint64(len(accumulator) - 1)
    indptr, postings = lists
    rows, weights = query
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
    clear_lists(lists, rows, accumulator)
    return np.int64(0)
