"""Latency of single queries: one process, one thread, systems interleaved query by query, percentiles of raw times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparcode.types import Hits, Queries, Retriever

STAGES = ("encode", "retrieve", "rescore", "total")


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Stages:
    """How a system answers one query, in parts and as a whole.

    ``encode(query)`` gives a state, ``retrieve(state)`` candidates, ``rescore(state, candidates)`` hits (None: the
    system has no such stage, its time is 0). ``whole(query)`` is the path a server would call: ``total`` is its
    time, not the sum of the parts. ``prepare`` runs before each query, outside the clock.
    """

    encode: Callable[[Queries], Any]
    retrieve: Callable[[Any], Any]
    rescore: Callable[[Any, Any], Any] | None
    whole: Callable[[Queries], Hits]
    prepare: Callable[[], None] = nothing


def measure(
    systems: Sequence[Stages], queries: Queries, *, rounds: int = 3, warmup: int = 20, run: int = 1
) -> list[dict[str, dict[str, float]]]:
    """Time every query on every system and return, for each system, p50 and p95 in microseconds of each stage.

    Two passes a round, parts and wholes, so that neither finds the caches warmed by the other; within a pass the
    systems take turns on every ``run`` queries, and the one that begins changes. The first ``warmup`` queries run once
    before. With ``run`` = 1 a query finds the caches as the other systems left them; in longer runs, whose first
    query is answered once untimed, as a service does that answers one query after the other.
    """
    singles = [queries.slice(row, row + 1) for row in range(len(queries))]
    times = np.zeros((len(systems), len(STAGES), rounds, len(singles)))
    for query in singles[:warmup]:
        for system in systems:
            _parts(system, query)
            _whole(system, query)
    with collector_off():
        for turn in range(rounds):
            for place, rows in taking_turns(len(systems), len(singles), run, turn):
                if run > 1:
                    _parts(systems[place], singles[rows[0]])
                for row in rows:
                    times[place, :3, turn, row] = _parts(systems[place], singles[row])
            for place, rows in taking_turns(len(systems), len(singles), run, turn):
                if run > 1:
                    _whole(systems[place], singles[rows[0]])
                for row in rows:
                    times[place, 3, turn, row] = _whole(systems[place], singles[row])
    return [_percentiles(own) for own in times]


def batch_rates(retrievers: Sequence[Retriever], queries: Queries, k: int, *, rounds: int = 3) -> list[float]:
    """Return queries a second of each retriever answering all ``queries`` in one call: median of the rounds."""
    seconds = np.zeros((len(retrievers), rounds))
    for retriever in retrievers:
        retriever.retrieve(queries.slice(0, min(8, len(queries))), k)
    with collector_off():
        for turn in range(rounds):
            for place in _turns(len(retrievers), turn):
                started = time.perf_counter()
                retrievers[place].retrieve(queries, k)
                seconds[place, turn] = time.perf_counter() - started
    return [float(len(queries) / max(value, 1e-9)) for value in np.median(seconds, axis=1)]


@contextmanager
def collector_off() -> Iterator[None]:
    """Run the block without garbage collections; restores the earlier setting."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def taking_turns(systems: int, queries: int, run: int, shift: int) -> Iterator[tuple[int, range]]:
    """Yield (system, its next ``run`` queries) so that all systems answer a run before any answers the next one."""
    for number, first in enumerate(range(0, queries, run)):
        for place in _turns(systems, number + shift):
            yield place, range(first, min(first + run, queries))


def _turns(count: int, shift: int) -> list[int]:
    return [(place + shift) % count for place in range(count)]


def _parts(system: Stages, query: Queries) -> tuple[float, float, float]:
    clock = time.perf_counter_ns
    system.prepare()
    start = clock()
    state = system.encode(query)
    encoded = clock()
    found = system.retrieve(state)
    retrieved = clock()
    if system.rescore is None:
        return (encoded - start) / 1e3, (retrieved - encoded) / 1e3, 0.0
    system.rescore(state, found)
    return (encoded - start) / 1e3, (retrieved - encoded) / 1e3, (clock() - retrieved) / 1e3


def _whole(system: Stages, query: Queries) -> float:
    system.prepare()
    start = time.perf_counter_ns()
    system.whole(query)
    return (time.perf_counter_ns() - start) / 1e3


def _percentiles(times: np.ndarray) -> dict[str, dict[str, float]]:
    """``times``: (stages, rounds, queries) microseconds."""
    low, high = np.percentile(times.reshape(len(STAGES), -1), [50, 95], axis=1)
    return {name: {"p50": round(float(low[i]), 2), "p95": round(float(high[i]), 2)} for i, name in enumerate(STAGES)}
