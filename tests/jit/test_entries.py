"""Kernels inside others: compiled with their caller, as often as needed, and by themselves when Python calls them."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from sparcode.jit import contracted as cached_contracted
from sparcode.jit import exact as cached_exact
from sparcode.jit.decorators import njit
from sparcode.jit.entries import Apart, Entry, Inner

# As the decorators of these names, without a cache: what comes from there is an entry already.
exact = njit(fastmath=False, forceinline=False)
contracted = njit(fastmath={"contract"})
reordered = njit(fastmath={"contract", "reassoc", "nsz"})


@exact
def checked(x):
    """Return x, an error below zero."""
    if x < 0:
        raise ValueError("below zero")
    return x


@reordered
def total(values):
    """Return the sum."""
    result = np.float32(0.0)
    for value in values:
        result += value
    return result


@contracted
def outer(values):
    """Call both."""
    return checked(total(values)) + np.zeros(2, np.float32)[0]


@contracted
def another(values):
    """Call them as well."""
    return checked(total(values)) * 2


def libraries(kernel) -> list[type]:
    """Return what each signature of a kernel is compiled as."""
    return [type(found.library) for found in kernel.overloads.values()]


def test_what_is_inside_is_compiled_with_what_is_called():
    values = np.arange(5, dtype=np.float32)
    assert (outer(values), another(values)) == (10.0, 20.0)
    assert libraries(outer) == libraries(another) == [Entry]
    assert libraries(total) == [Apart]
    assert libraries(checked) == [Inner]
    assert total(values) == 10.0
    assert libraries(total) == [Entry]
    assert outer(values) == another(values) / 2
    with pytest.raises(ValueError, match="below zero"):
        outer(-values)
    with pytest.raises(ValueError, match="below zero"):
        checked(np.float32(-1))


def test_kernels_of_others_take_ours_in():
    @exact
    def half(x):
        return checked(x) / 2

    @exact
    def quarter(x):
        return half(x) / 2

    @numba.njit
    def theirs(x):
        return half(x) + checked(x)

    assert quarter(8.0) == 2.0
    assert libraries(half) == [Inner]
    assert theirs(8.0) == 12.0
    with pytest.raises(ValueError, match="below zero"):
        theirs(-8.0)


def test_arithmetic_is_not_taken_over_from_the_caller():
    assert cached_exact(lambda x: x).targetoptions["fastmath"] is False
    assert cached_contracted(lambda x: x).targetoptions["forceinline"] is False
