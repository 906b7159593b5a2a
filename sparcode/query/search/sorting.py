"""Distinct keys sorted descending."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact, exact_inlined
from sparcode.query.search.base import BUCKETS, SMALL, U0, U1, Number
from sparcode.query.search.best import insert_key
from sparcode.query.search.buckets import bucket_shift, key_range

_CELLS = np.uint64(BUCKETS)
_THREE = np.uint64(3)


@exact
def sort_keys(keys: np.ndarray, spare: np.ndarray, histogram: np.ndarray) -> None:
    """Sort ``keys`` descending: one counting pass over their range, then insertion within buckets."""
    count = np.uint64(len(keys))
    if count <= SMALL:
        insertion_sort(keys)
        return
    low, high = key_range(keys)
    shift = bucket_shift(high - low, min(_CELLS, count << U1))
    for i in range(count):
        histogram[(high - keys[i]) >> shift] += U1
        spare[i] = keys[i]
    place = U0
    last = (high - low) >> shift
    for b in range(U0, last + U1):
        size = histogram[b]
        histogram[b] = place
        place += size
    for i in range(count):
        key = spare[i]
        b = (high - key) >> shift
        keys[histogram[b]] = key
        histogram[b] += U1
    start = U0
    for b in range(U0, last + U1):
        stop = histogram[b]
        histogram[b] = U0
        if stop - start > U1:
            sort_run(keys[start:stop])
        start = stop


@exact
def sort_run(keys: np.ndarray) -> None:
    """Sort one bucket descending: insertion at distances that shrink (Shell), the last of them 1."""
    count = np.uint64(len(keys))
    gap: Number = U1
    while gap * np.uint64(9) <= count:
        gap = gap * _THREE + U1
    while gap > U0:
        insert_keys(keys, gap)
        gap //= _THREE


@exact
def insertion_sort(keys: np.ndarray) -> None:
    """Sort a few keys descending."""
    insert_keys(keys, U1)


@exact_inlined
def insert_keys(keys: np.ndarray, gap: Number) -> None:
    """Sort the keys that stand ``gap`` apart descending, each such row for itself."""
    for i in range(gap, np.uint64(len(keys))):
        insert_key(keys, i, keys[i], gap)
