"""A fitted tokenizer as a folder: two files named by their content, and one small file that is replaced last.

    SID/tokenizer.json              format, settings, spec of the codec, report, names and SHA-256 of the others
    SID/codec-<digest>.safetensors  arrays of the codec and of the scaling
    SID/items-<digest>.parquet      item_id, c1 .. cL, code_str

``tokenizer.json`` is the switch: a writer that is killed leaves the earlier tokenizer usable. No pickle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import CorruptIndexError, DataError, RunError
from sparcode.files import atomic_path, make_folder, read_json, sha256_of, write_json
from sparcode.index.arrays import read_arrays, write_arrays
from sparcode.locks import locked
from sparcode.semantic_id.mapping import SemanticIds
from sparcode.semantic_id.mapping_files import read_parquet, write_parquet

FORMAT = "sparcode-semantic-ids"
VERSION = 1
_NAME = "tokenizer.json"
_LOCK = "tokenizer.lock"


def fingerprint(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return 16 hex digits that tell a fitted tokenizer from any other: its spec and all its arrays."""
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1e".encode())
        digest.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()[:16]


def save(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], mapping: SemanticIds) -> None:
    """Write or replace a tokenizer; RunError when ``folder`` holds something else."""
    folder = Path(folder)
    check_target(folder)
    make_folder(folder)
    with locked(folder / _LOCK, f"{folder} is being written by another process; choose another folder", 60):
        _write(folder, record, arrays, mapping)


def _write(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], mapping: SemanticIds) -> None:
    written = {
        "codec": _named(folder, "codec", ".safetensors", lambda path: write_arrays(path, arrays)),
        "items": _named(folder, "items", ".parquet", lambda path: write_parquet(mapping, path)),
    }
    content = {"format": FORMAT, "version": VERSION, **record, "files": written}
    write_json(folder / _NAME, content | {"sha256": _digest(content)})
    kept = {_NAME, *(entry["name"] for entry in written.values())}
    for path in folder.iterdir():
        if path.name.startswith(("codec-", "items-")) and path.name not in kept:
            with suppress(OSError):
                path.unlink()


def folder_of(path: Any) -> Path:
    """Return a path; RunError for what is none."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or not isinstance(os.fspath(path), str):
        raise RunError(f"folder is {path!r}; expected the path of a tokenizer's folder")
    return Path(path)


def load(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], SemanticIds]:
    """Return what ``save`` was given, digests checked.

    Raises RunError when ``folder`` is no tokenizer or one of another format, CorruptIndexError naming a file that is
    missing or damaged.
    """
    folder = Path(folder)
    if not (folder / _NAME).is_file():
        raise RunError(f"{folder}: no tokenizer found there (no {_NAME}); make one with: sparcode sid fit")
    record = read_json(folder / _NAME, _no_json)
    found = (record.get("format"), record.get("version")) if isinstance(record, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise RunError(
            f"{folder}/{_NAME}: format {found[0]!r} version {found[1]!r} found, {FORMAT!r} version {VERSION} expected; "
            "fit the tokenizer again with this version of sparcode"
        )
    # Files of earlier writers carry no digest of themselves.
    given = record.pop("sha256", None)
    if given not in (None, _digest(record)):
        raise CorruptIndexError(
            f"{folder}/{_NAME} was edited or damaged; put the file back, or fit the tokenizer again"
        )
    arrays = read_arrays(_checked(folder, record, "codec"))
    try:
        return record, arrays, read_parquet(_checked(folder, record, "items"))
    except DataError as problem:
        raise CorruptIndexError(f"{problem}; fit the tokenizer again") from None


def check_target(folder: Path) -> None:
    """Raise RunError or PermissionError when no tokenizer can be written to ``folder``."""
    folder = Path(folder)
    if folder.is_file():
        raise RunError(f"{folder} is a file; choose a folder for the tokenizer")
    if folder.is_dir() and any(path.name != _LOCK for path in folder.iterdir()) and not (folder / _NAME).is_file():
        raise RunError(f"{folder} is not empty and holds no tokenizer; choose another folder")
    # Asked before hours of training; nothing is created yet.
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise RunError(f"{place} is a file, so that {folder} cannot be made; choose another folder")
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _named(folder: Path, stem: str, ending: str, write: Any) -> dict[str, str]:
    # The name is known only when the bytes are.
    draft = folder / f"{stem}-draft{ending}"
    write(draft)
    digest = sha256_of(draft)
    name = f"{stem}-{digest[:16]}{ending}"
    with atomic_path(folder / name) as temporary:
        draft.replace(temporary)
    return {"name": name, "sha256": digest}


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(record), sort_keys=True).encode()).hexdigest()


def _no_json(message: str) -> CorruptIndexError:
    return CorruptIndexError(message.replace("train the run again", "fit the tokenizer again"))


def _checked(folder: Path, record: dict[str, Any], part: str) -> Path:
    try:
        name, expected = record["files"][part]["name"], record["files"][part]["sha256"]
    except (KeyError, TypeError):
        raise CorruptIndexError(f"{folder}/{_NAME} names no file for {part!r}; it was edited, fit it again") from None
    path = folder / Path(str(name)).name
    if not path.is_file():
        raise CorruptIndexError(f"{path} does not exist; put the file back, or fit the tokenizer again")
    digest = sha256_of(path)
    if digest != expected:
        raise CorruptIndexError(
            f"{path} is damaged: its SHA-256 is {digest[:12]}..., {_NAME} says {str(expected)[:12]}...; "
            "put the file back, or fit the tokenizer again"
        )
    return path
