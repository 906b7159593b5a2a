"""Add posting lists in a dense accumulator and note the items whose sum reaches a threshold, each once.

Where the accumulator is large, the postings are copied first, so that its lines can be asked for ahead of time.

Memory safety does not rest on the postings: list bounds are clipped to the postings array, ids to the spare
slot n of the accumulator, and the touched list has room for every item plus the longest list and stops at its end.
"""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.jit.prefetch import prefetch
from sparcode.query.search.arguments import Lists, SparseQuery
from sparcode.query.search.base import LOW8, U0, U1, U8, Number

LARGE = 1 << 19
"""Items from which an accumulator no longer stays near the processor."""
AHEAD = 32
"""Postings between a prefetched place of the accumulator and the one being added to."""
_AHEAD = np.uint64(AHEAD)


@exact
def add_lists(
    lists: Lists,
    query: SparseQuery,
    accumulator: np.ndarray,
    touched: np.ndarray,
    threshold: Number,
    copy: np.ndarray,
) -> Number:
    """Add all lists and note the items whose sum reaches ``threshold`` in ``touched``; return how many there are.

    ``threshold``: at least 1; ``copy``: uint32, scratch.
    """
    if len(accumulator) > LARGE:
        room = min(np.uint64(len(copy)) - _AHEAD, np.uint64(len(touched)))
        total = copy_lists(lists, query.rows, copy[:room])
        if total < room:
            return accumulate_ahead(lists, query, accumulator, touched, threshold, copy, total)
    if threshold > U1:
        return accumulate_crossing(lists, query, accumulator, touched, threshold)
    return accumulate(lists, query, accumulator, touched)


@exact
def accumulate(lists: Lists, query: SparseQuery, accumulator: np.ndarray, touched: np.ndarray) -> Number:
    """``accumulate_crossing`` at threshold 1: the shorter test makes a query of few results a seventh faster."""
    indptr, postings = lists
    rows, weights = query
    spare = np.uint64(len(accumulator) - 1)
    end = np.uint64(len(postings))
    room = np.uint64(len(touched))
    count = U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i])
        start = min(indptr[row], end)
        stop = min(indptr[row + U1], end)
        # Sound lists always fit (room = n + longest list); a damaged one is cut, not written past the end.
        stop = min(stop, start + (room - count))
        for p in range(start, stop):
            posting = np.uint64(postings[p])
            item = min(posting >> U8, spare)
            old = np.uint64(accumulator[item])
            accumulator[item] = old + weight * (posting & LOW8)
            touched[count] = item
            count += np.uint64(old == U0)
    return count


@exact
def accumulate_crossing(
    lists: Lists,
    query: SparseQuery,
    accumulator: np.ndarray,
    touched: np.ndarray,
    threshold: Number,
) -> Number:
    """Add all lists; write each item to ``touched`` when its sum reaches ``threshold``; return how many there are."""
    indptr, postings = lists
    rows, weights = query
    spare = np.uint64(len(accumulator) - 1)
    end = np.uint64(len(postings))
    room = np.uint64(len(touched))
    count = U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i])
        start = min(indptr[row], end)
        stop = min(indptr[row + U1], end)
        # Sound lists always fit (room = n + longest list); a damaged one is cut, not written past the end.
        stop = min(stop, start + (room - count))
        for p in range(start, stop):
            posting = np.uint64(postings[p])
            item = min(posting >> U8, spare)
            old = np.uint64(accumulator[item])
            new = old + weight * (posting & LOW8)
            accumulator[item] = new
            touched[count] = item
            count += np.uint64(old < threshold) & np.uint64(new >= threshold)
    return count


@exact
def copy_lists(lists: Lists, rows: np.ndarray, copy: np.ndarray) -> Number:
    """Copy all lists, one after the other, to ``copy``; return their postings, or its length if that is too short."""
    indptr, postings = lists
    end = np.uint64(len(postings))
    room = np.uint64(len(copy))
    total = U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        start = min(indptr[row], end)
        stop = min(indptr[row + U1], end)
        if stop > start and stop - start > room - total:
            return room
        for p in range(start, stop):
            copy[total] = postings[p]
            total += U1
    return total


@exact
def accumulate_ahead(
    lists: Lists,
    query: SparseQuery,
    accumulator: np.ndarray,
    touched: np.ndarray,
    threshold: Number,
    copy: np.ndarray,
    total: Number,
) -> Number:
    """``accumulate_crossing`` of ``total`` copied postings, which may be read ahead across the ends of lists.

    ``copy`` has room for AHEAD further postings, ``touched`` for as many as there are.
    """
    indptr = lists.indptr
    rows, weights = query
    spare = np.uint64(len(accumulator) - 1)
    copy[total : total + _AHEAD] = 0
    for p in range(U0, min(_AHEAD, total)):
        prefetch(accumulator, min(np.uint64(copy[p]) >> U8, spare))
    count = U0
    start = U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i])
        stop = start + (max(indptr[row + U1], indptr[row]) - indptr[row])
        stop = min(stop, total)
        for p in range(start, stop):
            prefetch(accumulator, min(np.uint64(copy[p + _AHEAD]) >> U8, spare))
            posting = np.uint64(copy[p])
            item = min(posting >> U8, spare)
            old = np.uint64(accumulator[item])
            new = old + weight * (posting & LOW8)
            accumulator[item] = new
            touched[count] = item
            count += np.uint64(old < threshold) & np.uint64(new >= threshold)
        start = stop
    return count


@exact
def clear_lists(lists: Lists, rows: np.ndarray, accumulator: np.ndarray) -> None:
    """Set the sums of all items of the lists to zero."""
    indptr, postings = lists
    spare = np.uint64(len(accumulator) - 1)
    end = np.uint64(len(postings))
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        for p in range(min(indptr[row], end), min(indptr[row + U1], end)):
            accumulator[min(np.uint64(postings[p]) >> U8, spare)] = 0
