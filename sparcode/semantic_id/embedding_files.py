"""The kinds of files that hold embeddings. Nothing here executes what a file says; no pickle."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.columns import find_id_column, looks_like, plain
from sparcode.data.ids import as_id_array, integers_where_exact
from sparcode.data.metadata import is_list, is_number, plain_array
from sparcode.data.plain_types import plain_column
from sparcode.errors import DataError
from sparcode.files import atomic_path, make_folder, require_writable, sync_directory, write_text
from sparcode.semantic_id.bfloat16 import widened
from sparcode.wording import warn

KINDS = (".npy", ".parquet", ".pq", ".safetensors", ".pt", ".pth")
WRITTEN = ("", ".npy", ".parquet", ".pq", ".safetensors")
_ID_FILES = (".npy", ".txt", ".parquet", ".pq")
_BATCH_ROWS = 1 << 12
_FOLDER_VECTORS = "vectors.npy"
_FOLDER_FILES = {_FOLDER_VECTORS, "ids.npy", "ids.txt"}
_SAFE_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}

Found = tuple[np.ndarray, Any]
"""A matrix (n, d) of numbers and its ids, or None for 0..n-1."""


def read_vectors(path: Path, column: str | None, ids: Any) -> Found:
    """Return the matrix of a file and its ids as they stand there; see ``embeddings.read_embeddings``."""
    if path.is_dir():
        path = path / _FOLDER_VECTORS
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected embeddings as one of {', '.join(KINDS)}, or a folder of them")
    readers = {".npy": _read_npy, ".parquet": _read_parquet, ".pq": _read_parquet, ".safetensors": _read_safetensors,
               ".pt": _read_torch, ".pth": _read_torch}  # fmt: skip
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: unknown kind of file; expected one of {', '.join(KINDS)}")
    try:
        vectors, found = readers[path.suffix.lower()](path, column, ids if isinstance(ids, str) else None)
    except (OSError, ValueError, EOFError, pa.ArrowException) as problem:
        first = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise DataError(
            f"{path} cannot be read as {path.suffix} embeddings: {first}; is the file whole? write it again"
        ) from None
    given = _given_ids(path, ids)
    return vectors, found if given is None else given


def require_writable_kind(path: Path) -> None:
    """See ``embeddings.require_kind``."""
    if path.suffix.lower() not in WRITTEN:
        raise DataError(f"{path}: embeddings are written as .npy, .parquet, .safetensors, or a folder (no ending)")
    if path.suffix:
        require_writable(path)
    elif path.exists() and (not path.is_dir() or {file.name for file in path.iterdir()} - _FOLDER_FILES):
        raise DataError(f"{path} exists and is no folder of embeddings; give another name, or remove it")


def write_vectors(path: Path, vectors: np.ndarray, ids: pa.Array) -> None:
    """See ``embeddings.write_embeddings``."""
    require_writable_kind(path)
    suffix = path.suffix.lower()
    if suffix == "":
        _write_folder(path, vectors, ids)
    elif suffix == ".npy":
        with atomic_path(path) as temporary:
            with open(temporary, "wb") as stream:
                np.save(stream, vectors, allow_pickle=False)
            _write_ids(path.parent, f"{path.stem}.ids", ids)  # neither is replaced when the other cannot be written
    elif suffix in (".parquet", ".pq"):
        _write_parquet(path, vectors, ids)
    else:
        _write_safetensors(path, vectors, ids)


def read_ids(path: Path) -> pa.Array:
    """Return the ids of a .npy (integers or text), a .txt (one a line) or the first id column of a .parquet file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected ids as .npy, .txt or .parquet")
    try:
        if path.suffix == ".npy":
            return as_id_array(pa.array(np.load(path, allow_pickle=False)), "item")
        if path.suffix in (".parquet", ".pq"):
            file = _parquet(path)
            key = find_id_column(file.schema_arrow.names, "item", "item_id")
            return as_id_array(plain_column(file.read(columns=[key])[key]), "item")
        lines = path.read_text(encoding="utf-8").split("\n")
        return integers_where_exact(pa.array(lines[:-1] if lines[-1] == "" else lines, pa.large_string()))
    except (OSError, ValueError, EOFError, pa.ArrowException) as problem:
        first = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise DataError(f"{path} cannot be read as ids: {first}") from None


def _given_ids(path: Path, ids: Any) -> Any:
    if isinstance(ids, Path) or (isinstance(ids, str) and ids.endswith(_ID_FILES)):
        return read_ids(Path(ids))
    if isinstance(ids, str):
        if path.suffix.lower() == ".npy":
            raise DataError(f"ids={ids!r}: a .npy file has no columns; give a file of ids (.npy, .txt, .parquet)")
        return None
    return ids


