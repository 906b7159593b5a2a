"""Around a build: a work folder that one process holds at a time, and how it says how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparcode.build.code_blocks import Progress
from sparcode.files import make_folder, own_folder
from sparcode.locks import locked
from sparcode.progress import Bars


@contextmanager
def exclusive(folder: Path) -> Iterator[Path]:
    """Hold the work folder for one build at a time; the system releases it when the process dies."""
    busy = f"{folder.parent} is being built by another process; wait for it to finish"
    make_folder(folder.parent)
    with locked(folder.with_name("index-work.lock"), busy):
        own_folder(folder)
        yield folder


@contextmanager
def reporter(progress: bool | Progress) -> Iterator[Progress]:
    """Give what blocks are reported to: a bar on stderr for True, the callable that was given, or nothing."""
    if not progress:
        yield lambda done, total: None
    elif callable(progress):
        yield progress
    else:
        with Bars() as bars:
            yield lambda done, total: bars.update("scoring codes", done=done, total=total, note=f"{done}/{total}")
