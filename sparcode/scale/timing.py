"""Latency of retrieval alone: one process, one thread, engines interleaved query by query; and queries a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sparcode.eval.latency import collector_off
from sparcode.eval.machine import one_thread

Call = Callable[[int], Any]
"""Answers the query of a number."""
WARM_UP = 20
SLOW = 0.02
"""Seconds above which a call gets a single round."""


def interleaved(calls: Mapping[str, Call], queries: int, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Return p50 and p95 in microseconds of every call over all queries and rounds.

    Engines take turns on each query and the one that begins changes. A call that takes longer than SLOW runs in the
    first round only.
    """
    names = list(calls)
    times = np.full((len(names), rounds, queries), np.nan)
    with one_thread(), collector_off():
        slow = [_warm(call, min(WARM_UP, queries)) > SLOW for call in calls.values()]
        for turn in range(rounds):
            for query in range(queries):
                for step in range(len(names)):
                    place = (step + query + turn) % len(names)
                    if turn and slow[place]:
                        continue
                    started = time.perf_counter_ns()
                    calls[names[place]](query)
                    times[place, turn, query] = time.perf_counter_ns() - started
    return {name: _percentiles(own) for name, own in zip(names, times, strict=True)}


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
