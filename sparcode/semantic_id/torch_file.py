"""Tensors of a file saved by ``torch.save``, read without torch and without executing anything.

Such a file is a zip archive: ``data.pkl`` says how the objects are put together, ``data/<key>`` are raw storages. The
description is a program for the pickle machine, which may call anything; here its opcodes are read by ``pickletools``
and interpreted by a machine of our own, which knows containers, numbers, text, and the four constructors below.
Everything else in the file, a class or a function by name, is refused. So a file of weights is read, and a file that
wants to run something is an error.

Why not ``torch.load(weights_only=True)``: the base install, which has no torch (hundreds of megabytes), reads
embeddings, fits tokenizers and serves item ids. Before torch 2.6, and older ones are allowed here, ``weights_only``
could be made to run code (CVE-2025-32434). It refuses files of pickle protocol 4, which are read here. And storages are
mapped here, so a large matrix stays on disk. Tests hold this reader against torch's.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import DataError
from sparcode.semantic_id.bfloat16 import widened

_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
_CONSTRUCTORS = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
    "torch Size",
}
_MOST_OPCODES = 10_000_000
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A class or function that the file names; it is never imported."""

    text: str


@dataclass(frozen=True)
class _Storage:
    array: np.ndarray
    is_bfloat16: bool


def read_tensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a .pt file by name (nested names are joined by dots; a lone tensor is ``tensor``).

    bfloat16 becomes float32. Lists of numbers or text beside the tensors are kept (ids), other values are left out.
    DataError for a file that is no zip archive of torch (as written before torch 1.6), is damaged, or
    holds anything but tensors in containers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            programs = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            if len(programs) != 1:
                raise DataError(f"{path} holds {len(programs)} data.pkl, expected 1; save tensors with torch.save")
            if archive.getinfo(programs[0]).compress_type != zipfile.ZIP_STORED:
                raise DataError(f"{path} is compressed, which torch.save never does; save the tensors again")
            _check_byte_order(path, archive, programs[0])
            found = _Machine(path, archive, programs[0].removesuffix("data.pkl")).run(archive.read(programs[0]))
    except zipfile.BadZipFile:
        raise DataError(
            f"{path} is no zip archive of torch (saved before torch 1.6, or damaged); save the tensors again, "
            "or as .npy or .safetensors"
        ) from None
    flat: dict[str, Any] = {}
    try:
        _flatten(found, "", flat)
    except RecursionError:
        raise DataError(f"{path} is damaged: a container that holds itself") from None
    return flat


def _check_byte_order(path: Path, archive: zipfile.ZipFile, program: str) -> None:
    name = program.removesuffix("data.pkl") + "byteorder"
    if name in archive.namelist() and archive.read(name).strip() != b"little":
        raise DataError(f"{path} was saved in another byte order than little endian; save it on such a machine")


def _flatten(value: Any, name: str, found: dict[str, Any]) -> None:
    if isinstance(value, np.ndarray):
        found[name or "tensor"] = value
    elif isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, f"{name}.{key}" if name else str(key), found)
    elif isinstance(value, list | tuple):
        if value and (all(isinstance(x, str) for x in value) or all(type(x) is int for x in value)):
            found[name or "list"] = list(value)
            return
        for place, inner in enumerate(value):
            _flatten(inner, f"{name}.{place}" if name else str(place), found)


