"""What was verified before: a small file a store in the user's cache directory, so that opening again is quick.

A receipt holds (device, inode, size, modification time, change time) of every file. It is written only when
the files are old enough that a later change must show in these times. Losing it costs one verification.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from sparcode.errors import CorruptIndexError
from sparcode.files import read_json, write_json
from sparcode.folders import cache_root

SETTLED_NS = 100_000_000
"""File times have the kernel's tick (up to 10 ms): a younger file could change again under the same time."""


def mark(status: os.stat_result) -> list[int]:
    """Return what identifies the unchanged content of a file."""
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def is_verified(folder: Path, manifest_digest: str, marks: dict[str, list[int]]) -> bool:
    """Whether exactly these files were verified before."""
    try:
        receipt = read_json(_path(folder))
    except (CorruptIndexError, OSError):
        return False
    return receipt == {"manifest": manifest_digest, "files": marks}


def remember(folder: Path, manifest_digest: str, marks: dict[str, list[int]]) -> None:
    """Keep a receipt, unless a file is too young; without a writable cache nothing is kept."""
    youngest = max(max(times[3:]) for times in marks.values())
    if time.time_ns() - youngest < SETTLED_NS:
        return
    with contextlib.suppress(OSError):
        write_json(_path(folder), {"manifest": manifest_digest, "files": marks})


def _path(folder: Path) -> Path:
    name = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:32]
    return cache_root() / "verified" / f"{name}.json"
