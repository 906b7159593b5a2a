"""The comparison every claim rests on: quality, bytes, build time, latency and throughput of all systems.

One process, one thread, the same queries, systems interleaved. HNSW stands at three operating points: the smallest
ef that reaches index recall .95, .99, and an NDCG within 1 % of exact search; points that need the same ef share a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sparcode.data.features import with_user_features
from sparcode.errors import DataError
from sparcode.eval.evaluate import EvaluationResult, compare, evaluate, sample, take
from sparcode.eval.latency import Stages, batch_rates, measure
from sparcode.eval.machine import git_commit, machine_info, one_thread
from sparcode.eval.metrics import overlap
from sparcode.types import EvaluationSet, Retriever

EXACT = "two-tower-exact"


@dataclass(frozen=True)
class System:
    """One row of the benchmark.

    ``reference``: exhaustive search of the system's own unquantised score. Bytes as in ARCHITECTURE.md. ``build_s``:
    seconds to build the index, None when not recorded. ``extra``: more keys of the row.
    """

    name: str
    retriever: Retriever
    stages: Stages
    reference: Retriever
    cache_bytes: int
    rescoring_bytes: int
    encoder_bytes: int
    build_s: float | None
    extra: dict[str, Any] = field(default_factory=dict)


def benchmark(
    run: Any,
    *,
    queries: int = 1000,
    rounds: int = 3,
    k: int = 10,
    split: str = "test",
    hnsw: Sequence[str] = ("faiss-hnsw", "hnswlib"),
    tuning_users: int = 5000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure SparCode and, when the run holds one, the two-tower; returns the JSON of ``sparcode benchmark``.

    ``queries``: seeded users (with a history) for latency, throughput and index recall; quality is over the whole
    split. ``hnsw``: libraries to compare with; one that is not installed is left out with a warning.
    Raises DataError when the run has no such split.
    """
    from sparcode.retrievers.systems import open_systems

    evaluation_set = _held_out(run, split)
    tuning_set = sample(evaluation_set, tuning_users, seed=seed, purpose="ef tuning")
    with one_thread() as threads:
        systems, notes = open_systems(run, tuning_set, k=k, hnsw=hnsw)
        document = measure_systems(
            systems, evaluation_set, run.dataset.item_count, queries=queries, rounds=rounds, k=k, seed=seed
        )
    for note in notes["warnings"]:
        warnings.warn(note, stacklevel=2)
    document["machine"]["threads"] = threads
    document["settings"] |= {"split": split, "tuning_users": len(tuning_set)}
    return document | {"curves": notes["curves"], "warnings": notes["warnings"]}


def measure_systems(
    systems: Sequence[System],
    evaluation_set: EvaluationSet,
    item_count: int,
    *,
    queries: int = 1000,
    rounds: int = 3,
    k: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure given systems; the JSON of ``benchmark`` without curves."""
    results = [_quality(system.retriever, evaluation_set, item_count, k, seed) for system in systems]
    timed = _timed_users(evaluation_set, queries, seed)
    latencies = measure([system.stages for system in systems], timed.queries, rounds=rounds)
    rates = batch_rates([system.retriever for system in systems], timed.queries, k, rounds=rounds)
    recalls = _index_recalls(systems, timed, k)
    exact = next((result for system, result in zip(systems, results, strict=True) if system.name == EXACT), None)
    rows = [_row(*columns, exact, k) for columns in zip(systems, results, recalls, latencies, rates, strict=True)]
    return {
        "machine": machine_info(),
        "commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {"k": k, "timed_users": len(timed), "rounds": rounds, "seed": seed, "items": item_count},
        "rows": rows,
    }


def _held_out(run: Any, split: str) -> EvaluationSet:
    held: EvaluationSet | None = getattr(run.dataset, split, None)
    if held is None or len(held) == 0:
        raise DataError(f"{run.folder} has no {split} users; train with --split-by leave-last-out, time or column")
    features = getattr(run.dataset, "user_features", None)
    if features is None or not run.config.model.user_features:
        return held
    return with_user_features(held, features)


def _quality(
    retriever: Retriever, evaluation_set: EvaluationSet, item_count: int, k: int, seed: int
) -> EvaluationResult:
    # Metrics at k from a search for k results: a search for 50 would raise HNSW's ef to 50 and flatter it.
    deep = evaluate(retriever, evaluation_set, item_count, cutoffs=(50,), seed=seed)
    if k == 50:
        return deep
    short = evaluate(retriever, evaluation_set, item_count, cutoffs=(k,), depth=k, seed=seed)
    return replace(
        short,
        metrics=short.metrics | deep.metrics,
        intervals=short.intervals | deep.intervals,
        values=short.values | deep.values,
    )


def _row(
    system: System,
    result: EvaluationResult,
    recall: float,
    latency: dict[str, dict[str, float]],
    rate: float,
    exact: EvaluationResult | None,
    k: int,
) -> dict[str, Any]:
    row = {
        "system": system.name,
        "metrics": result.metrics,
        "intervals": {name: list(interval) for name, interval in result.intervals.items()},
        "queries": len(result.evaluation_set),
        "fill_rate": result.fill_rate,
        "index_recall": recall,
        "cache_bytes": system.cache_bytes,
        "rescoring_bytes": system.rescoring_bytes,
        "encoder_bytes": system.encoder_bytes,
        "build_s": system.build_s,
        "latency_us": latency,
        "batch_qps": round(rate, 1),
    }
    if exact is not None and system.name != EXACT:
        row[f"ndcg@{k}_minus_exact"] = compare(result, exact, f"ndcg@{k}")._asdict()
    return row | system.extra


def _timed_users(evaluation_set: EvaluationSet, users: int, seed: int) -> EvaluationSet:
    with_history = np.flatnonzero(np.diff(evaluation_set.queries.indptr) > 0)
    if len(with_history) == 0:
        raise DataError("no user of the evaluation set has a history; nothing to time")
    return sample(take(evaluation_set, with_history), users, seed=seed, purpose="timed users")


def _index_recalls(systems: Sequence[System], timed: EvaluationSet, k: int) -> list[float]:
    found: dict[int, np.ndarray] = {}
    recalls = []
    for system in systems:
        key = id(system.reference)
        if key not in found:
            found[key] = system.reference.retrieve(timed.queries, k).ids
        ids = system.retriever.retrieve(timed.queries, k).ids
        recalls.append(float(overlap(ids, found[key], k).mean()))
    return recalls
