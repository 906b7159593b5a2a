"""Many queries in one call."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.jit.prefetch import prefetch_lists
from sparcode.query.search.arguments import Accumulators, Answers, Filters, Lists, SparseQuery
from sparcode.query.search.base import Number
from sparcode.query.search.fitting import search_fitting
from sparcode.query.search.query import LINES


@exact
def search_batch(
    lists: Lists,
    query: SparseQuery,
    indptr: np.ndarray,
    accumulators: Accumulators,
    filters: Filters,
    seen_indptr: np.ndarray,
    answers: Answers,
    counts: np.ndarray,
) -> Number:
    """Answer queries ``indptr`` (B + 1,) int64 delimits in the rows of ``query``; returns 0 or a status.

    ``seen_indptr`` (B + 1,) int64 delimits ``filters.seen``. ``answers`` (B, k), ``counts`` (B,) int32: places past a
    query's count are left as they are.
    """
    rows, weights = query
    seen, allow, deny = filters
    ids, sums = answers
    for b in range(len(counts)):
        low, high = indptr[b], indptr[b + 1]
        if b + 1 < len(counts):
            prefetch_lists(lists.indptr, lists.postings, rows[high : indptr[b + 2]], LINES)
        own = Filters(seen[seen_indptr[b] : seen_indptr[b + 1]], allow, deny)
        one = SparseQuery(rows[low:high], weights[low:high])
        found = search_fitting(lists, one, accumulators, own, Answers(ids[b], sums[b]))
        if found < 0:
            return found
        counts[b] = found
    return np.int64(0)
