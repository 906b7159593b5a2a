"""File operations that are recorded and that fail, in place of the real ones behind the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sparcode.index.store.operations import FileOps


class RecordingFileOps(FileOps):
    """Does everything and keeps a log of (name, arguments, result); written bytes are copied."""

    def __init__(self) -> None:
        self.log: list[tuple[str, tuple[Any, ...], Any]] = []

    def _call(self, name: str, operation: Callable[..., Any], *arguments: Any) -> Any:
        kept = tuple(bytes(value) if isinstance(value, memoryview) else value for value in arguments)
        result = operation(*arguments)
        self.log.append((name, kept, result))
        return result


class SimulatedCrash(BaseException):
    """The process "died": raised by the operation it died at and by every one after it."""


class FaultingFileOps(FileOps):
    """Fails at operation number ``at`` (from 0).

    ``fault``: an errno raised as OSError, once or, with ``persistent``, from then on; ``"crash"`` raises
    SimulatedCrash from then on; ``"kill"`` ends the process with SIGKILL; ``"short"`` makes a write take one
    byte. ``count`` is the number of operations begun; ``descriptors`` are those still open.
    """

    def __init__(self, at: int, fault: int | str, *, persistent: bool = False) -> None:
        self.at = at
        self.fault = fault
        self.persistent = persistent or fault == "crash"
        self.count = 0
        self.descriptors: set[int] = set()

    def _call(self, name: str, operation: Callable[..., Any], *arguments: Any) -> Any:
        number = self.count
        self.count += 1
        if number == self.at or (self.persistent and number > self.at):
            arguments = self._fail(name, arguments)
        result = operation(*arguments)
        if name in ("create", "lock"):
            self.descriptors.add(result)
        if name == "close":
            self.descriptors.discard(arguments[0])
        return result

    def _fail(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if isinstance(self.fault, int):
            if name == "close":  # the kernel closes the descriptor even when it reports an error
                os.close(arguments[0])
                self.descriptors.discard(arguments[0])
            raise OSError(self.fault, os.strerror(self.fault))
        if self.fault == "crash":
            raise SimulatedCrash
        if self.fault == "kill":
            os.kill(os.getpid(), 9)
        if self.fault == "short" and name == "write":
            return arguments[0], arguments[1][:1]
        return arguments

    def abandon(self) -> None:
        """Close what the "dead" process left open, as the kernel would."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()
