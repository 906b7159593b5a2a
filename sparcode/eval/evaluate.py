"""Full-ranking evaluation of any retriever, with intervals and a per-query file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparcode.data.repeats import count_repeats
from sparcode.errors import DataError
from sparcode.eval.bootstrap import Difference, Interval, paired_difference, percentile_intervals
from sparcode.eval.metrics import coverage, per_query_metrics, target_ranks
from sparcode.eval.pairing import common_queries
from sparcode.files import atomic_path
from sparcode.seeding import generator
from sparcode.types import NO_ITEM, EvaluationSet, Queries, Retriever

CUTOFFS = (10, 50)
EXHAUSTIVE_PAIRS = 200_000_000
EXHAUSTIVE_USERS = 5_000


class ExternalIds(Protocol):
    """What the per-query file needs of an id map."""

    def to_external(self, ids: np.ndarray) -> list[Any]:
        """Return the external ids of internal ones."""
        ...


@dataclass(frozen=True)
class EvaluationResult:
    """What one retriever did on one evaluation set.

    ``metrics``: means over queries (coverage: over the catalogue); ``intervals``: 95 % bootstrap intervals over users
    of those that are means. ``values``: (B,) float64 a metric. ``ids``: (B, K) int32 results. ``ranks``: (targets,)
    int64, the rank of each target among the items a query may be given, -1 beyond K. mrr is over the K results.
    ``repeats``: targets already in the history, which count as misses unless seen items are included.
    ``fill_rate``: share of the first ``cutoffs[0]`` places filled in by popularity.
    """

    retriever: str
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    values: dict[str, np.ndarray]
    ids: np.ndarray
    ranks: np.ndarray
    evaluation_set: EvaluationSet
    repeats: int
    fill_rate: float
    note: str | None = None
    include_seen: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return this result as one element of ``results`` in the JSON of ``sparcode evaluate``."""
        row: dict[str, Any] = {
            "retriever": self.retriever,
            "metrics": self.metrics,
            "queries": len(self.evaluation_set),
            "users": len(np.unique(self.evaluation_set.users)),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "targets": len(self.evaluation_set.target_items),
            "repeats": self.repeats,
            "include_seen": self.include_seen,
            "fill_rate": self.fill_rate,
        }
        if self.note:
            row["note"] = self.note
        return row | self.extra


def evaluate(
    retriever: Retriever,
    evaluation_set: EvaluationSet,
    item_count: int,
    *,
    cutoffs: tuple[int, ...] = CUTOFFS,
    depth: int | None = None,
    include_seen: bool = False,
    batch: int = 1024,
    seed: int = 0,
    resamples: int | None = None,
    note: str | None = None,
) -> EvaluationResult:
    """Rank the whole catalogue for every query and compare with the held-out items.

    ``depth``: results retrieved a query; absent: the largest cutoff, at least 50. Approximate indexes search harder
    for more results, so quality at an operating point for k results needs ``depth=k``. ``note`` is carried into
    the JSON. Raises DataError when the set has no query.
    """
    if len(evaluation_set) == 0:
        raise DataError("the evaluation set holds no query; expected at least one user with a held-out item")
    depth = depth or max(50, *cutoffs)
    ids, filled = _retrieve(retriever, evaluation_set.queries, depth, include_seen, batch)
    targets = (evaluation_set.target_indptr, evaluation_set.target_items)
    values = per_query_metrics(ids, *targets, cutoffs)
    metrics = {name: float(array.mean()) for name, array in values.items()}
    metrics |= {f"coverage@{k}": coverage(ids, k, item_count) for k in cutoffs}
    shown = ids[:, : cutoffs[0]] != NO_ITEM
    return EvaluationResult(
        retriever=retriever.name,
        metrics=metrics,
        intervals=percentile_intervals(values, seed=seed, resamples=resamples, users=evaluation_set.users),
        values=values,
        ids=ids,
        ranks=target_ranks(ids, *targets),
        evaluation_set=evaluation_set,
        repeats=count_repeats(evaluation_set),
        fill_rate=float((filled[:, : cutoffs[0]] & shown).sum() / max(shown.sum(), 1)),
        note=note,
        include_seen=include_seen,
    )


def evaluation_json(split: str, results: list[EvaluationResult]) -> dict[str, Any]:
    """Return the JSON of ``sparcode evaluate``."""
    return {"split": split, "results": [result.to_json() for result in results]}


