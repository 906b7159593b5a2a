"""Files that are whole or absent: written to a temporary name, synced, renamed. No pickle anywhere."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sparcode.errors import CorruptIndexError


def sync_directory(path: Path) -> None:
    """Make the names inside ``path`` durable (POSIX: fsync of the directory)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it to ``path``, else remove it.

    An OSError names ``path``, not the temporary file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException as problem:
        _remove(temporary)
        number = _system_error(problem)
        if number is not None:
            raise OSError(number, os.strerror(number), str(path)) from problem
        raise
    sync_directory(path.parent)


def is_temporary(name: str) -> bool:
    """Tell whether a file name is one of ``atomic_path``, left behind by a process that was killed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", name) is not None


@contextmanager
def atomic_paths(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """``atomic_path`` of files that belong together: none is replaced before all are written.

    An OSError names the first of ``paths``.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(atomic_path(path)) for path in paths]


def _system_error(problem: BaseException) -> int | None:
    if isinstance(problem, OSError):
        return problem.errno
    # The safetensors library tells a full disk by text alone.
    found = re.search(r"\(os error (\d+)\)", str(problem))
    return int(found[1]) if found and isinstance(problem, Exception) else None


def _remove(temporary: Path) -> None:
    # The error that led here is the one to tell, not that the folder never existed.
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise OSError if no file ``path`` can be written; called before long work whose result goes there."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as problem:
        raise OSError(problem.errno, os.strerror(problem.errno or errno.EIO), str(path)) from None
    finally:
        _remove(probe)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that readers see the old file or the new one, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, keys in the given order, with a final newline."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, error: Callable[[str], Exception] = CorruptIndexError) -> Any:
    """Read a JSON file; a missing or malformed file raises ``error`` with a one-line message."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} does not exist; put the file back, or train the run again") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise error(
            f"{path} is not valid JSON ({problem}); it was damaged or edited: put it back, or train the run again"
        ) from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
