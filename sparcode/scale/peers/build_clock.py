"""How long a build took: wall time, and the processor time that other jobs on the machine do not stretch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from sparcode.eval.machine import one_thread

Result = TypeVar("Result")


class BuildTime(NamedTuple):
    """Seconds of wall time and of processor time."""

    wall: float
    cpu: float


def timed_build(build: Callable[[], Result]) -> tuple[Result, BuildTime]:
    """Run ``build`` in one thread; return its result and its time."""
    with one_thread():
        wall, cpu = time.perf_counter(), time.process_time()
        result = build()
        return result, BuildTime(time.perf_counter() - wall, time.process_time() - cpu)
