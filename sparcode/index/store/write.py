"""Publishing an index: everything written, synced and named before CURRENT points at it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import RunError
from sparcode.files import make_folder, read_bytes, require_own_folder
from sparcode.index.layout import Index, families_to_json
from sparcode.index.store import format as form
from sparcode.index.store.operations import FileOps
from sparcode.wording import warn

KEPT_GENERATIONS = 2
_PIECE = 8 << 20
_log = logging.getLogger(__name__)


def publish(
    folder: Path,
    index: Index,
    *,
    model_hash: str,
    config_hash: str,
    info: dict[str, Any] | None = None,
    expected_generation: int | None = None,
    ops: FileOps | None = None,
) -> int:
    """Write ``index`` as the next generation of the store ``folder`` and return its number (from 1).

    When this returns, the generation is durable. When it raises, or the process dies, readers see the earlier
    generation whole, or, from the switch on, the new one whole. ``info``: free JSON kept in the manifest.
    ``expected_generation``: refuse unless the store still is at this generation. Keeps the last two.
    Raises RunError: another writer, a full disk, a failed write or sync; ValueError: a broken index, or hashes or
    ``info`` that a reader would refuse (docs/index-format.md).
    """
    index.validate()
    writer = _Writer(Path(folder), ops or FileOps())
    header = {"model_hash": model_hash, "config_hash": config_hash}
    try:
        with writer.locked():
            return writer.publish(index, header, info or {}, expected_generation)
    except OSError as problem:
        state = "the new one is visible but perhaps not durable" if writer.switched else "the earlier one stays"
        raise RunError(f"{folder}: writing the index failed ({problem}); {state}; repeat the command") from problem


class _Writer:
    def __init__(self, folder: Path, ops: FileOps) -> None:
        self.folder = folder
        self.ops = ops
        self.manifests = folder / "manifests"
        self.segments = folder / "segs"
        self.switched = False
        self.created: list[Path] = []

    @contextmanager
    def locked(self) -> Iterator[None]:
        for directory in (self.folder, self.manifests, self.segments):
            require_own_folder(directory)
            if not directory.is_dir():
                make_folder(directory.parent)
                self.ops.make_directory(directory)
                self.ops.sync_directory(directory.parent)
        try:
            descriptor = self.ops.lock(self.folder / "LOCK")
        except BlockingIOError:
            raise RunError(f"{self.folder}: another process is writing this index; wait until it has ended") from None
        try:
            yield
        finally:
            self.ops.close(descriptor)

    def publish(self, index: Index, header: dict[str, Any], info: dict[str, Any], expected: int | None) -> int:
        now = self._current_generation()
        if expected is not None and expected != now:
            raise RunError(f"{self.folder}: generation {now} found, {expected} expected; the index changed meanwhile")
        if now is None:
            generation = 1 + max(self._numbers(self.manifests, form.MANIFEST_NAME), default=0)
        else:
            generation = now + 1
            self._collect_garbage(now)
        self._check_space(index)
        try:
            return self._write_generation(generation, index, header, info)
        except BaseException:
            if not self.switched:
                self._remove_created()
            raise

    def _write_generation(self, generation: int, index: Index, header: dict[str, Any], info: dict[str, Any]) -> int:
        arrays = self._write_segment(generation, index)
        manifest = form.encode_manifest(_manifest(generation, index, header, arrays, info))
        current = form.encode_current(generation, manifest)
        # What a reader would refuse is never published.
        form.parse_manifest(manifest, generation)
        form.parse_current(current)
        self._write_manifest(generation, manifest)
        temporary = self.folder / "CURRENT.tmp"
        self._write_file(temporary, current, 0o644)
        self.ops.replace(temporary, self.folder / "CURRENT")
        self.switched = True
        self.ops.sync_directory(self.folder)
        try:
            self._collect_garbage(generation)
        except OSError as problem:
            warn(f"{self.folder}: old generations could not be removed ({problem})", stacklevel=4)
        return generation

    def _write_segment(self, generation: int, index: Index) -> dict[str, Any]:
        segment = self.segments / form.segment_name(generation)
        self.ops.make_directory(segment)
        self.created.append(segment)
        entries = {}
        for name, array in index.arrays().items():
            raw = np.ascontiguousarray(array, form.DTYPES[name])
            content: Any = raw.reshape(-1).view(np.uint8).data if raw.nbytes else b""
            entries[name] = {
                "file": f"{name}.bin",
                "dtype": form.DTYPES[name],
                "shape": list(raw.shape),
                "bytes": raw.nbytes,
                "sha256": self._write_file(segment / f"{name}.bin", content, 0o444),
            }
        self.ops.sync_directory(segment)
        self.ops.sync_directory(self.segments)
        return entries

    def _write_manifest(self, generation: int, content: bytes) -> None:
        """Publish under the final name without replacing: an existing one means a second writer."""
        final = self.manifests / form.manifest_name(generation)
        temporary = final.with_suffix(".tmp")
        self._write_file(temporary, content, 0o444)
        self.ops.link(temporary, final)
        self.created.append(final)
        self.ops.unlink(temporary)
        self.ops.sync_directory(self.manifests)

    def _write_file(self, path: Path, content: bytes | memoryview, mode: int) -> str:
        """Create, write, sync, close; returns the SHA-256. After a failed sync the descriptor is never synced again."""
        hasher = hashlib.sha256()
        view = memoryview(content)
        descriptor = self.ops.create(path, mode)
        self.created.append(path)
        try:
            start = 0
            while start < len(view):
                written = self.ops.write(descriptor, view[start : start + _PIECE])
                hasher.update(view[start : start + written])
                start += written
            self.ops.sync(descriptor)
        finally:
            self.ops.close(descriptor)
        return hasher.hexdigest()

    def _current_generation(self) -> int | None:
        """Return the generation CURRENT names, 0 without CURRENT, None when it is damaged."""
        try:
            return int(form.parse_current(read_bytes(self.folder / "CURRENT", RunError, _PIECE))["generation"])
        except FileNotFoundError:
            return 0
        except form.FormatError:
            return None

    def _check_space(self, index: Index) -> None:
        needed = sum(array.nbytes for array in index.arrays().values()) + (1 << 20)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise RunError(f"{self.folder}: {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free; free some space")

    def _collect_garbage(self, current: int) -> None:
        """Remove what belongs to neither of the last generations up to ``current``: older, or left by a dead writer."""
        present = self._numbers(self.manifests, form.MANIFEST_NAME)
        kept = set(sorted(number for number in present if number <= current)[-KEPT_GENERATIONS:])
        leftovers = [*self.manifests.glob("g*.tmp"), *self.folder.glob("CURRENT.tmp")]
        for path in leftovers:
            self.ops.unlink(path)
        gone = present - kept
        for number in sorted(gone):
            self.ops.unlink(self.manifests / form.manifest_name(number))
        # A manifest is durably gone before its files are.
        if gone or leftovers:
            self.ops.sync_directory(self.manifests)
        for number in sorted(self._numbers(self.segments, form.SEGMENT_NAME) - kept):
            _log.info("removing the arrays of generation %d", number)
            self._remove_segment(number)

    def _remove_created(self) -> None:
        """Undo an unfinished generation as far as possible; what stays behind is removed by the next writer.

        Only what this writer made: on a file system without working locks the rest could be another's.
        """
        for path in reversed(self.created):
            with contextlib.suppress(OSError):
                if path.is_dir():
                    self.ops.remove_directory(path)
                else:
                    self.ops.unlink(path)

    def _remove_segment(self, number: int) -> None:
        segment = self.segments / form.segment_name(number)
        if segment.is_symlink() or not segment.is_dir():
            return
        try:
            for path in segment.iterdir():
                self.ops.unlink(path)
            self.ops.remove_directory(segment)
        except PermissionError:
            if os.name != "nt":
                raise
            # A reader has it mapped, which Windows does not allow to be removed: the next writer will.

    @staticmethod
    def _numbers(directory: Path, pattern: Any) -> set[int]:
        matches = (pattern.fullmatch(name) for name in os.listdir(directory))
        return {int(match[1], 16) for match in matches if match}


def _manifest(
    generation: int, index: Index, header: dict[str, Any], arrays: dict[str, Any], info: dict[str, Any]
) -> dict[str, Any]:
    return {
        "format": form.FORMAT,
        "format_version": form.FORMAT_VERSION,
        "generation": generation,
        **header,
        "item_count": index.item_count,
        "rows": index.row_count,
        "postings": len(index.postings),
        "scale": index.scale,
        "families": families_to_json(index.families),
        "segment": form.segment_name(generation),
        "arrays": arrays,
        "info": info,
    }
