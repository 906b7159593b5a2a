"""Many queries in one call."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.jit.prefetch import prefetch_lists
from sparcode.query.search.base import Number
from sparcode.query.search.fitting import search_fitting
from sparcode.query.search.query import LINES


@exact
def search_batch(
    entries: np.ndarray,
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
        found = search_fitting(
            entries, indptr, postings, rows[low:high], weights[low:high], narrow, wide, work, hidden, allow, deny,
            ids[b], sums[b],
        )  # fmt: skip
        if found < 0:
            return found
        counts[b] = found
    return np.int64(0)
