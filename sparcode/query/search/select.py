"""The largest keys, sorted, by counting."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.query.search.base import BUCKETS, SMALL, U0, U1, Number
from sparcode.query.search.buckets import bucket_shift, first_buckets, key_range, threshold_bucket
from sparcode.query.search.sorting import insertion_sort, sort_keys

_CELLS = np.uint64(BUCKETS)


@exact
def order_best(keys: np.ndarray, spare: np.ndarray, histogram: np.ndarray, k: Number) -> Number:
    """Return how many results there are (<= k); their keys stand sorted at the front of ``keys``.

    Keys are counted by their distance from the largest, and those of the first buckets that hold k together are put
    in their places; order within a bucket is left to insertion, unless one is crowded.
    """
    count = np.uint64(len(keys))
    results = min(np.uint64(k), count)
    if count <= SMALL:
        insertion_sort(keys)
        return results
    low, high = key_range(keys)
    shift = bucket_shift(high - low, min(_CELLS, count << U1))
    for i in range(count):
        histogram[(high - keys[i]) >> shift] += U1
    buckets, placed, crowd = first_buckets(histogram, results)
    if crowd <= SMALL:
        for i in range(count):
            key = keys[i]
            b = (high - key) >> shift
            if b < buckets:
                spare[histogram[b]] = key
                histogram[b] += U1
        for i in range(placed):
            keys[i] = spare[i]
        insertion_sort(keys[:placed])
    histogram[: ((high - low) >> shift) + U1] = 0
    if crowd > SMALL:
        keep_largest(keys, results, histogram)
        sort_keys(keys[:results], spare, histogram)
    return results


@exact
def keep_largest(keys: np.ndarray, need: Number, histogram: np.ndarray) -> None:
    """Move the ``need`` largest of distinct ``keys`` to the front, in any order; 0 <= need <= len(keys).

    Radix selection: every pass narrows the undecided stretch to one bucket of its range, so it ends after
    at most six passes whatever the keys are.
    """
    start = U0
    stop = np.uint64(len(keys))
    need = np.uint64(need)
    while start < need < stop:
        stretch = keys[start:stop]
        low, high = key_range(stretch)
        shift = bucket_shift(high - low, _CELLS)
        highest = (high - low) >> shift
        for i in range(np.uint64(len(stretch))):
            histogram[(stretch[i] - low) >> shift] += U1
        bucket = threshold_bucket(histogram, highest, need - start)
        start, stop = split(keys, start, stop, low, shift, bucket)


@exact
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
            start += U1
            i += U1
        elif b < bucket:
            stop -= U1
            keys[i] = keys[stop]
            keys[stop] = key
        else:
            i += U1
    return start, stop
