"""The pairs of some codes with all items that may be stored: scored range by range, kept, put in order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparcode.build.score.kept import KeptPairs
from sparcode.build.score.likelihood import LikelihoodScorer
from sparcode.build.score.scoring import CodeScorer, ListScorer, collect_scores
from sparcode.jit import exact

WARM_RUNS, WARM_LENGTH = 64, 64
"""Items scored first: so many runs of so many, evenly spaced; more runs for longer lists."""


class Candidates(NamedTuple):
    """Scored pairs that may be stored, CSR over codes: ``indptr`` int64, ``items`` int32 ascending, ``values`` f32."""

    indptr: np.ndarray
    items: np.ndarray
    values: np.ndarray

    @property
    def codes(self) -> np.ndarray:
        """(P,) int32 row of every pair."""
        return np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int32), np.diff(self.indptr))


def score_block(scorer: ListScorer, codes: np.ndarray, threshold: float | np.ndarray, floor: int) -> Candidates:
    """Return the pairs of codes (C, M) and all items above ``threshold``, and the best ``floor`` of each code.

    ``threshold``: one for all codes or (C,) float32; inf leaves the best ``floor`` alone. Of equal values the smaller
    item stays.
    """
    plan = scorer.plan(codes)
    inner, inner_plan, shift = unshifted(scorer, plan, len(codes))
    thresholds = np.broadcast_to(np.asarray(threshold, np.float32), len(codes))
    kept = KeptPairs(thresholds, min(floor, scorer.item_count), shift)
    for start, stop in item_ranges(scorer.item_count, floor):
        collect(inner, inner_plan, start, stop, kept)
    rows, items, values = kept.finish()
    order = grouped(items, scorer.item_count)
    order = order[grouped(rows[order], len(codes))]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(codes)))]).astype(np.int64)
    return Candidates(indptr, items[order], values[order])


def unshifted(scorer: ListScorer, plan: Any, count: int) -> tuple[ListScorer, Any, np.ndarray]:
    """Return the scorer of raw scores, its plan and what to subtract from them for each of ``count`` codes."""
    if isinstance(scorer, LikelihoodScorer):
        return scorer.inner, plan.inner, plan.log_sums
    return scorer, plan, np.zeros(count, np.float32)


def collect(scorer: ListScorer, plan: Any, start: int, stop: int, kept: KeptPairs) -> None:
    """Offer the raw scores of items ``start:stop`` to ``kept``."""
    if isinstance(scorer, CodeScorer):
        scorer.collect(plan, start, stop, kept)
    else:
        collect_scores(scorer, plan, start, stop, kept)


def item_ranges(item_count: int, floor: int) -> list[tuple[int, int]]:
    """Return all items as ranges, a sample of them first when lists have a ``floor``: it shows where thresholds start.

    Ids ascend by popularity, so that good pairs come early by themselves; the sample guards against any other order.
    """
    runs = max(WARM_RUNS, -(-4 * floor // WARM_LENGTH))
    if not floor or item_count < 16 * runs * WARM_LENGTH:
        return [(0, item_count)]
    starts = np.linspace(0, item_count - WARM_LENGTH, runs).astype(int).tolist()
    sample = [(start, start + WARM_LENGTH) for start in starts]
    gaps = [(low, high) for (_, low), (high, _) in zip(sample, sample[1:], strict=False)]
    return sample + gaps


@exact
def grouped(keys: np.ndarray, size: int) -> np.ndarray:
    """Return the stable order (P,) int64 of keys 0..size-1: a counting sort, because P is large and keys are small."""
    starts = np.zeros(size + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    for place in range(size):
        starts[place + 1] += starts[place]
    order = np.empty(keys.shape[0], np.int64)
    for place in range(keys.shape[0]):
        order[starts[keys[place]]] = place
        starts[keys[place]] += 1
    return order
