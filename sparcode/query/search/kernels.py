"""Query kernels: add posting lists in a dense accumulator, select the best k.

Score of an item = sum over the query's rows of weight * impact, an exact integer. Results are ordered by
(sum descending, id ascending). Every kernel is plain Python under numba; ``kernel.py_func`` is the oracle.

What is done depends on the query, the answer does not: one list is counted by impact, without accumulator
(``one_list``); else lists are added (``adding``), and when one alone promises the k-th sum, only items that reach it
are noted (``crossing``). Up to FEW results are kept in order by inserting (``touched``), more are ordered by counting
(``select``). ``query`` puts this together, ``fitting`` chooses the accumulator, ``batch`` takes many queries.

Scratch of one thread (see ``searcher.Scratch``): ``accumulator`` (n + 1,) uint16 or uint32, all zero between
calls; ``work`` uint64: BUCKETS histogram cells (all zero between calls), then two halves of equal size.
"""

from sparcode.query.search.base import BAD_ROW, BAD_WEIGHT, BUCKETS, NARROW_LIMIT, TOO_WIDE, WIDE_LIMIT
from sparcode.query.search.batch import search_batch
from sparcode.query.search.fitting import ENTRIES, ready, search_fitting, sum_fitting
from sparcode.query.search.query import search_query, sum_candidates
from sparcode.query.search.touched import mark_seen

__all__ = [
    "BAD_ROW", "BAD_WEIGHT", "BUCKETS", "ENTRIES", "NARROW_LIMIT", "TOO_WIDE", "WIDE_LIMIT", "mark_seen", "ready",
    "search_batch", "search_fitting", "search_query", "sum_candidates", "sum_fitting",
]  # fmt: skip
