"""Ask the processor for a cache line before it is needed: an LLVM intrinsic under numba, nothing in plain Python.

A prefetch changes no result and cannot fault, whatever address it names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.jit.decorators import exact
from sparcode.jit.library import is_active, overload, resting_on_numba, types

with resting_on_numba("prefetch"):
    from llvmlite import ir
    from numba.extending import intrinsic

LINE = 64
"""Bytes of a cache line."""


def prefetch(array: np.ndarray, index: Any) -> None:
    """Ask for the line of element ``index`` of a contiguous array, to be read; does nothing uncompiled."""


def _generated(context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        # To be read; keep in every level; data.
        builder.call(function, [place, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


_prefetch: Any = intrinsic(_generated) if is_active("prefetch") else None


@overload(prefetch, inline="always" if is_active("prefetch") else "never")
def _compiled_prefetch(array, index):  # type: ignore[no-untyped-def]
    if _prefetch is None:

        def nothing(array, index):  # type: ignore[no-untyped-def]
            pass

        return nothing

    def ask(array, index):  # type: ignore[no-untyped-def]
        _prefetch(array, np.uint64(index))

    return ask


@exact
def prefetch_lists(indptr: np.ndarray, postings: np.ndarray, rows: np.ndarray, lines: int) -> None:
    """Ask for the first ``lines`` lines of each list; rows outside the index are passed over.

    The processor's own prefetcher follows a list only after its first lines, and then one list at a time.
    """
    end = np.uint64(len(postings))
    step = np.uint64(LINE // 4)
    for i in range(len(rows)):
        if rows[i] < 0 or rows[i] >= len(indptr) - 1:
            continue
        row = np.uint64(rows[i])
        start = min(indptr[row], end)
        stop = min(indptr[row + np.uint64(1)], end)
        for line in range(lines):
            place = start + np.uint64(line) * step
            if place >= stop:
                break
            prefetch(postings, place)
