"""Arguments that stay the same from call to call, behind one address.

A compiled function takes each array of its caller apart, about 0.05 us each, and counts references to it. ``pack`` does
that once: it writes addresses, lengths and numbers to a table, and ``unpacked`` reads them back, as values of the very
numba types they had. Who packs arrays keeps them alive, and the table too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.jit.library import is_active, overload, resting_on_numba, typeof, types

with resting_on_numba("packing"):
    from numba.extending import intrinsic
    from numba.np.arrayobj import make_array, populate_array

_WORD = np.dtype(np.uint64)


def pack(values: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Return (address, kind, table) of arrays, numbers, None and tuples of these: what ``unpacked`` takes, and what has
    to be kept alive: the table (words,) uint64. Raises TypeError for anything else, and for arrays that are not
    C-contiguous. Where numba does not let us read tables, the address is the values themselves."""
    words = _words(values)
    if not is_active("packing"):
        return values, None, values
    table = np.array(words, _WORD)
    return np.uint64(table.ctypes.data), types.TypeRef(typeof(values)), table


def _words(value: Any) -> list[int]:
    if isinstance(value, tuple):
        return [word for part in value for word in _words(part)]
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise TypeError(f"an array with strides {value.strides} found, expected a contiguous one")
        return [value.ctypes.data, *value.shape]
    if value is None or hasattr(value, "py_func"):  # a kernel, where there are no addresses of kernels
        return []
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return [int(value) & (1 << 64) - 1]
    if isinstance(value, np.float32):
        return [int(value.view(np.uint32))]
    raise TypeError(f"{type(value).__name__} found, expected an array, an integer, a float32, None or a tuple of these")


def _read(typing: Any, address: Any, kind: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = builder.inttoptr(arguments[0], context.get_value_type(types.uint64).as_pointer())
        return _Reader(context, builder, words).value(kind.instance_type)

    return kind.instance_type(types.uint64, kind), generate


def _as_they_are(address, kind):  # type: ignore[no-untyped-def]
    return address


unpacked: Any = intrinsic(_read) if is_active("packing") else _as_they_are
"""``unpacked(address, kind)``, for kernels: the values of the table at ``address``; both from ``pack``."""
if not is_active("packing"):
    overload(_as_they_are)(lambda address, kind: lambda address, kind: address)


class _Reader:
    """Emits the code that reads the words of a table one after the other."""

    def __init__(self, context: Any, builder: Any, words: Any) -> None:
        self.context, self.builder, self.words, self.place = context, builder, words, 0

    def value(self, kind: Any) -> Any:
        """Return a value of numba type ``kind``, which the table has next."""
        if isinstance(kind, types.BaseTuple):
            parts: Any = kind
            return self.context.make_tuple(self.builder, kind, [self.value(part) for part in parts.types])
        if isinstance(kind, types.Array):
            return self._array(kind)
        if isinstance(kind, (types.NoneType, types.Dispatcher)):
            return self.context.get_dummy_value()
        if kind == types.float32:
            bits = self.builder.trunc(self._word(), self.context.get_value_type(types.uint32))
            return self.builder.bitcast(bits, self.context.get_value_type(kind))
        return self.context.cast(self.builder, self._word(), types.uint64, kind)

    def _word(self) -> Any:
        pointer = self.builder.gep(self.words, [self.context.get_constant(types.intp, self.place)])
        self.place += 1
        return self.builder.load(pointer)

    def _array(self, kind: Any) -> Any:
        array = make_array(kind)(self.context, self.builder)
        data = self.builder.inttoptr(self._word(), array.data.type)
        shape = [self._word() for _ in range(kind.ndim)]
        size = self.context.get_abi_sizeof(self.context.get_data_type(kind.dtype))
        strides = [self.context.get_constant(types.intp, size)]
        for length in shape[:0:-1]:
            strides.insert(0, self.builder.mul(strides[0], length))
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return array._getvalue()