def _read_npy(path: Path, column: str | None, ids: str | None) -> Found:
    if column is not None:
        raise DataError(f"{path} is one matrix and has no column {column!r}; leave the column out")
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    if ids is not None:
        return vectors, None
    names = [f"{path.stem}.ids.npy", f"{path.stem}.ids.txt"]
    names += ["ids.npy", "ids.txt"] if path.stem != "ids" else []
    present = [name for name in names if (path.parent / name).is_file()]
    return vectors, read_ids(path.parent / present[0]) if present else None


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    # Mapped: pages of the file are no memory of ours, while a reader by handle keeps every row group it has been in.
    file = pq.ParquetFile(path, memory_map=True)
    names = file.schema_arrow.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has several columns named {twice[0]!r}; rename all but one")
    return file


def _read_parquet(path: Path, column: str | None, ids: str | None) -> Found:
    file = _parquet(path)
    names = file.schema_arrow.names
    name = _chosen(path, "column", column, names, _list_columns(file.schema_arrow), "a list of numbers")
    key = ids if ids is not None and ids in names else None
    if key is None and ids is not None and not ids.endswith(_ID_FILES):
        raise DataError(f"{path} has no column {ids!r}; its columns: {', '.join(names)}")
    if key is None and ids is None:
        lists = _list_columns(file.schema_arrow)
        key = _id_column(path, [other for other in names if other != name and other not in lists])
    return _lists(path, file, name), None if key is None else plain_column(file.read(columns=[key])[key])


def _id_column(path: Path, names: list[str]) -> str | None:
    """Return the column of ids: one that is named as ids of items are, or ``id``; a warning when others are left."""
    if any(looks_like(name, "item") for name in names):
        return find_id_column(names, "item", "item_id")
    plainly = [name for name in names if plain(name) in ("id", "ids", "key")]
    if len(plainly) == 1:
        return plainly[0]
    if names:
        warn(
            f"{path}: no column of item ids found among {', '.join(map(repr, names))}, so items are numbered "
            f"0..n-1; rename one to 'item_id' (Python: ids={names[0]!r})",
            stacklevel=2,
        )
    return None


def _list_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if is_list(field.type) and is_number(field.type.value_type)]


def _lists(path: Path, file: Any, name: str) -> np.ndarray:
    """Return a column of lists as float32 (n, d), read a batch at a time: memory is the matrix and one batch.

    A batch is decoded into one flat buffer of values, which is copied into its rows while it is still in the cache.
    """
    kind = file.schema_arrow.field(name).type
    if not is_list(kind) or not is_number(kind.value_type):
        raise DataError(f"{path}: column {name!r} holds {kind}; expected lists of numbers")
    vectors: np.ndarray | None = None
    start = 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False):
        part = _list_matrix(f"{path}: column {name!r}", plain_array(batch.column(0)), start, vectors)
        if vectors is None:
            vectors = np.empty((file.metadata.num_rows, part.shape[1]), np.float32)
        vectors[start : start + len(part)] = part
        start += len(part)
    return np.zeros((0, 0), np.float32) if vectors is None else vectors


def _list_matrix(what: str, array: pa.Array, start: int, earlier: np.ndarray | None) -> np.ndarray:
    """Return lists as float32 (n, d); DataError names the first row that is null or of another length."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
    width = int(np.bincount(lengths[lengths > 0]).argmax()) if (lengths > 0).any() else 0
    width = width if earlier is None else earlier.shape[1]
    odd = np.flatnonzero(lengths != width)
    if width == 0 or len(odd):
        row = int(odd[0]) if len(odd) else 0
        found = "nothing" if lengths[row] < 0 else f"{lengths[row]} numbers"
        raise DataError(
            f"{what}, row {start + row + 1:,} holds {found}, expected {width or 'at least 1'}; "
            "give every item a vector of one width"
        )
    flat = pc.list_flatten(array)
    values: np.ndarray = flat.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)  # nulls become nan
    return values.reshape(-1, width)


def _chosen(path: Path, what: str, given: str | None, all_names: list[str], fitting: list[str], wanted: str) -> str:
    """Return the column or tensor that was named, or the only one that fits."""
    listed = ", ".join(map(str, all_names[:12])) or "none"
    if given is not None:
        if given not in all_names:
            raise DataError(f"{path} has no {what} {given!r}; its {what}s: {listed}")
        return given
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise DataError(f"{path} has no {what} that is {wanted}; its {what}s: {listed}")
    raise DataError(f"{path}: {', '.join(map(repr, fitting))} are each {wanted}; name one with --column")


def _read_safetensors(path: Path, column: str | None, ids: str | None) -> Found:
    return _from_tensors(path, _safe_tensors(path), column, ids)


def _read_torch(path: Path, column: str | None, ids: str | None) -> Found:
    from sparcode.semantic_id.torch_file import read_tensors

    return _from_tensors(path, read_tensors(path), column, ids)


def _from_tensors(path: Path, tensors: Mapping[str, Any], column: str | None, ids: str | None) -> Found:
    fitting = [name for name, array in tensors.items() if _is_matrix(array)]
    name = _chosen(path, "tensor", column, list(tensors), fitting, "a matrix of floats")
    if ids is not None and ids in tensors:
        return tensors[name], _tensor_ids(path, ids, tensors[ids])
    if ids is not None and not ids.endswith(_ID_FILES):
        raise DataError(f"{path} has no tensor {ids!r}; its tensors: {', '.join(tensors)}")
    if "ids_text" in tensors and "ids_ends" in tensors:
        return tensors[name], _unpacked(tensors["ids_text"], tensors["ids_ends"])
    keys = [key for key in tensors if key in ("ids", "id") or looks_like(key, "item")]
    return tensors[name], _tensor_ids(path, keys[0], tensors[keys[0]]) if keys else None


def _is_matrix(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind == "f"


def _tensor_ids(path: Path, name: str, values: Any) -> Any:
    if isinstance(values, np.ndarray) and (values.ndim != 1 or values.dtype.kind not in "iu"):
        raise DataError(f"{path}: ids {name!r} are {values.dtype} of shape {values.shape}; expected one integer a row")
    return pa.array(values)


def _safe_tensors(path: Path) -> dict[str, np.ndarray]:
    """Map a safetensors file: float32 is not copied, bfloat16 is widened."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # checks the header and every byte range
            pass
    except SafetensorError as problem:
        raise DataError(f"{path} is damaged or no safetensors file: {' '.join(str(problem).split())}") from None
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    header.pop("__metadata__", None)
    return {name: _safe_view(buffer, 8 + length, entry) for name, entry in sorted(header.items())}


