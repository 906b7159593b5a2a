"""A query of one list: its impacts are counted, nothing is added."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.query.search.arguments import Answers, Filters, Lists
from sparcode.query.search.base import IMPACTS, LOW8, U0, U1, U8, UNSORTED, Number
from sparcode.query.search.touched import eligible, mark_seen


@exact
def row_postings(lists: Lists, row: Number) -> np.ndarray:
    """Return one list (P,), clipped to the postings array."""
    indptr, postings = lists
    end = np.uint64(len(postings))
    start = min(indptr[np.uint64(row)], end)
    return postings[start : max(start, min(indptr[np.uint64(row) + U1], end))]


@exact
def search_list(
    listed: np.ndarray,
    weight: Number,
    accumulator: np.ndarray,
    cells: np.ndarray,
    filters: Filters,
    answers: Answers,
) -> Number:
    """Answer a query of one list (P,) by counting its impacts; results, or UNSORTED where that is no sound list.

    ``cells``: the histogram. Ids ascend in a list, so places given in its order are those of the answer.
    """
    seen, allow, deny = filters
    ids, sums = answers
    all_of_them = len(seen) == 0 and len(allow) == 0 and len(deny) == 0
    mark_seen(accumulator, seen, U1)
    sound = count_impacts(listed, accumulator, filters, all_of_them, cells)
    cells[LOW8] = 0
    k = np.uint64(len(ids))
    total, stop = U0, U0
    while sound and total < k and stop < LOW8:
        size = cells[stop]
        cells[stop] = total
        total += size
        stop += U1
    for p in range(np.uint64(len(listed)) if stop > U0 else U0):
        posting = np.uint64(listed[p])
        cell = LOW8 - (posting & LOW8)
        if cell < stop and (all_of_them or eligible(posting >> U8, accumulator, filters)):
            place = cells[cell]
            cells[cell] += U1
            if place < k:
                ids[place] = posting >> U8
                sums[place] = weight * (posting & LOW8)
    cells[:IMPACTS] = 0
    mark_seen(accumulator, seen, U0)
    return np.int64(min(total, k)) if sound else np.int64(UNSORTED)


@exact
def count_impacts(
    listed: np.ndarray, accumulator: np.ndarray, filters: Filters, all_of_them: bool, cells: np.ndarray
) -> bool:
    """Count the eligible items of one list by 255 - impact; False unless its ids ascend within 0..n-1."""
    items = np.uint64(len(accumulator) - 1)
    next_item = U0
    sound = True
    for p in range(np.uint64(len(listed))):
        posting = np.uint64(listed[p])
        item = posting >> U8
        sound = sound and bool(item >= next_item) and bool(item < items)
        next_item = item + U1
        if sound and (all_of_them or eligible(item, accumulator, filters)):
            cells[LOW8 - (posting & LOW8)] += U1
    return sound
