"""Single queries with next to no overhead: compiled once, called directly, what never changes behind one argument.

A call into a compiled function costs about 0.05 us an array, and 0.1 us more when its type has to be found out first.
So the index and the scratch of a thread are named by the addresses in one table, and the compiled entry is called
without the dispatcher: who calls it vouches for the types (``exact_int32``) and keeps the arrays of the table alive.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import carray, typeof, types
from numba.extending import intrinsic

from sparcode.errors import QueryError
from sparcode.jit import njit
from sparcode.query.search import kernels

INT32 = np.dtype(np.int32)
STRIDES = (4,)

_INTS, _SUMS = types.Array(types.int32, 1, "C", readonly=True), types.uint32[::1]
_MASK = types.Array(types.boolean, 1, "C", readonly=True)
_PLAIN = (types.uint64[::1], _INTS, _INTS, _INTS, types.int32[::1], _SUMS)


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


def entry_of(kernel: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a kernel compiled for arguments like these, to be called with arrays of the same types alone."""
    return kernel.compile(tuple(typeof(argument) for argument in arguments))


def table_of(*arrays: np.ndarray) -> np.ndarray:
    """Return address and length of each array, uint64: of indptr, postings, narrow, wide, work, and kernel entries."""
    return np.array([value for array in arrays for value in (array.ctypes.data, len(array))], np.uint64)


@cache
def plain_entry() -> Callable[..., int]:
    """Return ``search_plain`` compiled: (table, rows, weights, seen, ids, sums) -> results or status."""
    return search_plain.compile(_PLAIN)


@cache
def masked_entry() -> Callable[..., int]:
    """Return ``search_masked`` compiled: ``allow`` and ``deny``, bool (n,) or empty, follow ``seen``."""
    return search_masked.compile((*_PLAIN[:4], _MASK, _MASK, *_PLAIN[4:]))


def _pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.uint64), generate


_at: Any = intrinsic(_pointer)
_array: Any = carray


@njit(cache=True, nogil=True)
def search_plain(
    table: np.ndarray, rows: np.ndarray, weights: np.ndarray, seen: np.ndarray, ids: np.ndarray, sums: np.ndarray
) -> Any:
    """``search_masked`` without masks."""
    none = np.empty(0, np.bool_)
    return search_masked(table, rows, weights, seen, none, none, ids, sums)


@njit(cache=True, nogil=True, forceinline=True)
def search_masked(
    table: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    seen: np.ndarray,
    allow: np.ndarray,
    deny: np.ndarray,
    ids: np.ndarray,
    sums: np.ndarray,
) -> Any:
    """``kernels.search_fitting`` over the arrays of a table."""
    indptr = _array(_at(table[0]), (np.int64(table[1]),), np.uint64)
    postings = _array(_at(table[2]), (np.int64(table[3]),), np.uint32)
    narrow = _array(_at(table[4]), (np.int64(table[5]),), np.uint16)
    wide = _array(_at(table[6]), (np.int64(table[7]),), np.uint32)
    work = _array(_at(table[8]), (np.int64(table[9]),), np.uint64)
    entries = _array(_at(table[10]), (np.int64(table[11]),), np.uint64)
    return kernels.search_fitting(
        entries, indptr, postings, rows, weights, narrow, wide, work, seen, allow, deny, ids, sums
    )
