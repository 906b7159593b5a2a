"""Query settings chosen on validation: probes, weights of the code families, weight of evidence when rescoring."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from sparcode.build.tuning import CUTOFF, NEWEST_WEIGHT, ndcg, validation_sample
from sparcode.config import Config, QueryConfig
from sparcode.query.families import aged_weights
from sparcode.query.pipeline import Candidates, Pipeline, QuerySettings, QueryState
from sparcode.types import NO_ITEM, EvaluationSet

_log = logging.getLogger(__name__)

PROBES = (1, 2, 4)
LEARNED_WEIGHTS = (1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181)
WORD_WEIGHTS = (0, 1, 2, 4, 8, 16)
"""Tried for a category of the latest event, and for one of the user, beside ``NEWEST_WEIGHT`` of the latest item."""
USUAL_CATEGORY = 2
WEIGHTS = (0.0, *(2.0 ** (power / 2) for power in range(-16, 9)))
"""Tried for evidence and cached sum, in units of the all-to-all score; both are sums over many lists, so mostly < 1."""


def default_settings(pipeline: Pipeline, config: Config, item_weights: tuple[int, ...]) -> QuerySettings:
    """Return settings for a run without validation: equal say for codes and items, one probe, a little by category."""
    probes = config.families.learned.probes or 1
    items = item_weights if pipeline.item_first_row is not None else ()
    learned = NEWEST_WEIGHT if pipeline.resolver is not None else 0
    categories = _category_weights(USUAL_CATEGORY, config, items) if _has(pipeline, "category") else ()
    return QuerySettings(learned, probes, items, 1.0, category_weights=categories)


def fit_settings(
    pipeline: Pipeline, validation: EvaluationSet, config: Config, item_weights: tuple[int, ...]
) -> tuple[QuerySettings, dict[str, Any]]:
    """Return the settings with the best validation NDCG@10, and the figures behind the choice.

    First probes and family weights, then the weights of categories and segments, by the cached sums alone; then, these
    fixed, the weights of evidence and of the cached sum, by the rescored order. All on the same fixed random queries.
    ``item_weights``: those of the item lists by age, which were fitted with the lists. Items of the history are ranked
    if ``config.query.include_seen`` says so.
    """
    part = validation_sample(validation, config.seed)
    tokens = pipeline.encoder.tokens(part.queries)
    search = _Search(pipeline, part, tokens, config.query.include_seen)
    _log.info("query weights: fitted on %s validation queries", f"{len(part):,}")
    plain = max(_candidates(pipeline, config, item_weights), key=search.gain)
    best = _with_words(pipeline, config, plain, search)
    _log.info("query weights: validation NDCG@10 %.4f by lists; weights of rescoring", search.gain(best))
    parts = _Rescoring(pipeline.with_settings(best), part, tokens, config.query)
    evidence, cached = parts.best_weights()
    figures: dict[str, Any] = {
        "validation_queries": len(part),
        "validation_ndcg@10_cache": search.gain(best),
        "validation_ndcg@10_rescored": parts.gain(evidence, cached),
        "settings_tried": len(search.tried) + len(parts.tried),
    }
    if _has(pipeline, "category") or _has(pipeline, "segment"):
        figures["validation_ndcg@10_cache_without_words"] = search.gain(plain)
    return replace(best, evidence_weight=evidence, cached_weight=cached), figures


def _candidates(pipeline: Pipeline, config: Config, item_weights: tuple[int, ...]) -> list[QuerySettings]:
    items = item_weights if pipeline.item_first_row is not None else ()
    if pipeline.resolver is None:
        return [QuerySettings(0, 1, items, 1.0)]
    fixed = config.families.learned.probes
    probes = (fixed,) if fixed else PROBES
    weights = LEARNED_WEIGHTS if items else (1,)
    return [QuerySettings(weight, count, items) for count in probes for weight in weights]


def _with_words(pipeline: Pipeline, config: Config, settings: QuerySettings, search: _Search) -> QuerySettings:
    """Choose the weights of the families that read words, one after the other; not to read a family wins ties."""
    if _has(pipeline, "category"):
        by_age = [_category_weights(weight, config, settings.item_weights) for weight in WORD_WEIGHTS]
        settings = max((replace(settings, category_weights=weights) for weights in by_age), key=search.gain)
    if _has(pipeline, "segment"):
        settings = max((replace(settings, segment_weight=weight) for weight in WORD_WEIGHTS), key=search.gain)
    return settings


def _category_weights(weight: int, config: Config, item_weights: tuple[int, ...]) -> tuple[int, ...]:
    return aged_weights(weight, item_weights, config.families.item.decay, config.families.category.history)


def _has(pipeline: Pipeline, family: str) -> bool:
    return pipeline.searcher.index.has_family(family)


class _Search:
    """NDCG@10 of the validation queries by cached sums, remembered by settings."""

    def __init__(self, pipeline: Pipeline, part: EvaluationSet, tokens: np.ndarray, include_seen: bool) -> None:
        self.pipeline, self.part, self.tokens, self.include_seen = pipeline, part, tokens, include_seen
        self.tried: dict[QuerySettings, float] = {}

    def gain(self, settings: QuerySettings) -> float:
        """Return the NDCG@10 under these settings."""
        if settings not in self.tried:
            candidate = self.pipeline.with_settings(settings)
            state = candidate.encode(self.part.queries, self.tokens)
            found = candidate.search(state, CUTOFF, include_seen=self.include_seen)
            self.tried[settings] = ndcg(found.ids, self.part)
        return self.tried[settings]


class _Rescoring:
    """Candidates of the validation queries with the three scores that rescoring adds up."""

    def __init__(self, pipeline: Pipeline, part: EvaluationSet, tokens: np.ndarray, query: QueryConfig) -> None:
        self.part = part
        self.state = pipeline.encode(part.queries, tokens)
        self.candidates = pipeline.search(self.state, query.rescore or 100, include_seen=query.include_seen)
        scale = np.float32(pipeline.searcher.scale)
        self.cached = self.candidates.sums * scale
        self.interaction, self.evidence = _features(pipeline, self.state, self.candidates)
        self.tried: dict[tuple[float, float], float] = {}

    def best_weights(self) -> tuple[float, float]:
        """Return the weights of evidence and cached sum: one, the other, and the first again, each by a line search."""
        evidence = max(WEIGHTS, key=lambda weight: self.gain(weight, 0.0))
        cached = max(WEIGHTS, key=lambda weight: self.gain(evidence, weight))
        return max(WEIGHTS, key=lambda weight: self.gain(weight, cached)), cached

    def gain(self, evidence: float, cached: float) -> float:
        """Return the NDCG@10 of the order these weights make."""
        if (evidence, cached) not in self.tried:
            scores = self.interaction + np.float32(evidence) * self.evidence + np.float32(cached) * self.cached
            # Queries the encoder cannot read are ranked by their lists alone, whatever the weights.
            scores[~self.state.known] = self.cached[~self.state.known]
            ids = self.candidates.ids
            scores[ids == NO_ITEM] = -np.inf
            order = np.lexsort((ids, -scores), axis=1)[:, :CUTOFF]
            self.tried[evidence, cached] = ndcg(np.take_along_axis(ids, order, 1), self.part)
        return self.tried[evidence, cached]


def _features(pipeline: Pipeline, state: QueryState, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Return all-to-all scores and cached sums of all lists but the learned ones, both (B, R) float32."""
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
