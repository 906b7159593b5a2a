"""Around a build: a work folder that one process holds at a time, and how it says how far it is."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparcode.errors import RunError
from sparcode.index.code_blocks import Progress


@contextmanager
def exclusive(folder: Path) -> Iterator[Path]:
    """Hold the work folder for one build at a time; the system releases it when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name("index-work.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder.parent} is being built by another process; wait for it to finish") from None
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


@contextmanager
def reporter(progress: bool | Progress) -> Iterator[Progress]:
    """Give what blocks are reported to: a bar on stderr for True, the callable that was given, or nothing."""
    if not progress:
        yield lambda done, total: None
    elif callable(progress):
        yield progress
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("scoring codes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("blocks", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
