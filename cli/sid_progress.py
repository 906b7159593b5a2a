"""What a person sees while a tokenizer is fitted: the stage, and of each epoch its error and the use of its codes."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from .output import note

if TYPE_CHECKING:
    from rich.console import Console

_TASK = "fit"
LINE_EVERY = 10
"""Epochs between two lines where stderr is no terminal."""


class FitProgress:
    """A progress bar on the stderr of a terminal; elsewhere a line every ten epochs, as training has them.

    ``quiet``: nothing at all. Use it as a context: the terminal is left as it was, whatever happens.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        from sparcode.progress import Bars

        self._quiet, self._bars, self._trains = quiet, Bars(not quiet, console), False

    def __enter__(self) -> FitProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._bars.finish(_TASK, "fitted")
        self._bars.close()

    def stage(self, name: str) -> None:
        """Show what begins; how long it takes is not known."""
        if self._trains:  # epochs are over, early or not
            self._bars.finish(_TASK, name)
        else:
            self._bars.update(_TASK, text=name)

    def epoch(self, entry: dict[str, Any]) -> None:
        """Show a finished epoch; ``entry`` as ``train.item_autoencoder`` reports it."""
        self._trains = True
        done, total = entry["epoch"] + 1, entry["epochs"]
        shown = f"epoch {done}/{total} {figures(entry)}"
        self._bars.update(_TASK, done=done, total=total, note=shown)
        if not self._bars.shown and not self._quiet and (done % LINE_EVERY == 0 or done == total):
            note(shown)


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
