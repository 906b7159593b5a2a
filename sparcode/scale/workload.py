"""The queries of one size in the forms its engines read: histories, vectors of the two-tower, posting lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.eval.evaluate import sample
from sparcode.query.pipeline import Pipeline
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.registry import open_two_tower
from sparcode.scale.prepare import Prepared
from sparcode.types import EvaluationSet, Queries

TUNED = 300
"""Validation queries that choose the search parameters of the dense engines."""


@dataclass(frozen=True)
class SparseQueries:
    """Lists and weights of B queries: ``rows[indptr[b]:indptr[b + 1]]``, int32; ``indptr`` int64."""

    rows: np.ndarray
    weights: np.ndarray
    indptr: np.ndarray

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def one(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and weights of one query, contiguous."""
        span = slice(self.indptr[query], self.indptr[query + 1])
        return self.rows[span].copy(), self.weights[span].copy()


class Workload:
    """Test queries to time and to evaluate, validation queries to tune on, and what answers them."""

    def __init__(self, prepared: Prepared) -> None:
        plan = prepared.plan
        test, validation = prepared.default.held_out("test"), prepared.default.held_out("validation")
        assert test is not None and validation is not None  # noqa: PT018 (no test)
        self.evaluated: EvaluationSet = sample(test, plan.evaluated, seed=plan.seed, purpose="scale evaluation")
        self.timed = sample(self.evaluated, plan.timed, seed=plan.seed, purpose="scale timing").queries
        self.tuned = sample(validation, TUNED, seed=plan.seed, purpose="scale tuning")
        self.exact: ExactRetriever = open_two_tower(prepared.default)
        self.pipelines = {run.folder.name: Pipeline.open(run.folder) for run in (prepared.learned, prepared.default)}

    def vectors(self, queries: Queries) -> np.ndarray:
        """Return the unit vectors (B, d) float32 of queries under the two-tower."""
        return np.ascontiguousarray(self.exact.encoder.tokens(queries)[:, 0])

    def lists(self, name: str, queries: Queries) -> SparseQueries:
        """Return the lists that queries read in the index of the run ``name``."""
        state = self.pipelines[name].encode(queries)
        return SparseQueries(*(np.ascontiguousarray(part) for part in (state.rows, state.weights, state.indptr)))
