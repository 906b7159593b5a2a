"""A first threshold from one list alone: items whose sum does not reach it are never noted."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.query.search.arguments import Lists, SparseQuery
from sparcode.query.search.base import IMPACTS, LOW8, U0, U1, Number
from sparcode.query.search.buckets import threshold_bucket


@exact
def first_threshold(lists: Lists, query: SparseQuery, need: Number, histogram: np.ndarray) -> Number:
    """Return a sum that at least ``need`` items reach, told by the heaviest list; 1 when it is not worth asking.

    The list's ``need``-th largest impact times its weight: a list names an item once. Worth it for lists of twice
    ``need``: of shorter ones most items reach such a sum.
    """
    indptr, postings = lists
    rows, weights = query
    best, most = U0, U0
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        weight = np.uint64(weights[i]) * (max(indptr[row + U1], indptr[row]) - indptr[row])
        if weight > most:
            best, most = np.uint64(i), weight
    end = np.uint64(len(postings))
    if most == U0:
        return U1
    row = np.uint64(rows[best])
    start, stop = min(indptr[row], end), min(indptr[row + U1], end)
    if stop <= start or (stop - start) >> U1 < np.uint64(need):
        return U1
    for p in range(start, stop):
        histogram[np.uint64(postings[p]) & LOW8] += U1
    impact = threshold_bucket(histogram, IMPACTS - U1, np.uint64(need))
    return max(np.uint64(weights[best]) * impact, U1)
