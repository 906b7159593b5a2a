"""List values as log-probabilities: the cut of a list must not depend on what a softmax cannot see.

A model trained without ReLU fixes S(code, c) only up to a number per code: adding one changes no softmax over items.
An MLP scorer uses that freedom, and one cut over all codes would then leave some lists empty and others far too
long. log P(c | code) = S(code, c) - log sum_c' exp S(code, c') is free of it, and a cut of it means the same for
every code, as with the ``counts`` scorer. A trained-in bias pins S itself down; such scores are left alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparcode.build.score.scoring import ListScorer

SAMPLED_RUNS = 256
RUN_LENGTH = 64
"""Items of the sum: 256 runs of 64 ids, evenly spaced from the most popular to the rarest; all items if fewer."""


class LikelihoodPlan(NamedTuple):
    """The inner scorer's plan and log sum exp (C,) float32 of each code's scores."""

    inner: Any
    log_sums: np.ndarray


class LikelihoodScorer:
    """Gives log P(item | code) under the full softmax of the inner scorer; calls as ``CodeScorer``."""

    def __init__(self, inner: ListScorer) -> None:
        self.inner, self.item_count = inner, inner.item_count

    def plan(self, codes: np.ndarray) -> LikelihoodPlan:
        """Prepare codes (C, M) for ``scores``."""
        plan = self.inner.plan(codes)
        ranges = sampled_ranges(self.item_count)
        peak, total = np.full(len(codes), -np.inf), np.zeros(len(codes))
        for start, stop in ranges:
            scores = self.inner.scores(plan, start, stop)
            higher = np.maximum(peak, scores.max(axis=0, initial=-np.inf))
            total *= np.exp(peak - higher)
            peak = higher
            # Row by row: the sum of a code must not depend on which codes share its block.
            for row in scores:
                total += np.exp(row - peak)
        sampled = sum(stop - start for start, stop in ranges)
        log_sums = peak + np.log(total * self.item_count / max(sampled, 1))
        return LikelihoodPlan(plan, log_sums.astype(np.float32))

    def scores(self, plan: LikelihoodPlan, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return log-probabilities (stop - start, C) float32 of items ``start:stop``."""
        return self.inner.scores(plan.inner, start, stop) - plan.log_sums


def sampled_ranges(item_count: int) -> list[tuple[int, int]]:
    """Return the runs of item ids the sum is taken over."""
    if item_count <= SAMPLED_RUNS * RUN_LENGTH:
        return [(start, min(start + 1024, item_count)) for start in range(0, item_count, 1024)]
    starts = np.linspace(0, item_count - RUN_LENGTH, SAMPLED_RUNS).astype(int)
    return [(int(start), int(start) + RUN_LENGTH) for start in starts]
