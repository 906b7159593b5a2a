"""The accumulator a query needs: the narrow one while its sums fit, else the wide one.

The kernels behind are called by address (see ``linked``), so nothing that calls them holds their code, and each is
compiled when the first query needs it: until then its entry is 0 and the status names it. ``ready`` compiles it.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from sparcode.errors import SparcodeError
from sparcode.jit import exact_inlined, types
from sparcode.jit.addresses import address_of, linked
from sparcode.query.search.arguments import Accumulators, Answers, Filters, Lists, SparseQuery
from sparcode.query.search.base import NARROW_LIMIT, TOO_WIDE, WIDE_LIMIT, Number
from sparcode.query.search.query import largest_sum, search_bounded, sum_candidates

MISSING = -100
"""The status ``MISSING - slot``: the kernel of a slot of ``ENTRIES`` must be compiled first."""

_INTS, _SUMS, _MASK = types.int32[::1], types.uint32[::1], types.boolean[::1]
_LISTS = types.NamedTuple([types.Array(kind, 1, "C", readonly=True) for kind in (types.uint64, types.uint32)], Lists)
_QUERY = types.NamedUniTuple(_INTS, 2, SparseQuery)
_FILTERS, _ANSWERS = types.NamedTuple((_INTS, _MASK, _MASK), Filters), types.NamedTuple((_INTS, _SUMS), Answers)
_WIDTHS = (types.uint16[::1], types.uint32[::1])
_SEARCHES = [(_LISTS, _QUERY, own, types.uint64[::1], _FILTERS, _ANSWERS, types.int64) for own in _WIDTHS]
_SUMMINGS = [(_LISTS, _QUERY, own, _INTS, _SUMS) for own in _WIDTHS]
_search = linked(search_bounded, types.int64, *_SEARCHES)
_sum = linked(sum_candidates, types.int64, *_SUMMINGS)
_KERNELS = [*((search_bounded, own) for own in _SEARCHES), *((sum_candidates, own) for own in _SUMMINGS)]
_CALLS = [(kernel.py_func.__code__.co_varnames[: len(own)], list(map(str, own))) for kernel, own in _KERNELS]
_STAMP, _CALLED = np.uint64(len(_KERNELS)), np.uint64(crc32(repr(_CALLS).encode()))
STALE = MISSING - len(_KERNELS)
"""A caller from numba's cache, which looks at the caller's file only, would call these kernels as earlier ones."""

ENTRIES = np.array([0] * len(_KERNELS) + [_CALLED], np.uint64)
"""Where the kernels start: search in the narrow and in the wide accumulator, sums of candidates in either; 0: not yet.

The last entry tells callers how these are called. A part of ``Accumulators``: all in a process share this one."""


def ready(status: int) -> bool:
    """Tell whether a status is final; if not, what was missing is there now and the call is to be repeated.

    Raises SparcodeError on STALE.
    """
    if status > MISSING:
        return True
    if status == STALE:
        raise SparcodeError(
            "numba's cache holds query kernels of another version of sparcode; delete the *.nbi and *.nbc files in the "
            "installed package, or in NUMBA_CACHE_DIR, and start again"
        )
    slot = int(MISSING - status)
    ENTRIES[slot] = address_of(*_KERNELS[slot])
    return False


@exact_inlined
def search_fitting(
    lists: Lists, query: SparseQuery, accumulators: Accumulators, filters: Filters, answers: Answers
) -> Number:
    """``search_query`` in the accumulator that is wide enough; or the status of what is missing."""
    bound = largest_sum(query, lists)
    if bound < 0:
        return bound
    if bound > WIDE_LIMIT:
        return np.int64(TOO_WIDE)
    entries, narrow, wide, work = accumulators
    slot = np.int64(bound > NARROW_LIMIT)
    entry = entries[slot]
    if entries[_STAMP] != _CALLED:
        return np.int64(STALE)
    if entry == 0:
        return np.int64(MISSING) - slot
    if slot == 0:
        return _search(entry, lists, query, narrow, work, filters, answers, bound)
    return _search(entry, lists, query, wide, work, filters, answers, bound)


@exact_inlined
def sum_fitting(
    lists: Lists, query: SparseQuery, accumulators: Accumulators, candidates: np.ndarray, sums: np.ndarray
) -> Number:
    """``sum_candidates`` in the accumulator that is wide enough; or the status of what is missing."""
    bound = largest_sum(query, lists)
    if bound < 0:
        return bound
    entries, narrow, wide, _ = accumulators
    slot = np.int64(2) + np.int64(bound > NARROW_LIMIT)
    entry = entries[slot]
    if entries[_STAMP] != _CALLED:
        return np.int64(STALE)
    if entry == 0:
        return np.int64(MISSING) - slot
    if slot == 2:
        return _sum(entry, lists, query, narrow, candidates, sums)
    return _sum(entry, lists, query, wide, candidates, sums)
