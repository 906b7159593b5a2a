"""Single queries with next to no overhead: compiled once, called directly, what never changes behind one argument.

A call into a compiled function costs about 0.05 us an array, and 0.1 us more when its type has to be found out first.
So the index and the scratch of a thread are named by the addresses in one table, and the compiled entry is called
without the dispatcher: who calls it vouches for the types (``exact_int32``) and keeps the arrays of the table alive.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from sparcode.errors import QueryError
from sparcode.index.arrays import read_only
from sparcode.jit import exact, exact_inlined
from sparcode.jit.addresses import entry_of
from sparcode.jit.packing import pack, unpacked
from sparcode.query.search.arguments import Accumulators, Answers, Filters, Lists, SparseQuery
from sparcode.query.search.fitting import ENTRIES, search_fitting, sum_fitting

INT32 = np.dtype(np.int32)
STRIDES = (4,)


def exact_int32(array: np.ndarray) -> np.ndarray:
    """Return one-dimensional integers as contiguous int32, as they are where they can be; QueryError on others."""
    if array.dtype is INT32 and array.strides == STRIDES:
        return array
    given = np.asarray(array)
    if given.size and (given.ndim != 1 or given.dtype.kind not in "iu"):
        raise QueryError(
            f"an array {given.dtype} of shape {given.shape} found, expected int32 rows, weights or items (K,)"
        )
    exact = np.array(given.ravel(), np.int32)
    if exact.size and not np.array_equal(exact, given.ravel()):
        raise QueryError(f"{given.dtype} values beyond int32 found, expected int32 rows, weights or items")
    return exact


@cache
def plain_entry() -> Callable[..., int]:
    """Return ``search_plain`` compiled: (address, kind, rows, weights, seen, ids, sums) -> results or status.

    ``address`` and ``kind``: of ``pack((Lists, Accumulators))``, lists read-only.
    """
    return entry_of(search_plain, (*_CONSTANT, _INTS, _INTS, _INTS, *_RESULTS))


@cache
def masked_entry() -> Callable[..., int]:
    """Return ``search_masked`` compiled: Filters in place of ``seen``."""
    mask = read_only(np.zeros(0, np.bool_))
    return entry_of(search_masked, (*_CONSTANT, _INTS, _INTS, Filters(_INTS, mask, mask), *_RESULTS))


@cache
def sums_entry() -> Callable[..., int]:
    """Return ``sum_prepared`` compiled: (address, kind, rows, weights, candidates, sums) -> 0 or status."""
    return entry_of(sum_prepared, (*_CONSTANT, _INTS, _INTS, _INTS, _RESULTS[1]))


@exact
def search_plain(address, kind, rows, weights, seen, ids, sums):
    """``search_masked`` without masks."""
    none = np.empty(0, np.bool_)
    return search_masked(address, kind, rows, weights, Filters(seen, none, none), ids, sums)


@exact_inlined
def search_masked(address, kind, rows, weights, filters, ids, sums):
    """``search_fitting`` over the arrays of a table."""
    lists, accumulators = unpacked(address, kind)
    return search_fitting(lists, SparseQuery(rows, weights), accumulators, filters, Answers(ids, sums))


@exact
def sum_prepared(address, kind, rows, weights, candidates, sums):
    """``sum_fitting`` over the arrays of a table."""
    lists, accumulators = unpacked(address, kind)
    return sum_fitting(lists, SparseQuery(rows, weights), accumulators, candidates, sums)


_INTS = read_only(np.zeros(0, np.int32))
_RESULTS = np.zeros(0, np.int32), np.zeros(0, np.uint32)
_LISTS = Lists(read_only(np.zeros(0, np.uint64)), read_only(np.zeros(0, np.uint32)))
_SCRATCH = Accumulators(ENTRIES, np.zeros(0, np.uint16), np.zeros(0, np.uint32), np.zeros(0, np.uint64))
_CONSTANT = pack((_LISTS, _SCRATCH))[:2]
"""Examples of the arguments' types."""
