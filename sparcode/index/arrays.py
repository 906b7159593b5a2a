"""Named arrays in one safetensors file: written whole or not at all, read as read-only views of a memory map.

The metadata of a file is one JSON text under one key, because the safetensors library writes several keys in
an order that changes from process to process, and files of equal content must have equal bytes. It holds the
caller's metadata and a SHA-256 of names, types, shapes and contents, which ``read_arrays(..., verify=True)`` checks.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sparcode.errors import CorruptIndexError
from sparcode.files import atomic_path, read_object, require_regular, write_json

Arrays = dict[str, np.ndarray]


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written: numba then compiles one version for mapped and for ordinary arrays."""
    view = array.view()
    view.flags.writeable = False
    return view


_KEY = "sparcode"
_REMEDY = "put the file back, or train the run again"
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None) -> None:
    """Write ``arrays`` (any shapes; booleans, integers, floats) and JSON-able ``metadata`` atomically.

    Equal arguments give equal bytes. Raises TypeError for a type the format has not (objects, text, complex).
    """
    contiguous = {name: _storable(name, np.asarray(arrays[name])) for name in sorted(arrays)}
    text = json.dumps({"metadata": dict(metadata or {}), "sha256": _digest(contiguous)}, sort_keys=True)
    with atomic_path(Path(path)) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(contiguous, temporary, metadata={_KEY: text})
        temporary.chmod(mode)  # the library keeps what it writes to its own user


def read_arrays(path: Path, *, verify: bool = False) -> Arrays:
    """Map a file and return its arrays as read-only views, sorted by name; nothing is copied.

    Checked always: the header, its types and shapes, and that the arrays fill the file exactly. ``verify``
    also compares the SHA-256 of the contents. Raises CorruptIndexError naming the file.
    """
    path = Path(path)
    header, buffer, start = _map(path)
    arrays = {name: _view(path, buffer, start, name, entry) for name, entry in sorted(header.items())}
    if verify:
        found, expected = _digest(arrays), str(_own_metadata(path).get("sha256"))
        if found != expected:
            what = f"the SHA-256 of its contents is {found[:12]}..., it carries {expected[:12]}..."
            raise CorruptIndexError(f"{path} is damaged: {what}; {_REMEDY}")
    return arrays


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata given to ``write_arrays``; raises CorruptIndexError naming the file."""
    return dict(_own_metadata(Path(path)).get("metadata", {}))


def export_encoder(folder: Path, stem: str, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``<stem>.safetensors`` and ``<stem>.json`` (in this order: a spec without arrays never exists)."""
    folder = Path(folder)
    write_arrays(folder / f"{stem}.safetensors", arrays)
    write_json(folder / f"{stem}.json", dict(spec))


def open_encoder_files(folder: Path, stem: str) -> tuple[dict[str, Any], Arrays]:
    """Read what ``export_encoder`` wrote: the spec and mapped arrays; raises CorruptIndexError."""
    spec = read_object(Path(folder) / f"{stem}.json")
    return spec, read_arrays(Path(folder) / f"{stem}.safetensors")


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    dtype = array.dtype.newbyteorder("<")
    if dtype not in {np.dtype(text) for text in _DTYPES.values()}:
        raise TypeError(f"array {name!r} has type {array.dtype}; only booleans, integers and floats can be stored")
    return np.array(array, dtype=dtype, order="C")


def _checked_header(path: Path) -> dict[str, str]:
    require_regular(path)
    # The library checks what a hand-written parser forgets: overlapping, unordered or missing byte ranges.
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except FileNotFoundError:
        raise CorruptIndexError(f"{path} does not exist; {_REMEDY}") from None
    except (SafetensorError, OSError) as problem:
        text = " ".join(str(problem).split())
        raise CorruptIndexError(f"{path} is damaged or truncated ({text}); {_REMEDY}") from None


def _own_metadata(path: Path) -> dict[str, Any]:
    text = _checked_header(path).get(_KEY, "{}")
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise CorruptIndexError(f"{path} is damaged: its metadata are not JSON; {_REMEDY}") from None


def _map(path: Path) -> tuple[dict[str, Any], mmap.mmap, int]:
    _checked_header(path)
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    header.pop("__metadata__", None)
    return header, buffer, 8 + length


def _view(path: Path, buffer: mmap.mmap, start: int, name: str, entry: dict[str, Any]) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise CorruptIndexError(f"{path}: array {name!r} has type {entry['dtype']}, which sparcode never writes")
    low, high = entry["data_offsets"]
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    count = (high - low) // dtype.itemsize
    if count == 0:
        empty = np.zeros(entry["shape"], dtype)
        empty.flags.writeable = False
        return empty
    if start + high > len(buffer):
        raise CorruptIndexError(f"{path} is truncated: array {name!r} ends behind the file; {_REMEDY}")
    return np.frombuffer(buffer, dtype, count, start + low).reshape(entry["shape"])


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\x1f{array.dtype.newbyteorder('<').str}\x1f{array.shape}\x1e".encode())
        if array.size:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
