"""What is measured of a retriever: results of a set, and the values of every query, which intervals need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from shared import Row

from sparcode.eval.evaluate import EvaluationResult, evaluate
from sparcode.index.arrays import Arrays
from sparcode.run import Run
from sparcode.types import EvaluationSet, Retriever

OURS, CACHE, THEIRS = "sparcode", "sparcode-cache", "two-tower"
METRICS = ("recall@10", "ndcg@10", "recall@50")
METRIC, CUTOFF = "ndcg@10", 10
BUILT = ("policy", "codes", "density_percent", "cache_bytes", "postings_per_query", "items_in_no_list", "build_s")
VALUES = "cold_start-{}.safetensors"
"""Per-query values of a cell, kept in its run: ``SET/users`` int32 and ``SET/RETRIEVER/METRIC`` float64."""


def evaluated(run: Run, retrievers: Sequence[Retriever], held: EvaluationSet) -> list[EvaluationResult]:
    """Return the results of several retrievers on one set."""
    # Small batches: ``Among`` asks for whole rankings.
    return [evaluate(each, held, run.dataset.item_count, seed=run.config.seed, batch=256) for each in retrievers]


def facts(run: Run, built: Row, found: dict[str, list[EvaluationResult]]) -> Row:
    """Return what a cell says of its run, the index that was ``built``, and the results by set."""
    return {
        "seed": run.config.seed,
        "training": run.record["training"],
        "index": {key: built[key] for key in BUILT if key in built},
        "results": {name: [result.to_json() for result in results] for name, results in found.items()},
    }


def values_of(found: dict[str, list[EvaluationResult]]) -> Arrays:
    """Return the per-query values of all sets and retrievers under the names of ``VALUES``."""
    arrays: Arrays = {}
    for name, results in found.items():
        arrays[f"{name}/users"] = results[0].evaluation_set.users
        for result in results:
            arrays |= {f"{name}/{result.retriever}/{metric}": result.values[metric] for metric in METRICS}
    return arrays


def pooled(files: Sequence[Arrays], name: str, key: str) -> np.ndarray:
    """Return (users,) means of ``RETRIEVER/METRIC`` over a user's queries of one set in all seeds, by user."""
    users = np.concatenate([file[f"{name}/users"] for file in files])
    values = np.concatenate([file[f"{name}/{key}"] for file in files])
    place = np.unique(users, return_inverse=True)[1].reshape(-1)
    return np.bincount(place, values) / np.maximum(np.bincount(place), 1)
