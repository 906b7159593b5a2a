"""Where this program keeps what it can make again: one cache folder a user, by the conventions of the system."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """Return the folder of all caches; it need not exist.

    ``SPARCODE_CACHE``, else what the system calls for (platformdirs): ``XDG_CACHE_HOME``/sparcode or ~/.cache/sparcode,
    on macOS ~/Library/Caches/sparcode, on Windows %LOCALAPPDATA%/sparcode/Cache. Without a home it is in the temporary
    folder.
    """
    given = os.environ.get("SPARCODE_CACHE")
    if given:
        return Path(given)
    try:
        return platformdirs.user_cache_path("sparcode", appauthor=False)
    except RuntimeError:  # its word for a home that is not known
        return temporary_root()


def temporary_root() -> Path:
    """Return a folder of this user's in the temporary folder; it need not exist."""
    owner = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir(), f"sparcode{owner}")


def private_folder(path: Path) -> bool:
    """Create ``path`` for this user alone, if need be; tell whether it is: a folder of ours that nobody else writes.

    The temporary folder is everybody's: who makes the name first could put files of his into it.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
