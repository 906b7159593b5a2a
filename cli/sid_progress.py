"""What a person sees while a tokenizer is fitted: the stage, and of each epoch its error and the use of its codes."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from .output import note

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY = 10
"""Epochs between two lines where stderr is no terminal."""


class FitProgress:
    """A rich progress bar on the stderr of a terminal; elsewhere a line every ten epochs, as training has them.

    ``quiet``: nothing at all. Use it as a context: the terminal is left as it was, whatever happens.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._quiet, self._console = quiet, console or Console(stderr=True)
        self._shown = self._console.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
            console=self._console, transient=False, disable=not self._shown,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None, note="")

    def __enter__(self) -> FitProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._bar.update(self._task, description="fitted", total=1, completed=1)
        self._bar.stop()

    def stage(self, name: str) -> None:
        """Show what begins; how long it takes is not known."""
        self._bar.update(self._task, description=name)
        if self._bar.tasks[0].total is not None:  # epochs are over, early or not
            self._bar.update(self._task, completed=self._bar.tasks[0].total)

    def epoch(self, entry: dict[str, Any]) -> None:
        """Show a finished epoch; ``entry`` as ``train.item_autoencoder`` reports it."""
        done, total = entry["epoch"] + 1, entry["epochs"]
        self._bar.update(self._task, total=total, completed=done, note=f"epoch {done}/{total} {figures(entry)}")
        if not self._shown and not self._quiet and (done % LINE_EVERY == 0 or done == total):
            note(f"epoch {done}/{total} {figures(entry)}")


def figures(entry: dict[str, Any]) -> str:
    """Return MSE, validation MSE, the least used codebook and the perplexities, as far as an epoch has them."""
    parts = [f"mse {entry['mse']:.4g}"]
    if entry.get("validation_mse") is not None:
        parts.append(f"validation {entry['validation_mse']:.4g}")
    if entry.get("usage"):
        parts.append(f"least usage {min(entry['usage']):.0%}")
        parts.append(f"perplexity {'/'.join(f'{value:.0f}' for value in entry['perplexity'])}")
    else:
        parts.append("codebooks not started")
    return " ".join(parts)
