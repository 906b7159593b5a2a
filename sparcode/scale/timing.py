"""Latency of retrieval alone: one process, one thread, engines in turns; and queries a second.

Two ways to take turns. ``alternating``: on every query, so that each finds the caches as the others left them, none of
its own data near. ``steady``: on runs of queries, as a service that answers one query after the other; the first query
of a run is answered once untimed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sparcode.eval.latency import collector_off, taking_turns
from sparcode.eval.machine import one_thread

Call = Callable[[int], Any]
"""Answers the query of a number."""
RUN = 25
"""Queries of a run."""
WARM_UP = 20
SLOW = 0.02
"""Seconds above which a call gets a single round."""


def interleaved(
    calls: Mapping[str, Call], queries: int, rounds: int = 3, *, run: int = 1
) -> dict[str, dict[str, float]]:
    """Return p50 and p95 in microseconds of every call over all queries and rounds.

    Engines take turns on ``run`` queries, and the one that begins changes. A call that takes longer than SLOW runs in
    the first round only.
    """
    names = list(calls)
    times = np.full((len(names), rounds, queries), np.nan)
    with one_thread(), collector_off():
        slow = [_warm(call, min(WARM_UP, queries)) > SLOW for call in calls.values()]
        for turn in range(rounds):
            for place, own in taking_turns(len(names), queries, run, turn):
                if not (turn and slow[place]):
                    times[place, turn, own.start : own.stop] = _run(calls[names[place]], own, untimed=run > 1)
    return {name: _percentiles(own) for name, own in zip(names, times, strict=True)}


def _run(call: Call, queries: range, *, untimed: bool) -> list[int]:
    """Return the nanoseconds of each query."""
    clock = time.perf_counter_ns
    times = []
    if untimed:
        call(queries[0])
    for query in queries:
        started = clock()
        call(query)
        times.append(clock() - started)
    return times


def rates(batches: Mapping[str, Callable[[], Any]], queries: int, rounds: int = 3) -> dict[str, float]:
    """Return queries a second of calls that answer ``queries`` at once, one thread: median of interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    with one_thread(), collector_off():
        for batch in batches.values():
            batch()
        for _ in range(rounds):
            for name, batch in batches.items():
                started = time.perf_counter()
                batch()
                seconds[name].append(time.perf_counter() - started)
    return {name: round(queries / float(np.median(own)), 1) for name, own in seconds.items()}


def _warm(call: Call, queries: int) -> float:
    """Run some queries and return the shortest time in seconds."""
    best = np.inf
    for query in range(queries):
        started = time.perf_counter()
        call(query)
        best = min(best, time.perf_counter() - started)
        if best > SLOW and query:
            break
    return best


def _percentiles(times: np.ndarray) -> dict[str, float]:
    low, high = np.nanpercentile(times, [50, 95]) / 1e3
    return {"p50": round(float(low), 2), "p95": round(float(high), 2)}