class _Machine:
    """A stack machine for the opcodes ``torch.save`` writes; see the module for what it refuses."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, folder: str) -> None:
        self.path, self.archive, self.folder = path, archive, folder
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}
        self.file = open(path, "rb")  # noqa: SIM115 - closed in run
        self.buffer: mmap.mmap | None = None

    def run(self, program: bytes) -> Any:
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
                if count > _MOST_OPCODES:
                    raise DataError(f"{self.path}: its description is too long for a file of tensors")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as problem:
            raise DataError(f"{self.path} is damaged: {type(problem).__name__}: {problem}") from None
        finally:
            self.file.close()
        raise DataError(f"{self.path} is damaged: its description has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        else:
            raise self._refused(f"the operation {name}")

    def _refused(self, what: str) -> DataError:
        return DataError(
            f"{self.path} holds {what}, which is no tensor in plain containers; it was not executed: "
            "save the tensor alone, or as .npy or .safetensors"
        )

    def _since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        is_storage = module in ("torch", "torch.storage") and name in _STORAGES
        if argument not in _CONSTRUCTORS and not is_storage:
            raise self._refused(f"the name {module}.{name}")
        self.stack.append(_Name(argument))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._global(f"{module} {name}")

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise self._refused(f"a call of {type(called).__name__}")
        if called.text == "torch._utils _rebuild_tensor_v2":
            self.stack.append(self._tensor(*arguments[:4]))
        elif called.text == "torch._utils _rebuild_parameter":
            if not isinstance(arguments[0], np.ndarray):
                raise TypeError("a parameter without a tensor")
            self.stack.append(arguments[0])
        elif called.text == "collections OrderedDict":
            self.stack.append(dict(*arguments))
        elif called.text == "torch Size":
            self.stack.append(tuple(*arguments))
        else:
            raise self._refused(f"a call of {called.text}")

    def _persistent(self, _: Any) -> None:
        kind, storage, key, _, count = self.stack.pop()
        if kind != "storage" or not isinstance(storage, _Name) or not isinstance(key, str):
            raise TypeError("a reference to something that is no storage")
        if key not in self.storages:
            self.storages[key] = self._open_storage(storage.text.partition(" ")[2], key, int(count))
        self.stack.append(self.storages[key])

    def _open_storage(self, kind: str, key: str, count: int) -> _Storage:
        entry = self.archive.getinfo(f"{self.folder}data/{key}")
        dtype = np.dtype(_STORAGES[kind])
        if count < 0 or count * dtype.itemsize > entry.file_size:
            raise ValueError(f"storage {key} has {entry.file_size} bytes, expected {count * dtype.itemsize}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"storage {key} is compressed, which torch never does")
        array = np.frombuffer(self._map(), dtype, count, self._start_of(entry))
        return _Storage(array, kind == "BFloat16Storage")

    def _map(self) -> mmap.mmap:
        if self.buffer is None:
            self.buffer = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        return self.buffer

    def _start_of(self, entry: zipfile.ZipInfo) -> int:
        # The lengths in the local header count: its padding differs from the central directory's.
        self.file.seek(entry.header_offset)
        header = self.file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise ValueError("a storage without a header")
        name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        return entry.header_offset + 30 + name + extra

    def _tensor(self, storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor without a storage")
        sizes = [*shape, *strides, offset]
        if len(shape) != len(strides) or any(type(number) is not int or number < 0 for number in sizes):
            raise ValueError(f"a tensor of shape {shape} and strides {strides}")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if 0 not in shape and last >= len(storage.array):
            raise ValueError(f"a tensor that ends at {last + 1:,} of a storage of {len(storage.array):,}")
        if 0 in shape:
            return np.zeros(shape, np.float32 if storage.is_bfloat16 else storage.array.dtype)
        if math.prod(shape) > len(storage.array):
            raise ValueError(f"an expanded tensor of shape {shape}; save tensor.contiguous()")
        item = storage.array.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            storage.array[offset:], shape, [stride * item for stride in strides], writeable=False
        )
        return widened(view) if storage.is_bfloat16 else view

    def _put(self, argument: Any) -> None:
        self.memo[argument] = self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, argument: Any) -> None:
        self.stack.append(self.memo[argument])

    def _tuple(self, count: int) -> None:
        values = tuple(self.stack[len(self.stack) - count :])
        if len(values) != count:
            raise IndexError("an empty stack")
        del self.stack[len(self.stack) - count :]
        self.stack.append(values)

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self._last(list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._since_mark()
        self._last(list).extend(values)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._last(dict)[key] = value

    def _set_items(self, _: Any) -> None:
        values = self._since_mark()
        self._last(dict).update(zip(values[::2], values[1::2], strict=True))

    def _last(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"a {type(self.stack[-1]).__name__} where a {kind.__name__} is needed")
        return self.stack[-1]

    def _build(self, _: Any) -> None:
        # State of a container: `_metadata` of a state_dict. Nothing we return depends on it.
        self.stack.pop()
        self._last(dict)


_IGNORED = {"PROTO", "FRAME"}
_PUSHED = {
    "BININT", "BININT1", "BININT2", "INT", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "UNICODE",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
    "EMPTY_DICT": dict, "MARK": lambda: _MARK,
}  # fmt: skip
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": _Machine._global, "STACK_GLOBAL": _Machine._stack_global, "REDUCE": _Machine._reduce,
    "BINPERSID": _Machine._persistent, "BUILD": _Machine._build, "APPEND": _Machine._append,
    "APPENDS": _Machine._appends, "SETITEM": _Machine._set_item, "SETITEMS": _Machine._set_items,
    "BINPUT": _Machine._put, "LONG_BINPUT": _Machine._put, "MEMOIZE": _Machine._memoize, "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get, "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2), "TUPLE3": lambda machine, _: machine._tuple(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine._since_mark())),
}  # fmt: skip
