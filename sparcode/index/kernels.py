"""Query kernels: add posting lists in a dense accumulator, select the best k.

Score of an item = sum over the query's rows of weight * impact, an exact integer. Results are ordered by
(sum descending, id ascending). Every kernel is plain Python under numba; ``kernel.py_func`` is the oracle.

What is done depends on the query, the answer does not: one list is counted by impact, without accumulator; up to
FEW results are kept in order by inserting, more are ordered by counting; when one list alone promises the k-th sum,
only items that reach it are noted; and where the accumulator is large, its lines are asked for ahead of time.

Memory safety does not rest on the postings: list bounds are clipped to the postings array, ids to the spare
slot n of the accumulator, and the touched list has room for every item plus the longest list and stops at
its end. Damaged postings give wrong answers, never a write outside a buffer.

Scratch of one thread (see ``searcher.Scratch``): ``accumulator`` (n + 1,) uint16 or uint32, all zero between
calls; ``work`` uint64: BUCKETS histogram cells (all zero between calls), then two halves of equal size.

Unsigned indices throughout: numba adds a fix-up for negative indices to signed ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from sparcode.index.prefetch import prefetch, prefetch_lists

Number = Any
"""A uint64 or int64 scalar (in uncompiled form also a Python int)."""

BUCKETS = 2048
"""Cells of the counting select."""

NARROW_LIMIT = 65535
"""Largest sum a uint16 accumulator holds."""
WIDE_LIMIT = 4294967295
"""Largest sum a uint32 accumulator holds."""

FEW = 16
"""Most results that are kept in order by inserting."""
MOST_CROSSING = 128
"""Most results (and seen items) for which a list is asked what sum it promises: lists are seldom longer."""
LARGE = 1 << 19
"""Items from which an accumulator no longer stays near the processor."""
LINES = 4
"""Lines of each list asked for before the first is read."""
AHEAD = 32
"""Postings between a prefetched place of the accumulator and the one being added to."""

BAD_ROW = -1
BAD_WEIGHT = -2
TOO_WIDE = -3
UNSORTED = -4

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_U8 = np.uint64(8)
_LOW8 = np.uint64(255)
_ID_BITS = np.uint64(24)
_ID_MASK = np.uint64((1 << 24) - 1)
_BUCKETS = np.uint64(BUCKETS)
_SMALL = np.uint64(24)
_IMPACTS = np.uint64(256)
_AHEAD = np.uint64(AHEAD)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def accumulate(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    touched: np.ndarray,
) -> Number:
    """Add all lists; write each item met for the first time to ``touched`` and return how many there are."""
    spare = np.uint64(len(accumulator) - 1)
    end = np.uint64(len(postings))
    room = np.uint64(len(touched))
    count = _U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i])
        start = min(indptr[row], end)
        stop = min(indptr[row + _U1], end)
        # Sound lists always fit (room = n + longest list); a damaged one is cut, not written past the end.
        stop = min(stop, start + (room - count))
        for p in range(start, stop):
            posting = np.uint64(postings[p])
            item = min(posting >> _U8, spare)
            old = np.uint64(accumulator[item])
            accumulator[item] = old + weight * (posting & _LOW8)
            touched[count] = item
            count += np.uint64(old == _U0)
    return count


@njit(cache=True, nogil=True)
def accumulate_crossing(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    touched: np.ndarray,
    floor: Number,
) -> Number:
    """Add all lists; write each item to ``touched`` when its sum reaches ``floor``; return how many there are."""
    spare = np.uint64(len(accumulator) - 1)
    end = np.uint64(len(postings))
    room = np.uint64(len(touched))
    count = _U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i])
        start = min(indptr[row], end)
        stop = min(indptr[row + _U1], end)
        stop = min(stop, start + (room - count))
        for p in range(start, stop):
            posting = np.uint64(postings[p])
            item = min(posting >> _U8, spare)
            old = np.uint64(accumulator[item])
            new = old + weight * (posting & _LOW8)
            accumulator[item] = new
            touched[count] = item
            count += np.uint64(old < floor) & np.uint64(new >= floor)
    return count


@njit(cache=True, nogil=True)
def copy_lists(indptr: np.ndarray, postings: np.ndarray, rows: np.ndarray, copy: np.ndarray) -> Number:
    """Copy all lists, one after the other, to ``copy``; return their postings, or its length if that is too short."""
    end = np.uint64(len(postings))
    room = np.uint64(len(copy))
    total = _U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        start = min(indptr[row], end)
        stop = min(indptr[row + _U1], end)
        if stop > start and stop - start > room - total:
            return room
        for p in range(start, stop):
            copy[total] = postings[p]
            total += _U1
    return total


@njit(cache=True, nogil=True)
def accumulate_ahead(
    indptr: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    touched: np.ndarray,
    floor: Number,
    copy: np.ndarray,
    total: Number,
) -> Number:
    """``accumulate_crossing`` of ``total`` copied postings, which may be read ahead across the ends of lists.

    ``copy`` has room for AHEAD further postings, ``touched`` for as many as there are.
    """
    spare = np.uint64(len(accumulator) - 1)
    copy[total : total + _AHEAD] = 0
    for p in range(_U0, min(_AHEAD, total)):
        prefetch(accumulator, min(np.uint64(copy[p]) >> _U8, spare))
    count = _U0
    start = _U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i])
        stop = start + (max(indptr[row + _U1], indptr[row]) - indptr[row])
        stop = min(stop, total)
        for p in range(start, stop):
            prefetch(accumulator, min(np.uint64(copy[p + _AHEAD]) >> _U8, spare))
            posting = np.uint64(copy[p])
            item = min(posting >> _U8, spare)
            old = np.uint64(accumulator[item])
            new = old + weight * (posting & _LOW8)
            accumulator[item] = new
            touched[count] = item
            count += np.uint64(old < floor) & np.uint64(new >= floor)
        start = stop
    return count


@njit(cache=True, nogil=True)
def add_lists(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    accumulator: np.ndarray,
    touched: np.ndarray,
    floor: Number,
    copy: np.ndarray,
) -> Number:
    """Add all lists and note the items whose sum reaches ``floor`` (>= 1) in ``touched``; return how many there are.

    ``copy``: uint32, scratch.
    """
    if len(accumulator) > LARGE:
        room = min(np.uint64(len(copy)) - _AHEAD, np.uint64(len(touched)))
        total = copy_lists(indptr, postings, rows, copy[:room])
        if total < room:
            return accumulate_ahead(indptr, rows, weights, accumulator, touched, floor, copy, total)
    if floor > _U1:
        return accumulate_crossing(indptr, postings, rows, weights, accumulator, touched, floor)
    return accumulate(indptr, postings, rows, weights, accumulator, touched)


@njit(cache=True, nogil=True)
def clear_lists(indptr: np.ndarray, postings: np.ndarray, rows: np.ndarray, accumulator: np.ndarray) -> None:
    """Set the sums of all items of the lists to zero."""
    spare = np.uint64(len(accumulator) - 1)
    end = np.uint64(len(postings))
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        for p in range(min(indptr[row], end), min(indptr[row + _U1], end)):
            accumulator[min(np.uint64(postings[p]) >> _U8, spare)] = 0


@njit(cache=True, nogil=True)
def promised_sum(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    need: Number,
    histogram: np.ndarray,
) -> Number:
    """Return a sum that at least ``need`` items reach, told by the heaviest list; 1 when it is not worth asking.

    The list's ``need``-th largest impact times its weight: a list names an item once. Worth it for lists of twice
    ``need``: of shorter ones most items reach such a sum.
    """
    best, most = _U0, _U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i]) * (max(indptr[row + _U1], indptr[row]) - indptr[row])
        if weight > most:
            best, most = np.uint64(i), weight
    end = np.uint64(len(postings))
    if most == _U0:
        return _U1
    row = np.uint64(rows[best])
    start, stop = min(indptr[row], end), min(indptr[row + _U1], end)
    if stop <= start or (stop - start) >> _U1 < np.uint64(need):
        return _U1
    for p in range(start, stop):
        histogram[np.uint64(postings[p]) & _LOW8] += _U1
    impact = threshold_bucket(histogram, _IMPACTS - _U1, np.uint64(need))
    return max(np.uint64(weights[best]) * impact, _U1)


@njit(cache=True, nogil=True)
def collect(
    accumulator: np.ndarray,
    touched: np.ndarray,
    count: Number,
    allow: np.ndarray,
    deny: np.ndarray,
    bound: Number,
    keys: np.ndarray,
) -> Number:
    """Write the keys of touched items to ``keys`` and clear their sums; return the number of keys.

    Sums are capped at ``bound``, which only damaged lists (an item twice in one) can exceed.
    A key is ``sum << 24 | (2^24 - 1 - id)``: a larger key is a better result. Items with sum zero (seen),
    not allowed or denied give none. Empty ``allow`` / ``deny`` mean no such list.
    """
    spare = np.uint64(len(accumulator) - 1)
    only = len(allow) > 0
    never = len(deny) > 0
    found = _U0
    for i in range(count):
        item = np.uint64(touched[i])
        total = min(np.uint64(accumulator[item]), bound)
        accumulator[item] = 0
        # Counting instead of branching: whether an item is kept is hard to predict.
        keep = np.uint64(total > _U0) & np.uint64(item < spare)
        if only and keep:
            keep = np.uint64(allow[item])
        if never and keep:
            keep = np.uint64(not deny[item])
        keys[found] = (total << _ID_BITS) | (_ID_MASK - item)
        found += keep
    return found


@njit(cache=True, nogil=True)
def collect_best(
    accumulator: np.ndarray,
    touched: np.ndarray,
    count: Number,
    allow: np.ndarray,
    deny: np.ndarray,
    bound: Number,
    best: np.ndarray,
) -> Number:
    """``collect``, but only the largest keys, descending, as ``best`` (k >= 1,) has room; return their number.

    Few keys beat the k-th best so far, so the branch is predicted well while k is small.
    """
    spare = np.uint64(len(accumulator) - 1)
    last = np.uint64(len(best) - 1)
    best[:] = 0
    found = _U0
    for i in range(count):
        item = np.uint64(touched[i])
        total = min(np.uint64(accumulator[item]), bound)
        accumulator[item] = 0
        key = (total << _ID_BITS) | (_ID_MASK - item)
        if key <= best[last] or total == _U0 or item >= spare:
            continue
        if (len(allow) > 0 and not allow[item]) or (len(deny) > 0 and deny[item]):
            continue
        place: Number = min(found, last)
        while place > _U0 and best[place - _U1] < key:
            best[place] = best[place - _U1]
            place -= _U1
        best[place] = key
        found = min(found + _U1, last + _U1)
    return found


@njit(cache=True, nogil=True)
def threshold_bucket(histogram: np.ndarray, highest: Number, need: Number) -> Number:
    """Return the highest bucket down to which there are ``need`` keys, and clear the cells.

    Cells above ``highest`` are zero. With fewer than ``need`` keys the answer is bucket 0.
    """
    above: Number = _U0
    bucket = highest
    while bucket > _U0:
        size = histogram[bucket]
        if above + size >= need:
            break
        above += size
        bucket -= _U1
    for b in range(_U0, highest + _U1):
        histogram[b] = _U0
    return bucket


@njit(cache=True, nogil=True)
def sort_keys(keys: np.ndarray, spare: np.ndarray, histogram: np.ndarray) -> None:
    """Sort ``keys`` descending: one counting pass over their range, then insertion within buckets."""
    count = np.uint64(len(keys))
    if count <= _SMALL:
        insertion_sort(keys)
        return
    low, high = key_range(keys)
    shift = bucket_shift(high - low, min(_BUCKETS, count << _U1))
    for i in range(count):
        histogram[(high - keys[i]) >> shift] += _U1
        spare[i] = keys[i]
    place = _U0
    last = (high - low) >> shift
    for b in range(_U0, last + _U1):
        size = histogram[b]
        histogram[b] = place
        place += size
    for i in range(count):
        key = spare[i]
        b = (high - key) >> shift
        keys[histogram[b]] = key
        histogram[b] += _U1
    start = _U0
    for b in range(_U0, last + _U1):
        stop = histogram[b]
        histogram[b] = _U0
        if stop - start > _U1:
            sort_run(keys[start:stop])
        start = stop


@njit(cache=True, nogil=True)
def sort_run(keys: np.ndarray) -> None:
    """Sort one bucket descending."""
    if len(keys) <= 24:
        insertion_sort(keys)
    else:
        keys.sort()
        half = np.uint64(len(keys) // 2)
        last = np.uint64(len(keys) - 1)
        for i in range(_U0, half):
            keys[i], keys[last - i] = keys[last - i], keys[i]


@njit(cache=True, nogil=True)
def insertion_sort(keys: np.ndarray) -> None:
    """Sort a few keys descending."""
    for i in range(_U1, np.uint64(len(keys))):
        key = keys[i]
        j: Number = i
        while j > _U0 and keys[j - _U1] < key:
            keys[j] = keys[j - _U1]
            j -= _U1
        keys[j] = key


@njit(cache=True, nogil=True)
def key_range(keys: np.ndarray) -> tuple[Number, Number]:
    """Return (smallest, largest) key of a non-empty array."""
    low = keys[_U0]
    high = low
    for i in range(_U1, np.uint64(len(keys))):
        low = min(low, keys[i])
        high = max(high, keys[i])
    return low, high


@njit(cache=True, nogil=True)
def bucket_shift(span: Number, cells: Number) -> Number:
    """Return the smallest shift that maps 0..span to 0..cells - 1."""
    shift = _U0
    while (span >> shift) >= cells:
        shift += _U1
    return shift


@njit(cache=True, nogil=True)
def keep_largest(keys: np.ndarray, need: Number, histogram: np.ndarray) -> None:
    """Move the ``need`` largest of distinct ``keys`` to the front, in any order; 0 <= need <= len(keys).

    Radix selection: every pass narrows the undecided stretch to one bucket of its range, so it ends after
    at most six passes whatever the keys are.
    """
    start = _U0
    stop = np.uint64(len(keys))
    need = np.uint64(need)
    while start < need < stop:
        stretch = keys[start:stop]
        low, high = key_range(stretch)
        shift = bucket_shift(high - low, _BUCKETS)
        highest = (high - low) >> shift
        for i in range(np.uint64(len(stretch))):
            histogram[(stretch[i] - low) >> shift] += _U1
        bucket = threshold_bucket(histogram, highest, need - start)
        start, stop = split(keys, start, stop, low, shift, bucket)


@njit(cache=True, nogil=True)
def split(
    keys: np.ndarray, start: Number, stop: Number, low: Number, shift: Number, bucket: Number
) -> tuple[Number, Number]:
    """Order ``keys[start:stop]`` as above / in / below ``bucket``; return where the middle part starts and stops."""
    i = start
    while i < stop:
        key = keys[i]
        b = (key - low) >> shift
        if b > bucket:
            keys[i] = keys[start]
            keys[start] = key
            start += _U1
            i += _U1
        elif b < bucket:
            stop -= _U1
            keys[i] = keys[stop]
            keys[stop] = key
        else:
            i += _U1
    return start, stop


@njit(cache=True, nogil=True)
def order_best(keys: np.ndarray, spare: np.ndarray, histogram: np.ndarray, k: Number) -> Number:
    """Return how many results there are (<= k); their keys stand sorted at the front of ``keys``.

    Keys are counted by their distance from the largest, and those of the first buckets that hold k together are put
    in their places; order within a bucket is left to insertion, unless one is crowded.
    """
    count = np.uint64(len(keys))
    results = min(np.uint64(k), count)
    if count <= _SMALL:
        insertion_sort(keys)
        return results
    low, high = key_range(keys)
    shift = bucket_shift(high - low, min(_BUCKETS, count << _U1))
    for i in range(count):
        histogram[(high - keys[i]) >> shift] += _U1
    buckets, placed, crowd = first_buckets(histogram, results)
    if crowd <= _SMALL:
        for i in range(count):
            key = keys[i]
            b = (high - key) >> shift
            if b < buckets:
                spare[histogram[b]] = key
                histogram[b] += _U1
        keys[:placed] = spare[:placed]
        insertion_sort(keys[:placed])
    histogram[: ((high - low) >> shift) + _U1] = 0
    if crowd > _SMALL:
        keep_largest(keys, results, histogram)
        sort_keys(keys[:results], spare, histogram)
    return results


@njit(cache=True, nogil=True)
def first_buckets(histogram: np.ndarray, need: Number) -> tuple[Number, Number, Number]:
    """Turn the counts of the first buckets that hold ``need`` keys together into where each bucket starts.

    Returns how many buckets those are, the keys they hold, and the most in one.
    """
    bucket, place, crowd = _U0, _U0, _U0
    while place < need:
        size = histogram[bucket]
        histogram[bucket] = place
        place += size
        crowd = max(crowd, size)
        bucket += _U1
    return bucket, place, crowd


@njit(cache=True, nogil=True)
def eligible(item: Number, accumulator: np.ndarray, allow: np.ndarray, deny: np.ndarray) -> bool:
    """Tell whether an item (< n) is neither marked in the accumulator nor kept out by a mask."""
    if accumulator[item] != 0 or (len(allow) > 0 and not allow[item]):
        return False
    return not (len(deny) > 0 and deny[item])


@njit(cache=True, nogil=True)
def mark_seen(accumulator: np.ndarray, seen: np.ndarray, mark: Number) -> None:
    """Set the sums of the seen items to ``mark``; ids outside 0..n-1 are ignored."""
    items = len(accumulator) - 1
    for i in range(len(seen)):
        if 0 <= seen[i] < items:
            accumulator[np.uint64(seen[i])] = mark


@njit(cache=True, nogil=True)
def count_impacts(
    listed: np.ndarray,
    accumulator: np.ndarray,
    allow: np.ndarray,
    deny: np.ndarray,
    all_of_them: bool,
    cells: np.ndarray,
) -> bool:
    """Count the eligible items of one list by 255 - impact; False unless its ids ascend within 0..n-1."""
    items = np.uint64(len(accumulator) - 1)
    next_item = _U0
    sound = True
    for p in range(np.uint64(len(listed))):
        posting = np.uint64(listed[p])
        item = posting >> _U8
        sound = sound and bool(item >= next_item) and bool(item < items)
        next_item = item + _U1
        if sound and (all_of_them or eligible(item, accumulator, allow, deny)):
            cells[_LOW8 - (posting & _LOW8)] += _U1
    return sound


@njit(cache=True, nogil=True)
def search_list(
    listed: np.ndarray,
    weight: Number,
    accumulator: np.ndarray,
    cells: np.ndarray,
    seen: np.ndarray,
    allow: np.ndarray,
    deny: np.ndarray,
    ids: np.ndarray,
    sums: np.ndarray,
) -> Number:
    """Answer a query of one list (P,) by counting its impacts; results, or UNSORTED where that is no sound list.

    ``cells``: the histogram. Ids ascend in a list, so places given in its order are those of the answer.
    """
    all_of_them = len(seen) == 0 and len(allow) == 0 and len(deny) == 0
    mark_seen(accumulator, seen, 1)
    sound = count_impacts(listed, accumulator, allow, deny, all_of_them, cells)
    cells[_LOW8] = 0
    k = np.uint64(len(ids))
    total, stop = _U0, _U0
    while sound and total < k and stop < _LOW8:
        size = cells[stop]
        cells[stop] = total
        total += size
        stop += _U1
    for p in range(np.uint64(len(listed)) if stop > _U0 else _U0):
        posting = np.uint64(listed[p])
        cell = _LOW8 - (posting & _LOW8)
        if cell < stop and (all_of_them or eligible(posting >> _U8, accumulator, allow, deny)):
            place = cells[cell]
            cells[cell] += _U1
            if place < k:
                ids[place] = posting >> _U8
                sums[place] = weight * (posting & _LOW8)
    cells[:_IMPACTS] = 0
    mark_seen(accumulator, seen, 0)
    return np.int64(min(total, k)) if sound else np.int64(UNSORTED)


@njit(cache=True, nogil=True)
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
        ids[i] = _ID_MASK - (best[i] & _ID_MASK)
        sums[i] = best[i] >> _ID_BITS
    return np.int64(results)


@njit(cache=True, nogil=True)
def row_postings(indptr: np.ndarray, postings: np.ndarray, row: Number) -> np.ndarray:
    """Return one list (P,), clipped to the postings array."""
    end = np.uint64(len(postings))
    start = min(indptr[np.uint64(row)], end)
    return postings[start : max(start, min(indptr[np.uint64(row) + _U1], end))]


@njit(cache=True, nogil=True)
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
    floor = _U1
    need = k + len(seen)
    if k > FEW and need <= MOST_CROSSING and len(allow) == 0 and len(deny) == 0:
        floor = promised_sum(indptr, postings, rows, weights, need, histogram)
    count = add_lists(indptr, postings, rows, weights, accumulator, touched, floor, keys.view(np.uint32))
    mark_seen(accumulator, seen, 0)
    if 0 < k <= FEW:
        best = keys[:k]
        return best, collect_best(accumulator, touched, count, allow, deny, bound, best)
    found = collect(accumulator, touched, count, allow, deny, bound, keys)
    if floor > _U1:
        clear_lists(indptr, postings, rows, accumulator)
    return keys, order_best(keys[:found], spare, histogram, k)


@njit(cache=True, nogil=True)
def search_batch(
    indptr: np.ndarray,
    postings: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    query_indptr: np.ndarray,
    narrow: np.ndarray,
    wide: np.ndarray,
    work: np.ndarray,
    seen_indptr: np.ndarray,
    seen: np.ndarray,
    allow: np.ndarray,
    deny: np.ndarray,
    ids: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
) -> Number:
    """Answer queries ``query_indptr`` (B + 1,) int64 delimits in ``rows`` / ``weights``; returns 0 or a status.

    ``narrow``, ``wide``: the uint16 and uint32 accumulators; ``seen_indptr`` (B + 1,) int64 delimits ``seen``.
    ``ids``, ``sums``: (B, k), ``counts``: (B,) int32. Places past a query's count are left as they are.
    """
    for b in range(len(counts)):
        low, high = query_indptr[b], query_indptr[b + 1]
        if b + 1 < len(counts):
            prefetch_lists(indptr, postings, rows[high : query_indptr[b + 2]], LINES)
        hidden = seen[seen_indptr[b] : seen_indptr[b + 1]]
        some, how_much = rows[low:high], weights[low:high]
        found = search_query(indptr, postings, some, how_much, narrow, work, hidden, allow, deny, ids[b], sums[b])
        if found == TOO_WIDE:
            found = search_query(indptr, postings, some, how_much, wide, work, hidden, allow, deny, ids[b], sums[b])
        if found < 0:
            return found
        counts[b] = found
    return np.int64(0)


@njit(cache=True, nogil=True)
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
        for p in range(min(indptr[row], end), min(indptr[row + _U1], end)):
            posting = np.uint64(postings[p])
            item = min(posting >> _U8, spare)
            accumulator[item] = np.uint64(accumulator[item]) + weight * (posting & _LOW8)
    for i in range(len(candidates)):
        known = 0 <= candidates[i] < len(accumulator) - 1
        sums[i] = accumulator[np.uint64(candidates[i])] if known else 0
    clear_lists(indptr, postings, rows, accumulator)
    return np.int64(0)
