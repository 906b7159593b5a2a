"""Dense controls: what an engine that scores every item could do with the parts SparCode is made of.

score = two-tower cosine / temperature + weight * counted transitions (+ weight * additive cosine / temperature), for
all n items, the weights fitted on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from sparcode.eval.evaluate import sample
from sparcode.eval.metrics import per_query_metrics
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.ranking import BLOCK_BYTES, check_request, empty_hits, rank_rows, rank_scores
from sparcode.types import EvaluationSet, Hits, Queries

COUNTS_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
ADDITIVE_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
MOST_QUERIES = 4000
CUTOFF = 10


class Part(Protocol):
    """One term of the sum."""

    def scores(self, queries: Queries) -> np.ndarray:
        """Return (B, n) float32, 0 where there is no evidence."""
        ...

    def known(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: False where the part has nothing to go by."""
        ...


class DensePart:
    """A dense retriever's inner product divided by its temperature."""

    def __init__(self, retriever: ExactRetriever, temperature: float) -> None:
        self.retriever = retriever
        self.temperature = np.float32(temperature)

    def scores(self, queries: Queries) -> np.ndarray:
        """Return (B, n) float32; rows of queries that cannot be encoded are 0."""
        scores = self.retriever.scores(self.retriever.encoder.tokens(queries))
        scores /= self.temperature
        scores[~self.known(queries)] = 0.0
        return scores

    def known(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: what the encoder can read."""
        return self.retriever.encoder.has_tokens(queries)


class CountsPart:
    """The score of ``counts`` over all items: ``decay^age`` times the lists of the last ``history`` events."""

    def __init__(
        self, indptr: np.ndarray, items: np.ndarray, values: np.ndarray, *, decay: float = 0.7, history: int = 20
    ) -> None:
        self.indptr, self.items, self.values = indptr, items, np.asarray(values, np.float32)
        self.weights = (float(decay) ** np.arange(history)).astype(np.float32)

    def scores(self, queries: Queries) -> np.ndarray:
        """Return (B, n) float32, 0 where no list reaches."""
        scores = np.zeros((len(queries), len(self.indptr) - 1), np.float32)
        for row in range(len(queries)):
            latest = queries.history(row)[::-1][: len(self.weights)]
            for weight, item in zip(self.weights, latest, strict=False):
                part = slice(self.indptr[item], self.indptr[item + 1])
                # A list holds an item once, so that this indexed sum loses nothing.
                scores[row, self.items[part]] += weight * self.values[part]
        return scores

    def known(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: True where there is a history."""
        known: np.ndarray = np.diff(queries.indptr) > 0
        return known


class Blend:
    """Ranks all items by the weighted sum of the parts; a query no part can read is answered by popularity."""

    def __init__(self, name: str, parts: Sequence[Part], weights: Sequence[float], item_count: int) -> None:
        self.name = name
        self.parts = tuple(parts)
        self.weights = tuple(float(weight) for weight in weights)
        self.item_count = item_count

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits."""
        check_request(queries, k, self.item_count)

        def block(start: int, stop: int) -> np.ndarray:
            batch = queries.slice(start, stop)
            scores = weighted_sum([part.scores(batch) for part in self.parts], self.weights)
            scores[~_known(self.parts, batch)] = -np.inf
            return scores

        return rank_scores(block, queries, k, self.item_count, include_seen)


def fit_blend(
    name: str,
    parts: Sequence[Part],
    grids: Sequence[Sequence[float]],
    validation: EvaluationSet,
    item_count: int,
    *,
    seed: int,
    include_seen: bool = False,
) -> Blend:
    """Return the blend with the best validation NDCG@10 on at most 4,000 seeded users.

    The first part has weight 1; ``grids`` hold the weights tried for each of the others (ties: the earlier one). One
    after the other is fitted, those not yet fitted at 0, and all but the last once more. ``include_seen``: items of
    the history are ranked too.
    """
    part = sample(validation, MOST_QUERIES, seed=seed, purpose="blend weights")
    weights = [1.0] + [0.0] * len(grids)
    for axis in [*range(len(grids)), *range(len(grids) - 1)]:
        tried = [[*weights[: axis + 1], value, *weights[axis + 2 :]] for value in grids[axis]]
        weights = tried[int(np.argmax(gains(parts, tried, part, item_count, include_seen)))]
    return Blend(name, parts, weights, item_count)


def gains(
    parts: Sequence[Part],
    tried: Sequence[Sequence[float]],
    held_out: EvaluationSet,
    item_count: int,
    include_seen: bool = False,
) -> list[float]:
    """Return the mean NDCG@10 of each weighting in ``tried``; the parts are scored once for all of them."""
    queries = held_out.queries
    found = [empty_hits(len(queries), CUTOFF) for _ in tried]
    step = max(1, BLOCK_BYTES // (4 * max(item_count, 1) * len(parts)))
    for start, stop in pairwise([*range(0, len(queries), step), len(queries)]):
        batch = queries.slice(start, stop)
        features = [part.scores(batch) for part in parts]
        known = _known(parts, batch)
        for weights, (ids, values) in zip(tried, found, strict=True):
            scores = weighted_sum(features, weights)
            scores[~known] = -np.inf
            rank_rows(scores, batch.indptr, batch.items, not include_seen, ids[start:stop], values[start:stop])
    targets = (held_out.target_indptr, held_out.target_items)
    return [float(per_query_metrics(ids, *targets, (CUTOFF,))[f"ndcg@{CUTOFF}"].mean()) for ids, _ in found]


def weighted_sum(features: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the sum of (B, n) float32 arrays times their weights, in their order."""
    total = features[0] * np.float32(weights[0])
    for feature, weight in zip(features[1:], weights[1:], strict=True):
        if weight:
            total += np.float32(weight) * feature
    return total


def _known(parts: Sequence[Part], queries: Queries) -> np.ndarray:
    return np.logical_or.reduce([part.known(queries) for part in parts])
