"""Where on its recall curve a graph index is compared: at fixed index recall, and where quality has settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparcode.eval.metrics import overlap, per_query_metrics
from sparcode.types import EvaluationSet, Retriever

EF_GRID = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
RECALLS = (0.95, 0.99)
QUALITY_SHARE = 0.99


@dataclass(frozen=True)
class Tuning:
    """``points``: operating point -> smallest ef that reaches it; ``curve``: what was measured at each ef.

    ``missed``: points that even the largest ef did not reach; they stand at the largest ef tried.
    """

    points: dict[str, int]
    curve: list[dict[str, Any]]
    missed: list[str]


def tune(
    at: Callable[[int], Retriever], exact: Retriever, evaluation_set: EvaluationSet, item_count: int, k: int = 10
) -> Tuning:
    """Search ef upwards until index recall .95 and .99 and an NDCG within 1 % of exact search are reached.

    ``at(ef)`` gives the approximate retriever, ``exact`` the exhaustive search of the same score.
    """
    reference = exact.retrieve(evaluation_set.queries, k).ids
    target = QUALITY_SHARE * _ndcg(reference, evaluation_set, k)
    points: dict[str, int] = {}
    curve: list[dict[str, Any]] = []
    wanted = point_names(k)
    grid = [ef for ef in EF_GRID if ef < item_count] + [min(item_count, EF_GRID[-1])]
    for ef in grid:
        ids = at(ef).retrieve(evaluation_set.queries, k).ids
        recall, quality = float(overlap(ids, reference, k).mean()), _ndcg(ids, evaluation_set, k)
        curve.append({"ef": ef, "index_recall": recall, f"ndcg@{k}": quality})
        reached = [recall >= value for value in RECALLS] + [quality >= target]
        for name, done in zip(wanted, reached, strict=True):
            if done:
                points.setdefault(name, ef)
        if len(points) == len(wanted):
            break
    missed = [name for name in wanted if name not in points]
    return Tuning({name: points.get(name, grid[-1]) for name in wanted}, curve, missed)


def point_names(k: int) -> list[str]:
    """Return the names of the operating points."""
    return [f"index_recall@{k}>={value:.2f}" for value in RECALLS] + [f"ndcg@{k}>={QUALITY_SHARE:.2f}*exact"]


def _ndcg(ids: Any, evaluation_set: EvaluationSet, k: int) -> float:
    values = per_query_metrics(ids, evaluation_set.target_indptr, evaluation_set.target_items, (k,))
    return float(values[f"ndcg@{k}"].mean())