def _safe_view(buffer: mmap.mmap, start: int, entry: dict[str, Any]) -> np.ndarray:
    low, high = entry["data_offsets"]
    # Types that are no embeddings (bool, float8, ...) are shown as bytes, which never fit.
    dtype = np.dtype(_SAFE_DTYPES.get(entry["dtype"], "u1"))
    array = np.frombuffer(buffer, dtype, (high - low) // dtype.itemsize, start + low)
    shape = entry["shape"] if entry["dtype"] in (*_SAFE_DTYPES, "U8") else [len(array)]
    return widened(array.reshape(shape)) if entry["dtype"] == "BF16" else array.reshape(shape)


def _unpacked(text: np.ndarray, ends: np.ndarray) -> pa.Array:
    joined, starts = text.tobytes(), [0, *ends[:-1].tolist()]
    return pa.array([joined[low:high].decode() for low, high in zip(starts, ends, strict=True)], pa.large_string())


def _write_parquet(path: Path, vectors: np.ndarray, ids: pa.Array) -> None:
    import pyarrow.parquet as pq

    from sparcode.semantic_id.embedding_checks import blocks

    # Values that cannot be null are read and written in one piece, and a dictionary of floats is soon given up.
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), vectors.shape[1])
    schema = pa.schema([("item_id", ids.type), pa.field("embedding", kind, nullable=False)])
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, use_dictionary=["item_id"]) as writer:
        for block in blocks(*vectors.shape):
            flat = pa.array(np.ascontiguousarray(vectors[block]).reshape(-1))
            lists = pa.FixedSizeListArray.from_arrays(flat, type=kind)
            writer.write_table(pa.table([ids[block.start : block.stop], lists], schema=schema))


def _write_safetensors(path: Path, vectors: np.ndarray, ids: pa.Array) -> None:
    from sparcode.index.arrays import write_arrays

    if pa.types.is_integer(ids.type):
        write_arrays(path, {"embeddings": vectors, "ids": ids.to_numpy()})
        return
    parts = [value.encode() for value in ids.to_pylist()]
    ends = np.cumsum([len(part) for part in parts]).astype(np.int64)
    text = np.frombuffer(b"".join(parts), np.uint8)
    write_arrays(path, {"embeddings": vectors, "ids_text": text, "ids_ends": ends})


def _write_folder(folder: Path, vectors: np.ndarray, ids: pa.Array) -> None:
    """Write the folder under another name and rename it; an earlier one is replaced if it holds embeddings only."""
    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    retired = folder.with_name(f"{temporary.name}.old")
    try:
        temporary.mkdir()
        _write_ids(temporary, "ids", ids)
        with atomic_path(temporary / _FOLDER_VECTORS) as file, open(file, "wb") as stream:
            np.save(stream, vectors, allow_pickle=False)
        if folder.exists():
            os.replace(folder, retired)
        os.replace(temporary, folder)
    finally:
        if retired.exists() and not folder.exists():
            os.replace(retired, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)
    sync_directory(folder.parent)


def _write_ids(folder: Path, stem: str, ids: pa.Array) -> None:
    """Write STEM.npy for integers, STEM.txt for text, and remove the other one."""
    if pa.types.is_integer(ids.type):
        with atomic_path(folder / f"{stem}.npy") as temporary, open(temporary, "wb") as stream:
            np.save(stream, ids.to_numpy(), allow_pickle=False)
        (folder / f"{stem}.txt").unlink(missing_ok=True)
        return
    values = ids.to_pylist()
    broken = next((value for value in values if "\n" in value or "\r" in value), None)
    if broken is not None:
        raise DataError(f"id {broken!r} holds a line break, which a list of ids cannot; write .parquet instead")
    write_text(folder / f"{stem}.txt", "".join(f"{value}\n" for value in values))
    (folder / f"{stem}.npy").unlink(missing_ok=True)
