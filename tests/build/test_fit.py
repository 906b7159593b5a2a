"""Query settings chosen on validation are the best of those tried."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from sparcode.build import fit
from sparcode.build.fit import default_settings, fit_settings
from sparcode.types import NO_ITEM, EvaluationSet
from tests.worlds import queries_of, random_pipeline, sequences_of, tiny_config

ITEMS = 23
WEIGHTS = (16, 11, 8, 0, 4)
"""Of the item lists, by age."""


def held_out(rows: int = 30, seed: int = 0) -> EvaluationSet:
    """Return random histories, some empty, with one or two targets each."""
    random = np.random.default_rng(seed)
    histories = [random.choice(ITEMS, random.integers(0, 7), replace=False).tolist() for _ in range(rows)]
    targets = sequences_of([random.choice(ITEMS, random.integers(1, 3), replace=False).tolist() for _ in range(rows)])
    return EvaluationSet(np.arange(rows, dtype=np.int32), queries_of(histories), targets.indptr, targets.items)


def slow_ndcg(ids: np.ndarray, part: EvaluationSet) -> float:
    """Mean NDCG@10 by its definition."""
    total = 0.0
    for row in range(len(part)):
        targets = set(part.targets(row).tolist())
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ids[row][:10].tolist()) if item in targets)
        total += gain / sum(1 / math.log2(place + 2) for place in range(min(len(targets), 10)))
    return total / len(part)


@pytest.mark.parametrize("options", [{}, {"family": False}, {"learned": False}])
def test_the_best_of_all_settings_is_chosen(options, monkeypatch):
    monkeypatch.setattr(fit, "LEARNED_WEIGHTS", (1, 8))
    monkeypatch.setattr(fit, "PROBES", (1, 2))
    pipeline, part, config = random_pipeline(ITEMS, **options), held_out(), tiny_config()
    settings, figures = fit_settings(pipeline, part, config, WEIGHTS)
    tried = fit._candidates(pipeline, config, WEIGHTS)
    answers = [pipeline.with_settings(one).retrieve(part.queries, 10, rescore=0) for one in tried]
    gains = [slow_ndcg(np.where(hits.filled, NO_ITEM, hits.ids), part) for hits in answers]
    assert figures["validation_ndcg@10_cache"] == pytest.approx(max(gains))
    best = tried[int(np.argmax(gains))]
    assert settings.item_weights == best.item_weights == (() if options.get("family") is False else WEIGHTS)
    assert (settings.learned_weight, settings.probes) == (best.learned_weight, best.probes)

    def rescored(evidence: float, cached: float) -> float:
        other = pipeline.with_settings(fit.replace(best, evidence_weight=evidence, cached_weight=cached))
        hits = other.retrieve(part.queries, 10, rescore=config.query.rescore)
        return slow_ndcg(np.where(hits.filled, NO_ITEM, hits.ids), part)

    chosen = rescored(settings.evidence_weight, settings.cached_weight)
    assert figures["validation_ndcg@10_rescored"] == pytest.approx(chosen)
    assert chosen == pytest.approx(max(rescored(weight, settings.cached_weight) for weight in fit.WEIGHTS))
    assert chosen >= max(rescored(weight, 0.0) for weight in fit.WEIGHTS) - 1e-9


def test_repeats_are_ranked_if_the_configuration_says_so():
    # The last item of every history comes back: only a fit that ranks it can count a hit.
    pipeline, config = random_pipeline(ITEMS), tiny_config(**{"query.include_seen": True})
    held = held_out()
    asked = [row for row in range(len(held)) if len(held.queries.history(row))]
    histories = [held.queries.history(row).tolist() for row in asked]
    pointer = np.arange(len(asked) + 1, dtype=np.int64)
    targets = np.array([history[-1] for history in histories], np.int32)
    part = EvaluationSet(np.arange(len(asked), dtype=np.int32), queries_of(histories), pointer, targets)
    settings, figures = fit_settings(pipeline, part, config, WEIGHTS)
    chosen, depth = pipeline.with_settings(settings), config.query.rescore
    hits = chosen.retrieve(part.queries, 10, rescore=depth, include_seen=True)
    gain = slow_ndcg(np.where(hits.filled, NO_ITEM, hits.ids), part)
    assert 0 < figures["validation_ndcg@10_rescored"] == pytest.approx(gain)
    left_out = fit_settings(pipeline, part, tiny_config(), WEIGHTS)[1]
    assert (left_out["validation_ndcg@10_cache"], left_out["validation_ndcg@10_rescored"]) == (0.0, 0.0)


def test_default_settings_take_the_weights_of_the_lists():
    settings = default_settings(random_pipeline(ITEMS), tiny_config(), (32, 16, 0, 4))
    assert settings.item_weights == (32, 16, 0, 4)
    assert settings.learned_weight == 32, "equal say for both families"


def test_default_settings_of_partial_indexes():
    config = tiny_config(**{"families.learned.probes": 4})
    assert default_settings(random_pipeline(ITEMS, learned=False), config, WEIGHTS).learned_weight == 0
    only = default_settings(random_pipeline(ITEMS, family=False), config, WEIGHTS)
    assert only.item_weights == ()
    assert only.probes == 4


def test_fixed_probes_are_not_searched():
    config = tiny_config(**{"families.learned.probes": 2})
    assert {one.probes for one in fit._candidates(random_pipeline(ITEMS), config, WEIGHTS)} == {2}


def test_a_query_that_cannot_be_encoded_is_ranked_by_its_lists_whatever_the_weights():
    search = object.__new__(fit._Rescoring)
    search.part = EvaluationSet(np.zeros(1, np.int32), queries_of([[]]), np.array([0, 1]), np.array([7], np.int32))
    search.state, search.tried = SimpleNamespace(known=np.array([False])), {}
    search.candidates = fit.Candidates(np.array([[3, 7, NO_ITEM]], np.int32), np.array([[1, 2, 0]], np.uint32))
    search.cached = search.candidates.sums * np.float32(0.5)
    search.interaction, search.evidence = np.zeros((2, 1, 3), np.float32)
    assert [search.gain(evidence, cached) for evidence, cached in ((0.0, 0.0), (0.0, 1.0), (2.0, 0.0))] == [1.0] * 3
