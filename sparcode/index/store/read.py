"""Opening a stored index: one generation, whole and checked, or a named error; never an older one silently."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sparcode.errors import CorruptIndexError, IndexMismatchError, RunError
from sparcode.index.layout import Family, Index, LayoutError
from sparcode.index.store import format as form
from sparcode.index.store import receipts

MAX_ATTEMPTS = 8
Verify = Literal["auto", "full", "none"]
_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):  # not every system has them
    _FLAGS |= getattr(os, _name, 0)


class _Moved(Exception):
    """A file was missing; the store may have moved on to a newer generation."""

    def __init__(self, path: Path, generation: int) -> None:
        super().__init__(str(path))
        self.path = path
        self.generation = generation


@dataclass(frozen=True)
class _Opened:
    manifest: dict[str, Any]
    manifest_digest: str
    arrays: dict[str, np.ndarray]
    marks: dict[str, list[int]]


def open_index(
    folder: Path,
    *,
    verify: str = "auto",
    expect_model_hash: str | None = None,
    load: Literal["mmap", "copy"] = "mmap",
) -> tuple[Index, dict[str, Any]]:
    """Open the generation CURRENT names (docs/index-format.md); return the Index (read-only arrays) and its manifest.

    ``verify``: ``none`` checks manifest, sizes and offsets; ``full`` also the digest of every file and every
    posting and score; ``auto`` is ``full`` unless these very files (inode, size, times) were verified before.
    ``load="copy"`` reads the arrays into memory: for network disks, where mapped files may vanish or shrink.
    Raises RunError without an index, CorruptIndexError on damage, IndexMismatchError when the model hash is not
    ``expect_model_hash``.
    """
    folder = Path(folder)
    if verify not in ("auto", "full", "none"):
        raise ValueError(f"verify is {verify!r}, expected auto, full or none")
    opened = _open_generation(folder, load)
    manifest = opened.manifest
    if expect_model_hash is not None and manifest["model_hash"] != expect_model_hash:
        raise IndexMismatchError(
            f"{folder}: built from model {manifest['model_hash'][:12]}, "
            f"the model beside it is {expect_model_hash[:12]}; {_remedy(folder)}"
        )
    index = _to_index(folder, opened)
    known = verify == "auto" and receipts.is_verified(folder, opened.manifest_digest, opened.marks)
    if verify != "none" and not known:
        _verify(folder, opened, index)
        receipts.remember(folder, opened.manifest_digest, opened.marks)
    return index, manifest


def _open_generation(folder: Path, load: str) -> _Opened:
    """Open CURRENT, manifest and arrays; start again only if a file is gone *and* the generation advanced."""
    missing: _Moved | None = None
    for _ in range(MAX_ATTEMPTS):
        current = _read_current(folder)
        if missing is not None and current["generation"] <= missing.generation:
            raise _damaged(missing.path, folder, "the file does not exist")
        try:
            return _open_files(folder, current, load)
        except _Moved as moved:
            missing = moved
    raise CorruptIndexError(f"{folder}: the index was replaced {MAX_ATTEMPTS} times while being opened; try again")


def _read_current(folder: Path) -> dict[str, Any]:
    path = folder / "CURRENT"
    try:
        content, _ = _read_file(path, folder, None, form.MAX_CURRENT_BYTES)
    except FileNotFoundError:
        if any(folder.glob("manifests/g*.json")):
            raise _damaged(path, folder, "the file does not exist") from None
        raise RunError(f"{folder}: no index found here; {_remedy(folder)}") from None
    try:
        return form.parse_current(content)
    except form.FormatError as problem:
        raise _damaged(path, folder, str(problem)) from None


def _open_files(folder: Path, current: dict[str, Any], load: str) -> _Opened:
    generation = current["generation"]
    path = folder / "manifests" / current["manifest"]
    try:
        content, mark = _read_file(path, folder, current["size"], form.MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise _Moved(path, generation) from None
    _compare_digest(path, folder, form.digest(content), current["sha256"], "CURRENT")
    try:
        manifest = form.parse_manifest(content, generation)
    except form.FormatError as problem:
        raise _damaged(path, folder, str(problem)) from None
    arrays, marks = _open_arrays(folder, manifest, load)
    return _Opened(manifest, current["sha256"], arrays, marks | {current["manifest"]: mark})


def _open_arrays(
    folder: Path, manifest: dict[str, Any], load: str
) -> tuple[dict[str, np.ndarray], dict[str, list[int]]]:
    arrays, marks, files = {}, {}, {}
    with contextlib.ExitStack() as stack:
        # All files first: an open descriptor outlives the removal of its name.
        segment = _segment(folder, manifest)
        for name, entry in manifest["arrays"].items():
            place = segment / entry["file"]
            try:
                files[name] = stack.enter_context(_opened(place, folder))
            except FileNotFoundError:
                raise _Moved(place, manifest["generation"]) from None
            marks[entry["file"]] = _check_size(place, folder, files[name], entry["bytes"])
        for name, entry in manifest["arrays"].items():
            try:
                arrays[name] = _load_array(files[name], entry, load)
            except (OSError, ValueError, OverflowError, MemoryError) as problem:
                # It shrank a moment ago, or it is sparse and larger than any memory.
                what = f"its {entry['bytes']} bytes cannot be read ({problem})"
                raise _damaged(segment / entry["file"], folder, what) from None
    return arrays, marks


def _load_array(descriptor: int, entry: dict[str, Any], load: str) -> np.ndarray:
    if entry["bytes"] == 0:
        array = np.zeros(entry["shape"], entry["dtype"])
        array.flags.writeable = False
        return array
    if load == "copy":
        # Not through a mapping: reading one that shrinks kills the process, a short read is an error.
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            source: Any = stream.read(entry["bytes"])
    else:
        source = mmap.mmap(descriptor, entry["bytes"], access=mmap.ACCESS_READ)
    return np.frombuffer(source, entry["dtype"]).reshape(entry["shape"])


def _to_index(folder: Path, opened: _Opened) -> Index:
    manifest, arrays = opened.manifest, opened.arrays
    index = Index(
        arrays["indptr"],
        arrays["postings"],
        manifest["item_count"],
        float(manifest["scale"]),
        tuple(Family(**family | {"multiplier": float(family["multiplier"])}) for family in manifest["families"]),
        arrays["code_table"],
        arrays.get("code_rows"),
        arrays.get("scores"),
    )
    _validate(folder, manifest, index, postings=False)
    return index


def _verify(folder: Path, opened: _Opened, index: Index) -> None:
    segment = _segment(folder, opened.manifest)
    for name, entry in opened.manifest["arrays"].items():
        raw = opened.arrays[name]
        content: Any = raw.reshape(-1).view(np.uint8) if raw.nbytes else b""
        found = hashlib.sha256(content).hexdigest()
        _compare_digest(segment / entry["file"], folder, found, entry["sha256"], "the manifest")
    _validate(folder, opened.manifest, index, postings=True)


def _validate(folder: Path, manifest: dict[str, Any], index: Index, *, postings: bool) -> None:
    try:
        index.validate(postings=postings)
    except LayoutError as problem:
        path = folder / "manifests" / form.manifest_name(manifest["generation"])
        if problem.part in manifest["arrays"]:
            path = _segment(folder, manifest) / f"{problem.part}.bin"
        raise _damaged(path, folder, str(problem)) from None


def _segment(folder: Path, manifest: dict[str, Any]) -> Path:
    return folder / "segs" / manifest["segment"]


def _compare_digest(path: Path, folder: Path, found: str, expected: str, where: str) -> None:
    if found != expected:
        raise _damaged(path, folder, f"its SHA-256 is {found[:12]}..., {where} says {expected[:12]}...")


@contextlib.contextmanager
def _opened(path: Path, folder: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise _damaged(path, folder, f"it cannot be opened ({problem.strerror})") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check_size(path: Path, folder: Path, descriptor: int, size: int | None) -> list[int]:
    """Return the marks of a regular file of exactly ``size`` bytes."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _damaged(path, folder, "it is not a regular file")
    if size is not None and status.st_size != size:
        raise _damaged(path, folder, f"it has {status.st_size} bytes, expected {size}")
    return receipts.mark(status)


def _read_file(path: Path, folder: Path, size: int | None, limit: int) -> tuple[bytes, list[int]]:
    with _opened(path, folder) as descriptor:
        mark = _check_size(path, folder, descriptor, size)
        try:
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                return stream.read(min(mark[2], limit) + 1), mark
        except OSError as problem:
            raise _damaged(path, folder, f"it cannot be read ({problem.strerror})") from None


def _damaged(path: Path, folder: Path, problem: str) -> CorruptIndexError:
    return CorruptIndexError(f"{path} is damaged: {problem}; {_remedy(folder)}")


def _remedy(folder: Path) -> str:
    return f"build the index again: sparcode build-index {folder.parent}"
