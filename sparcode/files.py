"""Files that are whole or absent: written to a temporary name, synced, renamed. No pickle anywhere.

A folder may come from somebody else. So nothing here writes through a link that lies in it, waits for a pipe that
stands where a file is expected, or reads a device.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sparcode.errors import CorruptIndexError, RunError

MAX_JSON_BYTES = 256 << 20
"""More is no record of ours: it would fill the memory before anything is known of it."""
STALE_SECONDS = 3600
"""A temporary file that nobody has written to for so long belongs to a process that was killed."""
_CLOEXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# A pipe that stands where a file is expected must not be waited for. Windows knows neither of these.
_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a named pipe", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file",
    stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
}  # fmt: skip


def sync_directory(path: Path) -> None:
    """Make the names inside ``path`` durable: fsync of the directory, which Windows cannot open."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and those above it where they are missing; new names are durable."""
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_directory(folder.parent)


def own_folder(path: Path) -> Path:
    """Create the folder ``path``, one of our names inside a folder of the user's, and return it; see below."""
    require_own_folder(path)
    make_folder(path)
    return Path(path)


def require_own_folder(path: Path) -> None:
    """Raise RunError when a link or a file stands at ``path``, where our program keeps a folder of its own.

    What is written there would land somewhere else. Links on the way to it are the user's business.
    """
    kind = _kind(path, stat.S_IFDIR)
    if kind is not None:
        raise RunError(f"{path} is {kind}, expected a folder; remove it and repeat the command")


def require_regular(path: Path, error: Callable[[str], Exception] = CorruptIndexError) -> None:
    """Raise ``error`` when ``path`` (a link is followed) is a pipe, a device or a folder; a missing file passes.

    For libraries that open files by name: opening a pipe waits for ever, reading a device never ends.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # whoever opens it says what is wrong
    if not stat.S_ISREG(mode):
        raise error(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, expected a regular file; put it back")


def open_own(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open (or create) the regular file ``path`` for writing, never through a link, and return a descriptor.

    ``flags``: of ``os.open``; nothing is truncated. RunError names a link, a pipe, or a file with several names.
    """
    kind = _kind(path)
    if kind is None:
        try:
            descriptor = os.open(path, flags | os.O_CREAT | _CAREFULLY, mode)
        except OSError as problem:
            if problem.errno != errno.ELOOP:
                raise
            kind = "a symbolic link"
        else:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            kind = "no file"
    raise RunError(f"{path} is {kind}, expected a regular file of its own; remove it and repeat the command")


def append_text(path: Path, content: str) -> None:
    """Add UTF-8 text to the end of the file ``path``; RunError as ``open_own``, and for a file with several names."""
    descriptor = open_own(path, os.O_WRONLY | os.O_APPEND)
    with os.fdopen(descriptor, "a", encoding="utf-8", newline="") as stream:
        names = os.fstat(descriptor).st_nlink
        if names > 1:
            raise RunError(f"{path} is one of {names} names of a file (hard links); remove it and repeat the command")
        stream.write(content)


def _kind(path: Path, expected: int = stat.S_IFREG) -> str | None:
    """Say what stands at ``path``; None for what is expected and for nothing."""
    try:
        found = stat.S_IFMT(os.lstat(path).st_mode)
    except OSError:
        return None
    return None if found == expected else _KINDS.get(found, "a file")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it to ``path``, else remove it.

    An OSError names ``path``, not the temporary file. A link at ``path`` is replaced, what it names stays.
    """
    path = Path(path)
    _require_replaceable(path)
    temporary = temporary_beside(path)
    try:
        make_folder(path.parent)
        _remove_stale(path)
        yield temporary
        # Not read-only: Windows syncs only what may be written.
        descriptor = os.open(temporary, os.O_RDWR | _CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        replace(temporary, path)
    except BaseException as problem:
        _remove(temporary)
        number = _system_error(problem)
        if number is not None:
            raise OSError(number, os.strerror(number), str(path)) from problem
        raise
    sync_directory(path.parent)


def _require_replaceable(path: Path) -> None:
    """Raise RunError for a pipe or a device: a file renamed over it would take its place for every program."""
    if not path.is_dir():  # which the system itself refuses to replace
        require_regular(path, lambda message: RunError(message.removesuffix("; put it back") + " or a new name"))


def replace(source: Path, target: Path) -> None:
    """Rename over ``target``. On Windows a reader that has it open just now is waited for, two seconds at most."""
    for _ in range(40 if os.name == "nt" else 0):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(0.05)
    os.replace(source, target)


def temporary_beside(path: Path) -> Path:
    """Return a name beside ``path`` that nobody uses, as ``is_temporary`` knows them."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _remove_stale(path: Path) -> None:
    """Remove temporaries of ``path`` that killed processes left; each folder is looked through once a process."""
    left = _leftovers.get(path.parent)
    if left is None:
        left = _leftovers[path.parent] = [name for name in os.listdir(path.parent) if is_temporary(name)]
    for name in [name for name in left if name[1:-13] == path.name]:
        left.remove(name)
        with suppress(OSError):
            found = os.lstat(path.parent / name)
            if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > STALE_SECONDS:
                os.unlink(path.parent / name)


_leftovers: dict[Path, list[str]] = {}


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
    """Raise OSError if no file ``path`` can be written; called before long work whose result goes there.

    RunError for a pipe or a device.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    _require_replaceable(path)
    probe = temporary_beside(path)
    try:
        make_folder(path.parent)
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
    """Read a JSON file; one that is missing, malformed or no regular file raises ``error`` with a one-line message."""
    try:
        content = read_bytes(path, error, MAX_JSON_BYTES)
    except FileNotFoundError:
        raise error(f"{path} does not exist; put the file back, or train the run again") from None
    try:
        return parse_json(content)
    except ValueError as problem:
        text = " ".join(str(problem).split())[:200]
        raise error(
            f"{path} is not valid JSON ({text}); it was damaged or edited: put it back, or train the run again"
        ) from None


def read_object(path: Path, error: Callable[[str], Exception] = CorruptIndexError) -> dict[str, Any]:
    """``read_json`` of a file that holds an object; ``error`` for anything else."""
    content = read_json(path, error)
    if not isinstance(content, dict):
        raise error(f"{path} holds {type(content).__name__}, expected an object; it was edited: put it back")
    return content


def read_bytes(path: Path, error: Callable[[str], Exception], limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes; ``error`` names any other; OSError as ``open``."""
    require_regular(path, error)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise error(f"{path} has {status.st_size:,} bytes, expected a regular file of at most {limit:,}")
        return stream.read(limit)


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 JSON; ValueError for what json lets through: NaN, infinities, a key twice, bottomless nesting."""
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=_finite_number,
            parse_float=_finite_number,
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _finite_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:40]}")
    return value


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex, read in 1 MiB pieces."""
    require_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
