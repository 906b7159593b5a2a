"""The few file operations the store is made of, behind one seam, so that tests can record them and let them fail."""

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


def _unlink(path: Path) -> None:
    if os.name == "nt":  # where a read-only file cannot be removed
        os.chmod(path, stat.S_IWRITE)
    os.unlink(path)
