"""One process at a time: a file that is locked while work goes on; the system lets go of it when the process ends.

The lock is filelock's native one of an open file: flock on POSIX, a range of one byte on Windows. Opening the file
stays ours (``files.open_own``: no link is followed, nothing is truncated), and so does removing it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparcode.errors import RunError
from sparcode.files import open_own


def lock_file(path: Path) -> int:
    """Lock ``path``, created if need be and never changed, and return a descriptor; closing it lets go.

    BlockingIOError when another process, or this one, holds it. RunError when ``path`` is a link or no file.
    """
    from filelock import lock_descriptor  # 30 ms that only those pay who write

    descriptor = open_own(path, os.O_RDWR)
    try:
        if lock_descriptor(descriptor, blocking=False):
            return descriptor
        raise BlockingIOError(errno.EAGAIN, "the lock is held by another writer")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def locked(path: Path, busy: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock ``path`` for a block of work; the file is removed at the end.

    RunError with the message ``busy`` when another still holds it after ``patience`` seconds.
    """
    end = time.monotonic() + patience
    while (descriptor := _lock_present(path)) is None:
        if time.monotonic() >= end:
            raise RunError(busy)
        time.sleep(0.05)
    try:
        yield
    finally:
        if os.name != "nt":  # where a file that is open cannot be removed
            with suppress(OSError):
                os.unlink(path)
        os.close(descriptor)


def _lock_present(path: Path) -> int | None:
    """Lock ``path`` unless another holds it; a file that its holder removed while we opened it is no lock any more."""
    while True:
        try:
            descriptor = lock_file(path)
        except BlockingIOError:
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)
