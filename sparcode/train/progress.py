"""What a person sees while a model trains: a bar with loss, validation metric, codes in use and time left."""

from __future__ import annotations

from typing import Any, Protocol

from sparcode.progress import Bars


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
    """A bar on stderr for every model; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        self._bars = Bars()
        self._notes: dict[str, str] = {}

    def step(self, name: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """Advance the bar of one model."""
        note = f"epoch {epoch + 1}/{epochs} loss {loss:.3f} {self._notes.get(name, '')}"
        self._bars.update(f"training {name}", done=epoch + step / steps, total=epochs, note=note)

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
        loss = f" loss {report['loss']:.3f}" if "loss" in report else ""
        line = f"{name}: epoch {report['epoch'] + 1}/{epochs}{loss} {self._notes[name]}"
        self._bars.line(f"{line} {report['seconds']:.0f} s")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bars.close()
