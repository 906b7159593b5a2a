"""Which search parameters a dense peer is compared at: the fastest that reach a quality, and the whole curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sparcode.eval.latency import collector_off
from sparcode.eval.machine import one_thread
from sparcode.eval.metrics import overlap
from sparcode.scale.peers.protocols import DensePeer, Parameters

Measures = Mapping[str, Callable[[np.ndarray], float]]
"""Qualities by name; each takes the ids (B, k) found for the tuning queries."""

RECALL = "index_recall"
ENOUGH = 0.999
"""Index recall from which on more of every parameter cannot help."""


@dataclass(frozen=True)
class Point:
    """One entry of the grid: ``values`` of each measure, ``p50`` microseconds of a single query."""

    parameters: Parameters
    values: dict[str, float]
    p50: float

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """``parameters``: the fastest entry that reaches the target, else the best entry, and then ``reached`` is False."""

    parameters: Parameters
    reached: bool
    curve: list[Point]


def tune(
    peer: DensePeer, queries: np.ndarray, exact: np.ndarray, k: int, *, recall: float = 0.95, rounds: int = 3
) -> Choice:
    """Return the fastest parameters whose index recall at k reaches ``recall``; the peer is left set to them.

    ``queries``: (B, d) float32. ``exact``: (B, >= k), the true best of each, see ``dense_peers.exact_ids``.
    """
    return choose(peer, trace(peer, queries, k, {}, exact=exact, rounds=rounds), RECALL, recall)


def tune_quality(
    peer: DensePeer,
    queries: np.ndarray,
    quality: Callable[[np.ndarray], float],
    k: int,
    *,
    target: float,
    rounds: int = 3,
) -> Choice:
    """Return the fastest parameters at which ``quality(ids)``, say an NDCG, reaches ``target``; sets the peer."""
    return choose(peer, trace(peer, queries, k, {"quality": quality}, rounds=rounds), "quality", target)


def trace(
    peer: DensePeer,
    queries: np.ndarray,
    k: int,
    measures: Measures,
    *,
    exact: np.ndarray | None = None,
    rounds: int = 3,
) -> list[Point]:
    """Measure the grid of the peer, one thread: every quality, and the p50 of single queries over ``rounds`` passes.

    With ``exact`` there is the measure ``index_recall``, and entries are left out that ask for at least as much of
    every parameter as one that found everything. Entries take turns in every pass, so that all meet the same load.
    """
    if exact is not None:
        reference = exact
        measures = {RECALL: lambda ids: float(overlap(ids, reference, k).mean()), **measures}
    with one_thread(), collector_off():
        kept = _qualities(peer, queries, k, measures)
        times = np.zeros((len(kept), rounds, len(queries)))
        for turn in range(rounds):
            for place, (parameters, _) in enumerate(kept):
                peer.set(parameters)
                times[place, turn] = _pass(peer, queries, k)
    return [
        Point(parameters, values, round(float(np.median(own)) / 1e3, 3))
        for (parameters, values), own in zip(kept, times, strict=True)
    ]


def choose(peer: DensePeer, curve: list[Point], measure: str, target: float) -> Choice:
    """Return the fastest point of a curve whose ``measure`` reaches ``target``, else the best; sets the peer to it."""
    good = [point for point in curve if point.values[measure] >= target]
    if good:
        best = min(good, key=lambda point: point.p50)
    else:
        best = max(curve, key=lambda point: (point.values[measure], -point.p50))
    peer.set(best.parameters)
    return Choice(best.parameters, bool(good), curve)


def pareto(curve: list[Point], measure: str) -> list[Point]:
    """Return the points that no other beats in both ``measure`` and p50, fastest first."""
    front: list[Point] = []
    for point in sorted(curve, key=lambda point: (point.p50, -point.values[measure])):
        if not front or point.values[measure] > front[-1].values[measure]:
            front.append(point)
    return front


def _qualities(
    peer: DensePeer, queries: np.ndarray, k: int, measures: Measures
) -> list[tuple[Parameters, dict[str, float]]]:
    kept: list[tuple[Parameters, dict[str, float]]] = []
    perfect: list[Parameters] = []
    for parameters in peer.parameter_grid(k):
        if any(_asks_as_much(parameters, less) for less in perfect):
            continue
        peer.set(parameters)
        ids = peer.search_batch(queries, k)
        values = {name: measure(ids) for name, measure in measures.items()}
        kept.append((parameters, values))
        if values.get(RECALL, 0.0) >= ENOUGH:
            perfect.append(parameters)
    return kept


def _asks_as_much(parameters: Parameters, less: Parameters) -> bool:
    return all(parameters[name] >= value for name, value in less.items())


def _pass(peer: DensePeer, queries: np.ndarray, k: int) -> np.ndarray:
    """Return (B,) nanoseconds of each query, after one that is not counted: parameters have just changed."""
    clock, search = time.perf_counter_ns, peer.search
    times = np.zeros(len(queries))
    search(queries[-1], k)
    for place, query in enumerate(queries):
        started = clock()
        search(query, k)
        times[place] = clock() - started
    return times