def compare(a: EvaluationResult, b: EvaluationResult, metric: str = "ndcg@10", *, seed: int = 0) -> Difference:
    """Return the paired difference a - b of one metric over the queries both results hold, its interval over users.

    A sample is compared on its own queries. Raises DataError when the sets are not of one split.
    """
    in_a, in_b = common_queries(a.evaluation_set, b.evaluation_set, (a.retriever, b.retriever))
    users = a.evaluation_set.users[in_a]
    return paired_difference(a.values[metric][in_a], b.values[metric][in_b], seed=seed, users=users)


def take(evaluation_set: EvaluationSet, rows: np.ndarray) -> EvaluationSet:
    """Return the given rows as an evaluation set of their own."""
    queries = evaluation_set.queries
    indptr, items = _take_ragged(queries.indptr, queries.items, rows)
    target_indptr, target_items = _take_ragged(evaluation_set.target_indptr, evaluation_set.target_items, rows)
    features = None if queries.user_features is None else queries.user_features[rows]
    times = None if queries.times is None else queries.times[rows]
    part = Queries(indptr, items, features, times)
    return EvaluationSet(evaluation_set.users[rows], part, target_indptr, target_items)


def sample(evaluation_set: EvaluationSet, users: int, *, seed: int, purpose: str) -> EvaluationSet:
    """Return at most ``users`` rows, seeded, in their original order."""
    if len(evaluation_set) <= users:
        return evaluation_set
    chosen = generator(seed, purpose).choice(len(evaluation_set), users, replace=False)
    return take(evaluation_set, np.sort(chosen))


def exhaustive_sample(evaluation_set: EvaluationSet, item_count: int, *, seed: int) -> tuple[EvaluationSet, str | None]:
    """Return the queries an exhaustive scorer is evaluated on and, when they are not all, a note that says so."""
    if len(evaluation_set) * item_count <= EXHAUSTIVE_PAIRS or len(evaluation_set) <= EXHAUSTIVE_USERS:
        return evaluation_set, None
    part = sample(evaluation_set, EXHAUSTIVE_USERS, seed=seed, purpose="exhaustive users")
    asked = "users" if len(np.unique(evaluation_set.users)) == len(evaluation_set) else "queries"
    note = f"{len(part):,} of {len(evaluation_set):,} {asked} (seed {seed}): more than {EXHAUSTIVE_PAIRS:,} pairs"
    return part, note


def write_per_query(
    path: Path, results: Iterable[EvaluationResult], user_ids: ExternalIds, item_ids: ExternalIds
) -> None:
    """Write one Parquet row a target, atomically: retriever, user_id, target, rank (or null), item_ids (top 50).

    With one held-out item that is one row a query; with several, each target has its row. ids are external.
    """
    writer = None
    with atomic_path(Path(path)) as temporary:
        for result in results:
            table = _per_query_table(result, user_ids, item_ids)
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
        if writer is None:
            raise DataError("no result to write: name at least one retriever")
        writer.close()


def _per_query_table(result: EvaluationResult, user_ids: ExternalIds, item_ids: ExternalIds) -> pa.Table:
    part = result.evaluation_set
    rows = np.repeat(np.arange(len(part)), np.diff(part.target_indptr))
    top = result.ids[:, :50]
    shown = top != NO_ITEM
    offsets = np.concatenate(([0], np.cumsum(shown.sum(axis=1))))
    targets = pa.array(item_ids.to_external(part.target_items))
    flat = pa.array(item_ids.to_external(top[shown]), targets.type)
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
    columns = {
        "retriever": pa.array([result.retriever] * len(rows), pa.string()),
        "user_id": pa.array(user_ids.to_external(part.users[rows])),
        "target": targets,
        "rank": pa.array(result.ranks, pa.int64(), mask=result.ranks < 0),
        "item_ids": lists.take(pa.array(rows)),
    }
    return pa.table(columns)


def _retrieve(
    retriever: Retriever, queries: Queries, k: int, include_seen: bool, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    ids = np.full((len(queries), k), NO_ITEM, np.int32)
    filled = np.zeros((len(queries), k), np.bool_)
    for start in range(0, len(queries), batch):
        stop = min(start + batch, len(queries))
        hits = retriever.retrieve(queries.slice(start, stop), k, include_seen=include_seen)
        ids[start:stop] = hits.ids
        filled[start:stop] = hits.filled
    return ids, filled


def _take_ragged(indptr: np.ndarray, items: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lengths = indptr[rows + 1] - indptr[rows]
    taken = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    places = np.repeat(indptr[rows] - taken[:-1], lengths) + np.arange(taken[-1])
    return taken, items[places]
