"""What a person sees while a model trains: a bar with loss, validation metric, codes in use and time left."""

from __future__ import annotations

import time
from typing import Any, Protocol


class Progress(Protocol):
    """Receives every step and every epoch."""

    def step(self, name: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """Take note of a finished step (1-based) and the mean loss of its epoch so far."""

    def epoch(self, name: str, epochs: int, report: dict[str, Any]) -> None:
        """Take note of a finished epoch."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """Shows nothing."""

    def step(self, name: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """Ignore."""

    def epoch(self, name: str, epochs: int, report: dict[str, Any]) -> None:
        """Ignore."""

    def close(self) -> None:
        """Nothing to close."""


class Terminal:
    """A rich progress bar on stderr, one line a model; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
            console=self._console, transient=False, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}
        self._notes: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._bar.start()

    def step(self, name: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """Advance the bar of one model."""
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(f"training {name}", total=epochs, note="")
            self._started[name] = time.perf_counter() - 1e-9
        note = f"epoch {epoch + 1}/{epochs} loss {loss:.3f} {self._notes.get(name, '')}"
        self._bar.update(self._tasks[name], completed=epoch + step / steps, note=note)

    def epoch(self, name: str, epochs: int, report: dict[str, Any]) -> None:
        """Show the figures of an epoch."""
        parts = []
        if "ndcg@10" in report:
            parts.append(f"validation NDCG@10 {report['ndcg@10']:.4f}")
        if "quantised_ndcg@10" in report:
            parts.append(f"(codes {report['quantised_ndcg@10']:.4f})")
        if "codes" in report:
            parts.append(f"{report['codes']} codes in use")
        self._notes[name] = " ".join(parts)
        if not self._console.is_terminal:
            loss = f" loss {report['loss']:.3f}" if "loss" in report else ""
            line = f"{name}: epoch {report['epoch'] + 1}/{epochs}{loss} {self._notes[name]}"
            self._console.print(f"{line} {report['seconds']:.0f} s", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the bar."""
        self._bar.stop()
