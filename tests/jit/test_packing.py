"""Constants behind one address come back as what they were, in value and in type."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit, typeof

from sparcode.index.arrays import read_only
from sparcode.jit.addresses import entry_of
from sparcode.jit.packing import pack, unpacked


@njit
def identity(address, kind):
    return unpacked(address, kind)


@njit
def described(address, kind):
    (matrix, nothing), number, flag, far, small, bits = unpacked(address, kind)
    return matrix[1, 2], matrix.shape, matrix.strides, nothing is None, number, flag, far, small, bits.sum()


MATRIX = np.arange(12, dtype=np.float32).reshape(2, 6)
VALUES = (
    (MATRIX, None), np.float32(-0.1), True, -(2**40), np.int32(-7), read_only(np.array([2**63], np.uint64))
)  # fmt: skip


def test_values_come_back():
    address, kind, _table = pack(VALUES)
    found = entry_of(described, (address, kind))(address, kind)
    assert found == (8.0, (2, 6), (24, 4), True, np.float32(-0.1), True, -(2**40), -7, 2**63)


def test_types_are_those_of_the_values():
    address, kind, _ = pack(VALUES)
    entry_of(identity, (address, kind))
    (signature,) = [own for own in identity.overloads if own[1] == kind]
    assert identity.overloads[signature].signature.return_type == typeof(VALUES)


def test_arrays_are_not_copied():
    values = (np.zeros((1, 3), np.int64), np.zeros((0, 4), np.uint16))

    @njit
    def write(address, kind):
        array, empty = unpacked(address, kind)
        array[0, 1] = 5
        return empty.shape

    address, kind, _table = pack(values)
    assert write(address, kind) == (0, 4)
    assert values[0].tolist() == [[0, 5, 0]]


@pytest.mark.parametrize("value", [MATRIX.T, MATRIX[:, ::2], "text", 1.5])
def test_what_cannot_be_packed_is_refused(value):
    with pytest.raises(TypeError, match="found, expected"):
        pack((value,))
