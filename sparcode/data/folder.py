"""A new folder that is whole or absent: filled under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparcode.errors import DataError
from sparcode.files import make_folder, sync_directory


def require_absent(folder: Path) -> None:
    """Raise DataError unless ``folder`` does not exist or is an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not an empty folder; give another one, or remove it")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill; on success rename it to ``folder``, else remove it. DataError as ``require_absent``."""
    require_absent(folder)
    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if folder.exists():  # empty; Windows renames over no folder
            folder.rmdir()
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(folder.parent)
