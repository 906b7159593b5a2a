"""The few file operations the store is made of, behind one seam, so that tests can record them and make them fail."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparcode import files
from sparcode.locks import lock_file

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # not every system has them
    _NEW |= getattr(os, _name, 0)


class FileOps:
    """Real file operations (POSIX, a local file system). Every one goes through ``_call``."""

    def _call(self, name: str, operation: Callable[..., Any], *arguments: Any) -> Any:
        return operation(*arguments)

    def make_directory(self, path: Path) -> None:
        """Create a directory; its parent must be synced before the name is durable."""
        self._call("make_directory", os.mkdir, path)

    def create(self, path: Path, mode: int) -> int:
        """Create a file that must not exist and return a descriptor to write to."""
        return self._call("create", os.open, path, _NEW, mode)

    def write(self, descriptor: int, content: memoryview) -> int:
        """Write some of ``content`` and return how many bytes; fewer than given is legal."""
        return self._call("write", os.write, descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Make a file's content durable. A failure is final: the file must be given up, never synced again."""
        self._call("sync", os.fsync, descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        self._call("close", os.close, descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        self._call("sync_directory", files.sync_directory, path)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name that must not exist."""
        self._call("link", os.link, source, target)

    def replace(self, source: Path, target: Path) -> None:
        """Rename atomically over ``target``."""
        self._call("replace", files.replace, source, target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        self._call("unlink", _unlink, path)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        self._call("remove_directory", os.rmdir, path)

    def lock(self, path: Path) -> int:
        """Take an exclusive lock or raise BlockingIOError; closing the returned descriptor releases it."""
        return self._call("lock", lock_file, path)


class RecordingFileOps(FileOps):
    """Does everything and keeps a log of (name, arguments, result); written bytes are copied."""

    def __init__(self) -> None:
        self.log: list[tuple[str, tuple[Any, ...], Any]] = []

    def _call(self, name: str, operation: Callable[..., Any], *arguments: Any) -> Any:
        kept = tuple(bytes(value) if isinstance(value, memoryview) else value for value in arguments)
        result = operation(*arguments)
        self.log.append((name, kept, result))
        return result


class SimulatedCrash(BaseException):
    """The process "died": raised by the operation it died at and by every one after it."""


class FaultingFileOps(FileOps):
    """Fails at operation number ``at`` (from 0).

    ``fault``: an errno raised as OSError, once or, with ``persistent``, from then on; ``"crash"`` raises
    SimulatedCrash from then on; ``"kill"`` ends the process with SIGKILL; ``"short"`` makes a write take one
    byte. ``count`` is the number of operations begun; ``descriptors`` are those still open.
    """

    def __init__(self, at: int, fault: int | str, *, persistent: bool = False) -> None:
        self.at = at
        self.fault = fault
        self.persistent = persistent or fault == "crash"
        self.count = 0
        self.descriptors: set[int] = set()

    def _call(self, name: str, operation: Callable[..., Any], *arguments: Any) -> Any:
        number = self.count
        self.count += 1
        if number == self.at or (self.persistent and number > self.at):
            arguments = self._fail(name, arguments)
        result = operation(*arguments)
        if name in ("create", "lock"):
            self.descriptors.add(result)
        if name == "close":
            self.descriptors.discard(arguments[0])
        return result

    def _fail(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if isinstance(self.fault, int):
            if name == "close":  # the kernel closes the descriptor even when it reports an error
                os.close(arguments[0])
                self.descriptors.discard(arguments[0])
            raise OSError(self.fault, os.strerror(self.fault))
        if self.fault == "crash":
            raise SimulatedCrash
        if self.fault == "kill":
            os.kill(os.getpid(), 9)
        if self.fault == "short" and name == "write":
            return arguments[0], arguments[1][:1]
        return arguments

    def abandon(self) -> None:
        """Close what the "dead" process left open, as the kernel would."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


def _unlink(path: Path) -> None:
    if os.name == "nt":  # where a read-only file cannot be removed
        os.chmod(path, stat.S_IWRITE)
    os.unlink(path)
