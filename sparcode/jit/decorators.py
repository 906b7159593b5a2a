"""What kernels are compiled with, named by what becomes of their arithmetic.

    exact                    every operation is rounded as written: the same bits as numpy
    exact_inlined            the same, for thin kernels that would cost a caller more to call than to hold
    contracted               one rounding where the machine multiplies and adds at once, sums in the order of the source
    reordered                sums in any order besides, so that loops that only read vectorise
    reordered_without_nan    the same for numbers that are never NaN, so that greatest and least vectorise too

Numbers are the same from call to call on one machine whichever is chosen. A loop that writes has a vector and a scalar
version, chosen by where the arrays lie in memory, and only a fixed order gives both the same bits: hence
``contracted``, with one product a statement. Loops that only read have one version.

Everything that decides about bits is said, nothing is left to numba: what a function does not say it takes over from
whoever calls it when it is compiled first. Division is numpy's everywhere, so that it gives inf in place of an error:
the test for zero that Python asks for would keep loops scalar. ``kernel.py_func`` is the plain function and the oracle.
"""

from __future__ import annotations

from typing import Any

from sparcode.jit.cache import njit


def _decorator(fastmath: Any, inlined: bool = False) -> Any:
    return njit(cache=True, nogil=True, error_model="numpy", fastmath=fastmath, forceinline=inlined)


exact: Any = _decorator(False)
exact_inlined: Any = _decorator(False, inlined=True)
contracted: Any = _decorator({"contract"})
reordered: Any = _decorator({"contract", "reassoc", "nsz"})
reordered_without_nan: Any = _decorator({"contract", "reassoc", "nsz", "nnan"})
