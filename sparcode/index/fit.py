"""Query settings chosen on validation: probes, weights of the code families, weight of evidence when rescoring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sparcode.config import Config
from sparcode.index.pipeline import Candidates, Pipeline, QuerySettings, QueryState
from sparcode.seeding import generator
from sparcode.types import NO_ITEM, EvaluationSet, Queries

CUTOFF = 10
PROBES = (1, 2, 4)
LEARNED_WEIGHTS = (1, 2, 4, 8, 16, 32, 64, 128)
NEWEST_ITEM_WEIGHT = 16
"""Weight of the latest event's list: large enough that decayed weights keep their proportions as integers."""
EVIDENCE_WEIGHTS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
MOST_QUERIES = 4000


def default_settings(pipeline: Pipeline, config: Config) -> QuerySettings:
    """Return settings for a run without validation: equal say for both families, one probe."""
    probes = config.families.learned.probes or 1
    items = _item_weights(config) if pipeline.item_first_row is not None else ()
    learned = NEWEST_ITEM_WEIGHT if pipeline.resolver is not None else 0
    return QuerySettings(learned, probes, items, 1.0)


def fit_settings(pipeline: Pipeline, validation: EvaluationSet, config: Config) -> tuple[QuerySettings, dict[str, Any]]:
    """Return the settings with the best validation NDCG@10, and the figures behind the choice.

    First probes and family weights, by the cached sums alone; then, these fixed, the evidence weight, by the
    rescored order. Both on the same fixed random queries (at most 4,000).
    """
    part = _sample(validation, config.seed)
    gains: dict[QuerySettings, float] = {}
    for settings in _candidates(pipeline, config):
        candidate = pipeline.with_settings(settings)
        found = candidate.search(candidate.encode(part.queries), CUTOFF)
        gains[settings] = ndcg(found.ids, part)
    best = max(gains, key=lambda settings: gains[settings])
    weight, rescored = _fit_evidence(pipeline.with_settings(best), part, config.query.rescore or 100)
    figures = {
        "validation_queries": len(part),
        "validation_ndcg@10_cache": gains[best],
        "validation_ndcg@10_rescored": rescored[weight],
        "settings_tried": len(gains) + len(rescored),
    }
    return replace(best, evidence_weight=weight), figures


def ndcg(ids: np.ndarray, part: EvaluationSet, cutoff: int = CUTOFF) -> float:
    """Return the mean NDCG@cutoff of ranked ids (B, >= cutoff) against the targets of ``part``."""
    discount = 1 / np.log2(np.arange(2, cutoff + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    total = 0.0
    for row in range(len(part)):
        targets = part.targets(row)
        hits = np.isin(ids[row, :cutoff], targets) & (ids[row, :cutoff] != NO_ITEM)
        total += (hits * discount[: len(hits)]).sum() / ideal[min(len(targets), cutoff)]
    return total / max(len(part), 1)


def _candidates(pipeline: Pipeline, config: Config) -> list[QuerySettings]:
    items = _item_weights(config) if pipeline.item_first_row is not None else ()
    if pipeline.resolver is None:
        return [QuerySettings(0, 1, items, 1.0)]
    fixed = config.families.learned.probes
    probes = (fixed,) if fixed else PROBES
    weights = LEARNED_WEIGHTS if items else (1,)
    return [QuerySettings(weight, count, items, 0.0) for count in probes for weight in weights]


def _item_weights(config: Config) -> tuple[int, ...]:
    family = config.families.item
    exact = NEWEST_ITEM_WEIGHT * family.decay ** np.arange(family.history)
    weights = np.floor(exact + 0.5).astype(int)
    return tuple(int(weight) for weight in weights if weight > 0)


def _fit_evidence(pipeline: Pipeline, part: EvaluationSet, depth: int) -> tuple[float, dict[float, float]]:
    state = pipeline.encode(part.queries)
    candidates = pipeline.search(state, depth)
    interaction, evidence = _features(pipeline, state, candidates)
    found: dict[float, float] = {}
    for weight in EVIDENCE_WEIGHTS:
        scores = interaction + np.float32(weight) * evidence
        # Queries the encoder cannot read are ranked by evidence alone, whatever the weight.
        scores[~state.known] = evidence[~state.known]
        scores[candidates.ids == NO_ITEM] = -np.inf
        order = np.lexsort((candidates.ids, -scores), axis=1)[:, :CUTOFF]
        found[weight] = ndcg(np.take_along_axis(candidates.ids, order, 1), part)
    return max(found, key=lambda weight: found[weight]), found


def _features(pipeline: Pipeline, state: QueryState, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    interaction = np.zeros(candidates.ids.shape, np.float32)
    evidence = np.zeros(candidates.ids.shape, np.float32)
    scale = np.float32(pipeline.searcher.scale)
    for row, ids in enumerate(candidates.ids):
        kept = ids != NO_ITEM
        if state.known[row]:
            interaction[row, kept] = pipeline.rescorer.score(state.tokens[row], ids[kept])
        first, high = state.item_start[row], state.indptr[row + 1]
        if high > first:
            sums = pipeline.searcher.sums_of(state.rows[first:high], state.weights[first:high], ids[kept])
            evidence[row, kept] = sums * scale
    return interaction, evidence


def _sample(validation: EvaluationSet, seed: int) -> EvaluationSet:
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
