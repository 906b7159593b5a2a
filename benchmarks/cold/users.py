"""Part ``users`` of the benchmark: short histories, and targets by the number of their training events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shared import Row

from cold.values import CUTOFF, METRIC, OURS, THEIRS, evaluated, facts, values_of
from sparcode.build.job import build_index
from sparcode.eval.evaluate import EvaluationResult
from sparcode.eval.machine import one_thread
from sparcode.index.arrays import Arrays, write_arrays
from sparcode.retrievers.evaluation import evaluation_set_of
from sparcode.retrievers.registry import available, open_retrievers
from sparcode.run import Run
from sparcode.types import EvaluationSet, Queries

OF_USERS = (OURS, THEIRS, "content-knn", "recent-popular", "popular")
EVENTS = (0, 1, 2, 3, 5, None)
"""Events known of a new user; None: all."""
SLICES = ((0, 0), (1, 5), (6, 20), (21, 100), (101, None))
"""Least and greatest number of training events of a target."""


def measure_users(run: Run, values: Path) -> Row:
    """Build the index of an ordinary run, ask with short histories and by target, and write ``values``."""
    print(f"{run.folder.name}: building and evaluating", flush=True)
    full = evaluation_set_of(run, "test")
    with one_thread():
        built = build_index(run.folder)
        opened = open_retrievers(run, [name for name in OF_USERS if name in available(run)])
        found = {known(events): evaluated(run, opened, cut_histories(full, events)) for events in EVENTS}
    slices = slices_of(found[known(None)], np.asarray(run.dataset.popularity))
    write_arrays(values, values_of(found) | slices, {})
    return {
        **facts(run, built, found),
        "slices": {slice_of(*bounds): _slice_row(slices, slice_of(*bounds)) for bounds in SLICES},
    }


def cut_histories(held: EvaluationSet, events: int | None) -> EvaluationSet:
    """Return the queries with the last ``events`` of their histories (None: all); targets stay."""
    if events is None:
        return held
    queries = held.queries
    sizes = np.minimum(np.diff(queries.indptr), events)
    indptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    places = np.arange(indptr[-1]) + np.repeat(queries.indptr[1:] - indptr[1:], sizes)
    cut = Queries(indptr, queries.items[places], queries.user_features, queries.times)
    return EvaluationSet(held.users, cut, held.target_indptr, held.target_items)


def slices_of(results: list[EvaluationResult], popularity: np.ndarray) -> Arrays:
    """Return users and NDCG@10 of the targets of every slice, as in ``VALUES``; every target is a query of its own."""
    held = results[0].evaluation_set
    users = np.repeat(held.users, np.diff(held.target_indptr))
    events = popularity[held.target_items]
    gains = {result.retriever: gains_of(result.ranks) for result in results if result.retriever in (OURS, THEIRS)}
    arrays: Arrays = {}
    for low, high in SLICES:
        inside = (events >= low) & (events <= (np.inf if high is None else high))
        arrays[f"{slice_of(low, high)}/users"] = users[inside]
        arrays |= {f"{slice_of(low, high)}/{name}/{METRIC}": values[inside] for name, values in gains.items()}
    return arrays


def _slice_row(slices: Arrays, name: str) -> Row:
    values = {system: slices[f"{name}/{system}/{METRIC}"] for system in (OURS, THEIRS)}
    means = {system: float(array.mean()) if len(array) else None for system, array in values.items()}
    return {"targets": len(values[OURS]), METRIC: means}


def gains_of(ranks: np.ndarray) -> np.ndarray:
    """Return the NDCG@10 of single targets from their 0-based ranks, -1 where they were not found."""
    found = (ranks >= 0) & (ranks < CUTOFF)
    return np.where(found, 1.0 / np.log2(np.maximum(ranks, 0) + 2.0), 0.0)


def known(events: int | None) -> str:
    """Return the name of the queries whose histories are cut to ``events``."""
    return "all events" if events is None else f"last {events}"


def slice_of(low: int, high: int | None) -> str:
    """Return the name of the targets with ``low`` to ``high`` training events."""
    return f">{low - 1}" if high is None else f"{low}-{high}" if high > low else str(low)
