"""Medians of systems that take turns: on a shared machine only times of one stretch of time can be compared.

The time of a call is the smaller of what passed on the wall and what its thread got of a processor: a call of some
milliseconds is interrupted more often than not, and a clock of processor time is too coarse for one of a few
microseconds. All calls run in one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparcode.eval.latency import collector_off


class Subject(NamedTuple):
    """Something to time: ``call(*arguments[i])`` for i in turn. ``point`` says what it is (JSON-able)."""

    point: dict[str, Any]
    call: Callable[..., object]
    arguments: Sequence[tuple[Any, ...]]


def medians(subjects: Sequence[Subject], rounds: int, block_us: float = 4000.0) -> list[dict[str, Any]]:
    """Return the points, each with ``p50_us`` and the number of ``calls`` behind it.

    In every round each subject has a block of calls, as many as fill ``block_us`` (at least 2, at most all of its
    arguments); the subject that begins changes. Blocks, because the call after a scan of all items would find its own
    data thrown out of the caches. The first call of a block is not counted.
    """
    sizes = [_block(subject, block_us) for subject in subjects]
    times: list[list[float]] = [[] for _ in subjects]
    with collector_off():
        for turn in range(rounds):
            for shift in range(len(subjects)):
                place = (turn + shift) % len(subjects)
                times[place] += _timed(subjects[place], turn * sizes[place], sizes[place])[1:]
    return [
        subject.point | {"p50_us": round(float(np.median(own)), 3), "calls": len(own)}
        for subject, own in zip(subjects, times, strict=True)
    ]


def _block(subject: Subject, block_us: float) -> int:
    _timed(subject, 0, 3)
    usual = float(np.median(_timed(subject, 3, 3)))
    return int(min(max(block_us / max(usual, 0.1), 2), max(len(subject.arguments), 2))) + 1


def _timed(subject: Subject, first: int, count: int) -> list[float]:
    """Return microseconds of ``count`` calls."""
    _, call, arguments = subject
    wall, own, times = time.perf_counter_ns, time.thread_time_ns, []
    for i in range(first, first + count):
        given = arguments[i % len(arguments)]
        own_start, start = own(), wall()
        call(*given)
        passed, used = wall() - start, own() - own_start
        times.append(min(passed, used) / 1e3)
    return times
