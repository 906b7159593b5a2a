"""From the touched items to the keys of results, clearing their sums; seen items and masks."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.query.search.arguments import Filters
from sparcode.query.search.base import ID_BITS, ID_MASK, U0, U1, Number
from sparcode.query.search.best import insert_key


@exact
def collect(
    accumulator: np.ndarray,
    touched: np.ndarray,
    count: Number,
    filters: Filters,
    upper_bound: Number,
    keys: np.ndarray,
) -> Number:
    """Write the keys of touched items to ``keys`` and clear their sums; return the number of keys.

    Sums are capped at ``upper_bound``, which only damaged lists (an item twice in one) can exceed.
    A key is ``sum << 24 | (2^24 - 1 - id)``: a larger key is a better result. Items with sum zero (seen),
    not allowed or denied give none. Empty ``allow`` / ``deny`` mean no such list.
    """
    spare = np.uint64(len(accumulator) - 1)
    allow, deny = filters.allow, filters.deny
    only = len(allow) > 0
    never = len(deny) > 0
    found = U0
    for i in range(count):
        item = np.uint64(touched[i])
        total = min(np.uint64(accumulator[item]), upper_bound)
        accumulator[item] = 0
        # Counting instead of branching: whether an item is kept is hard to predict.
        keep = np.uint64(total > U0) & np.uint64(item < spare)
        if only and keep:
            keep = np.uint64(allow[item])
        if never and keep:
            keep = np.uint64(not deny[item])
        keys[found] = (total << ID_BITS) | (ID_MASK - item)
        found += keep
    return found


@exact
def collect_best(
    accumulator: np.ndarray,
    touched: np.ndarray,
    count: Number,
    filters: Filters,
    upper_bound: Number,
    best: np.ndarray,
) -> Number:
    """``collect``, but only the largest keys, descending, as ``best`` (k >= 1,) has room; return their number.

    Few keys beat the k-th best so far, so the branch is predicted well while k is small.
    """
    spare = np.uint64(len(accumulator) - 1)
    allow, deny = filters.allow, filters.deny
    last = np.uint64(len(best) - 1)
    best[:] = 0
    found = U0
    for i in range(count):
        item = np.uint64(touched[i])
        total = min(np.uint64(accumulator[item]), upper_bound)
        accumulator[item] = 0
        key = (total << ID_BITS) | (ID_MASK - item)
        if key <= best[last] or total == U0 or item >= spare:
            continue
        if (len(allow) > 0 and not allow[item]) or (len(deny) > 0 and deny[item]):
            continue
        insert_key(best, min(found, last), key, U1)
        found = min(found + U1, last + U1)
    return found


@exact
def eligible(item: Number, accumulator: np.ndarray, filters: Filters) -> bool:
    """Tell whether an item (< n) is neither marked in the accumulator nor kept out by a mask."""
    allow, deny = filters.allow, filters.deny
    if accumulator[item] != 0 or (len(allow) > 0 and not allow[item]):
        return False
    return not (len(deny) > 0 and deny[item])


@exact
def mark_seen(accumulator: np.ndarray, seen: np.ndarray, mark: Number) -> None:
    """Set the sums of the seen items to ``mark``; ids outside 0..n-1 are ignored."""
    items = len(accumulator) - 1
    for i in range(len(seen)):
        if 0 <= seen[i] < items:
            accumulator[np.uint64(seen[i])] = mark
