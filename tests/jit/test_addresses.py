"""Kernels called by address: what they return, what they refuse, and a numba that has moved what they rest on."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import pytest
from numba import TypingError, njit, types

from sparcode.jit.addresses import address_of, linked

VALUES = types.Array(types.int32, 1, "C", readonly=True)


@njit
def total(values, factor):
    """Return the sum of values times a factor; a factor below zero is an error."""
    if factor < 0:
        raise ValueError("below zero")
    result = np.int64(0)
    for value in values:
        result += value
    return result * factor


ADDED = linked(total, types.int64, (VALUES, types.int64))


@njit
def by_address(address, values, factor):
    """Call ``total`` by its address."""
    return ADDED(address, values, factor)


def test_a_call_by_address_returns_what_the_kernel_returns() -> None:
    address, values = np.uint64(address_of(total, (VALUES, types.int64))), np.arange(5, dtype=np.int32)
    assert by_address(address, values, 3) == ADDED(0, values, 3) == 30
    values.flags.writeable = False
    assert by_address(address, values, 2) == 20
    with pytest.raises(ValueError, match="below zero"):
        by_address(address, values, -1)


@pytest.mark.parametrize(
    "values", [np.arange(5), np.arange(5, dtype=np.int32)[::2], np.zeros((2, 2), np.int32), np.zeros(2, np.uint32)]
)
def test_arguments_of_other_types_do_not_compile(values: np.ndarray) -> None:
    with pytest.raises(TypingError):
        by_address(np.uint64(address_of(total, (VALUES, types.int64))), values, 1)


class Part(NamedTuple):
    """Arguments that belong together."""

    values: np.ndarray
    factor: int


PART = types.NamedTuple((VALUES, types.int64), Part)


@njit
def total_of(part, more):
    """Return the total of a part, and more."""
    return total(part.values, part.factor) + more


GROUPED = linked(total_of, types.int64, (PART, types.int64))


@njit
def by_part(address, part, more):
    """Call a kernel that takes a named tuple by its address."""
    return GROUPED(address, part, more)


def test_arrays_in_tuples_may_be_read_only_as_others() -> None:
    address, values = np.uint64(address_of(total_of, (PART, types.int64))), np.arange(5, dtype=np.int32)
    assert by_part(address, Part(values, 3), 1) == GROUPED(0, Part(values, 3), 1) == 31
    values.flags.writeable = False
    assert by_part(address, Part(values, 3), 1) == 31
    for other in (Part(np.arange(5), 3), (values, 3)):
        with pytest.raises(TypingError):
            by_part(address, other, 1)


def test_threads_get_one_address() -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(address_of(total, (VALUES, types.int8)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
