"""Query kernels: add posting lists in a dense accumulator, select the best k by counting.

Score of an item = sum over the query's rows of weight * impact, an exact integer. Results are ordered by
(sum descending, id ascending). Every kernel is plain Python under numba; ``kernel.py_func`` is the oracle.

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

Number = Any
"""A uint64 or int64 scalar (in uncompiled form also a Python int)."""

BUCKETS = 2048
"""Cells of the counting select."""

NARROW_LIMIT = 65535
"""Largest sum a uint16 accumulator holds."""
WIDE_LIMIT = 4294967295
"""Largest sum a uint32 accumulator holds."""

BAD_ROW = -1
BAD_WEIGHT = -2
TOO_WIDE = -3

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_U8 = np.uint64(8)
_LOW8 = np.uint64(255)
_ID_BITS = np.uint64(24)
_ID_MASK = np.uint64((1 << 24) - 1)
_BUCKETS = np.uint64(BUCKETS)
_SMALL = np.uint64(24)


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
def drop_seen(accumulator: np.ndarray, seen: np.ndarray) -> None:
    """Set the sums of the seen items to zero; ids outside 0..n-1 are ignored."""
    items = len(accumulator) - 1
    for i in range(len(seen)):
        if 0 <= seen[i] < items:
            accumulator[np.uint64(seen[i])] = 0


@njit(cache=True, nogil=True)
def collect(
    accumulator: np.ndarray,
    touched: np.ndarray,
    count: Number,
    allow: np.ndarray,
    deny: np.ndarray,
    bound: Number,
    histogram: np.ndarray,
    shift: Number,
) -> Number:
    """Turn touched items into keys in place, clear the accumulator, count keys by sum >> shift.

    Sums are capped at ``bound``, which only damaged lists (an item twice in one) can exceed.
    A key is ``sum << 24 | (2^24 - 1 - id)``: a larger key is a better result. Items with sum zero (seen),
    not allowed or denied give none. Empty ``allow`` / ``deny`` mean no such list. Returns the number of keys.
    """
    spare = np.uint64(len(accumulator) - 1)
    only = len(allow) > 0
    never = len(deny) > 0
    keys = _U0
    for i in range(count):
        item = touched[i]
        total = min(np.uint64(accumulator[item]), bound)
        accumulator[item] = 0
        # Counting instead of branching: whether an item is kept is hard to predict.
        keep = np.uint64(total > _U0) & np.uint64(item < spare)
        if only and keep:
            keep = np.uint64(allow[item])
        if never and keep:
            keep = np.uint64(not deny[item])
        touched[keys] = (total << _ID_BITS) | (_ID_MASK - item)
        histogram[total >> shift] += keep
        keys += keep
    return keys


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
def partition(keys: np.ndarray, spare: np.ndarray, bucket: Number, shift: Number) -> tuple[Number, Number]:
    """Move keys above ``bucket`` (of key >> shift) to the front of ``keys``, its own to ``spare``; counts of both."""
    above = _U0
    equal = _U0
    for i in range(np.uint64(len(keys))):
        key = keys[i]
        b = key >> shift
        keys[above] = key
        spare[equal] = key
        above += np.uint64(b > bucket)
        equal += np.uint64(b == bucket)
    return above, equal


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
def select(
    keys: np.ndarray, spare: np.ndarray, histogram: np.ndarray, highest: Number, shift: Number, k: Number
) -> Number:
    """Return how many results there are (<= k); their keys stand sorted at the front of ``keys``.

    ``histogram`` holds the counts by ``key >> shift`` on entry and zeros on return.
    """
    bucket = threshold_bucket(histogram, highest, np.uint64(k))
    above, equal = partition(keys, spare, bucket, shift)
    results = min(np.uint64(k), above + equal)
    needed = results - above
    keep_largest(spare[:equal], needed, histogram)
    for i in range(_U0, needed):
        keys[above + i] = spare[i]
    sort_keys(keys[:results], spare, histogram)
    return results


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
    histogram = work[:BUCKETS]
    half = (len(work) - BUCKETS) // 2
    touched = work[BUCKETS : BUCKETS + half]
    spare = work[BUCKETS + half :]
    count = accumulate(indptr, postings, rows, weights, accumulator, touched)
    drop_seen(accumulator, seen)
    limit = np.uint64(bound)
    shift = bucket_shift(limit, _BUCKETS)
    found = collect(accumulator, touched, count, allow, deny, limit, histogram, shift)
    results = select(touched[:found], spare, histogram, limit >> shift, shift + _ID_BITS, len(ids))
    for i in range(results):
        ids[i] = _ID_MASK - (touched[i] & _ID_MASK)
        sums[i] = touched[i] >> _ID_BITS
    return np.int64(results)


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
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        for p in range(min(indptr[row], end), min(indptr[row + _U1], end)):
            accumulator[min(np.uint64(postings[p]) >> _U8, spare)] = 0
    return np.int64(0)
