"""Keys counted in the cells of a histogram, which is all zero between uses."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.query.search.base import U0, U1, Number


@exact
def key_range(keys: np.ndarray) -> tuple[Number, Number]:
    """Return (smallest, largest) key of a non-empty array."""
    low = keys[U0]
    high = low
    for i in range(U1, np.uint64(len(keys))):
        low = min(low, keys[i])
        high = max(high, keys[i])
    return low, high


@exact
def bucket_shift(span: Number, cells: Number) -> Number:
    """Return the smallest shift that maps 0..span to 0..cells - 1."""
    shift = U0
    while (span >> shift) >= cells:
        shift += U1
    return shift


@exact
def threshold_bucket(histogram: np.ndarray, highest: Number, need: Number) -> Number:
    """Return the highest bucket down to which there are ``need`` keys, and clear the cells.

    Cells above ``highest`` are zero. With fewer than ``need`` keys the answer is bucket 0.
    """
    above: Number = U0
    bucket = highest
    while bucket > U0:
        size = histogram[bucket]
        if above + size >= need:
            break
        above += size
        bucket -= U1
    for b in range(U0, highest + U1):
        histogram[b] = U0
    return bucket


@exact
def first_buckets(histogram: np.ndarray, need: Number) -> tuple[Number, Number, Number]:
    """Turn the counts of the first buckets that hold ``need`` keys together into where each bucket starts.

    Returns how many buckets those are, the keys they hold, and the most in one.
    """
    bucket, place, crowd = U0, U0, U0
    while place < need:
        size = histogram[bucket]
        histogram[bucket] = place
        place += size
        crowd = max(crowd, size)
        bucket += U1
    return bucket, place, crowd
