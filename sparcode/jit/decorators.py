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

import os
from typing import Any

from sparcode.jit.library import numba, resting_on_numba

KernelCache: Any = None
Kernel: Any = None
with resting_on_numba("cache"):
    from sparcode.jit.cache import KernelCache
with resting_on_numba("entries"):
    from sparcode.jit.entries import Kernel


def njit(function: Any = None, **options: Any) -> Any:
    """``numba.njit``, whose option ``cache`` keeps entries as ``jit.cache`` says, or else numba's own cache.

    Kernels that are called within others are compiled with these, see ``jit.entries``.
    """
    if function is None:
        return lambda given: njit(given, **options)
    kept = options.pop("cache", False) and os.path.isfile(function.__code__.co_filename)
    kernel = numba.njit(**options)(function)
    if Kernel is not None:
        kernel = Kernel.of(kernel)
    if kept and KernelCache is not None:
        kernel._cache = KernelCache(function)
    elif kept:
        _keep_as_numba_does(kernel)
    return kernel


def _keep_as_numba_does(kernel: Any) -> None:
    try:
        kernel.enable_caching()
    except RuntimeError:  # no folder can be written
        return


def _decorator(fastmath: Any, inlined: bool = False) -> Any:
    return njit(cache=True, nogil=True, error_model="numpy", fastmath=fastmath, forceinline=inlined)


exact: Any = _decorator(False)
exact_inlined: Any = _decorator(False, inlined=True)
contracted: Any = _decorator({"contract"})
reordered: Any = _decorator({"contract", "reassoc", "nsz"})
reordered_without_nan: Any = _decorator({"contract", "reassoc", "nsz", "nnan"})
