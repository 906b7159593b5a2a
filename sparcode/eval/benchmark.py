"""The comparison every claim rests on: quality, bytes, build time, latency and throughput of all systems.

One process, one thread, the same queries, systems interleaved. HNSW stands at three operating points: the smallest
ef that reaches index recall .95, .99, and an NDCG within 1 % of exact search; points that need the same ef share a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sparcode.errors import DataError
from sparcode.eval.evaluate import EvaluationResult, compare, evaluate, sample, take
from sparcode.eval.latency import Stages, batch_rates, measure
from sparcode.eval.machine import git_commit, machine_info
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


def measure_systems(
    systems: Sequence[System],
    evaluation_set: EvaluationSet,
    item_count: int,
    *,
    queries: int = 1000,
    rounds: int = 3,
    k: int = 10,
    seed: int = 0,
    include_seen: bool = False,
) -> dict[str, Any]:
    """Measure given systems; the JSON of ``sparcode benchmark`` without the curves of HNSW tuning.

    ``include_seen``: quality ranks items of the history too; what is timed and tuned leaves them out either way.
    """
    results = [_quality(system.retriever, evaluation_set, item_count, k, seed, include_seen) for system in systems]
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


def _quality(
    retriever: Retriever, evaluation_set: EvaluationSet, item_count: int, k: int, seed: int, repeats: bool
) -> EvaluationResult:
    # Metrics at k from a search for k results: a search for 50 would raise HNSW's ef to 50 and flatter it.
    deep = evaluate(retriever, evaluation_set, item_count, cutoffs=(50,), include_seen=repeats, seed=seed)
    if k == 50:
        return deep
    short = evaluate(retriever, evaluation_set, item_count, cutoffs=(k,), depth=k, include_seen=repeats, seed=seed)
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
        "users": len(np.unique(result.evaluation_set.users)),
        "targets": len(result.evaluation_set.target_items),
        "repeats": result.repeats,
        "include_seen": result.include_seen,
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
