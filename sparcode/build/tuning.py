"""What every choice on validation shares: the figure, the sample of queries, weights as small integers."""

from __future__ import annotations

import numpy as np

from sparcode.seeding import generator
from sparcode.types import NO_ITEM, EvaluationSet, Queries

CUTOFF = 10
MOST_QUERIES = 8000
NEWEST_WEIGHT = 32
"""Weight of the latest event's list: large enough that weights keep their proportions as integers."""


def ndcg(ids: np.ndarray, part: EvaluationSet, cutoff: int = CUTOFF) -> float:
    """Return the mean NDCG@cutoff of ranked ids (B, <= cutoff used) against the targets of ``part``."""
    ids = ids[:, :cutoff]
    discount = 1 / np.log2(np.arange(2, cutoff + 2))
    counts = np.diff(part.target_indptr)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(counts, cutoff)]
    # One column of targets at a time: nearly always there is one target a query.
    hits = np.zeros(ids.shape, bool)
    for place in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > place)
        targets = part.target_items[part.target_indptr[rows] + place]
        hits[rows] |= (ids[rows] == targets[:, None]) & (ids[rows] != NO_ITEM)
    gains = hits @ discount[: ids.shape[1]]
    return float((gains[counts > 0] / ideal[counts > 0]).sum() / max(len(part), 1))


def integer_weights(weights: np.ndarray) -> tuple[int, ...]:
    """Return weights (the largest 1) as integers, the largest NEWEST_WEIGHT; what is behind the last > 0 is cut off."""
    rounded = np.floor(NEWEST_WEIGHT * np.asarray(weights, np.float64) + 0.5).astype(int)
    used = np.flatnonzero(rounded > 0)
    return tuple(int(weight) for weight in rounded[: used[-1] + 1]) if len(used) else ()


def validation_sample(validation: EvaluationSet, seed: int) -> EvaluationSet:
    """Return at most MOST_QUERIES fixed random queries of a validation set, in their order."""
    if len(validation) <= MOST_QUERIES:
        return validation
    rows = np.sort(generator(seed, "fit-sample").choice(len(validation), MOST_QUERIES, replace=False))
    queries, targets = validation.queries, [validation.targets(row) for row in rows]
    histories = [queries.history(row) for row in rows]
    features = None if queries.user_features is None else queries.user_features[rows]
    return EvaluationSet(
        validation.users[rows], Queries(_pointer(histories), np.concatenate(histories), features),
        _pointer(targets), np.concatenate(targets),
    )  # fmt: skip


def _pointer(rows: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
