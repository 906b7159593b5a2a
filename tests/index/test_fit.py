"""Query settings chosen on validation are the best of those tried."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparcode.index import fit
from sparcode.index.fit import default_settings, fit_settings, ndcg
from sparcode.types import NO_ITEM, EvaluationSet
from tests.worlds import queries_of, random_pipeline, sequences_of, tiny_config

ITEMS = 23


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


def test_ndcg_equals_the_definition():
    part, random = held_out(), np.random.default_rng(1)
    ids = np.array([random.permutation(ITEMS)[:12] for _ in range(len(part))], np.int32)
    assert ndcg(ids, part) == pytest.approx(slow_ndcg(ids, part))
    ids[:, 4:] = NO_ITEM
    assert ndcg(ids, part) == pytest.approx(slow_ndcg(ids, part))
    assert ndcg(ids[:, :3], part) == pytest.approx(slow_ndcg(ids[:, :3], part)), "fewer results than the cutoff"


@pytest.mark.parametrize("options", [{}, {"family": False}, {"learned": False}])
def test_the_best_of_all_settings_is_chosen(options, monkeypatch):
    monkeypatch.setattr(fit, "LEARNED_WEIGHTS", (1, 8))
    monkeypatch.setattr(fit, "PROBES", (1, 2))
    pipeline, part, config = random_pipeline(ITEMS, **options), held_out(), tiny_config()
    settings, figures = fit_settings(pipeline, part, config)
    tried = fit._candidates(pipeline, config)
    answers = [pipeline.with_settings(one).retrieve(part.queries, 10, rescore=0) for one in tried]
    gains = [slow_ndcg(np.where(hits.filled, NO_ITEM, hits.ids), part) for hits in answers]
    assert figures["validation_ndcg@10_cache"] == pytest.approx(max(gains))
    best = tried[int(np.argmax(gains))]
    assert (settings.learned_weight, settings.probes) == (best.learned_weight, best.probes)

    def rescored(evidence: float, cached: float) -> float:
        other = pipeline.with_settings(fit.replace(best, evidence_weight=evidence, cached_weight=cached))
        hits = other.retrieve(part.queries, 10, rescore=config.query.rescore)
        return slow_ndcg(np.where(hits.filled, NO_ITEM, hits.ids), part)

    chosen = rescored(settings.evidence_weight, settings.cached_weight)
    assert figures["validation_ndcg@10_rescored"] == pytest.approx(chosen)
    assert chosen == pytest.approx(max(rescored(weight, settings.cached_weight) for weight in fit.WEIGHTS))
    assert chosen >= max(rescored(weight, 0.0) for weight in fit.WEIGHTS) - 1e-9


def test_item_weights_follow_the_decay():
    config = tiny_config(**{"families.item.decay": 0.5, "families.item.history": 20})
    settings = default_settings(random_pipeline(ITEMS), config)
    assert settings.item_weights == (16, 8, 4, 2, 1, 1), "16 * .5^age, halves rounded up, zeros left out"
    flat = tiny_config(**{"families.item.decay": 1.0, "families.item.history": 3})
    assert default_settings(random_pipeline(ITEMS), flat).item_weights == (16, 16, 16)


def test_default_settings_of_partial_indexes():
    config = tiny_config(**{"families.learned.probes": 4})
    assert default_settings(random_pipeline(ITEMS, learned=False), config).learned_weight == 0
    only = default_settings(random_pipeline(ITEMS, family=False), config)
    assert only.item_weights == ()
    assert only.probes == 4


def test_fixed_probes_are_not_searched():
    config = tiny_config(**{"families.learned.probes": 2})
    assert {one.probes for one in fit._candidates(random_pipeline(ITEMS), config)} == {2}


def test_large_validation_sets_are_sampled_with_their_features(monkeypatch):
    monkeypatch.setattr(fit, "MOST_QUERIES", 7)
    part = held_out()
    features = np.arange(60, dtype=np.float32).reshape(30, 2)
    part = EvaluationSet(
        part.users, queries_of([part.queries.history(row).tolist() for row in range(30)], features),
        part.target_indptr, part.target_items,
    )  # fmt: skip
    small = fit._sample(part, seed=0)
    assert len(small) == 7
    for row, user in enumerate(small.users):
        assert small.queries.history(row).tolist() == part.queries.history(int(user)).tolist()
        assert small.targets(row).tolist() == part.targets(int(user)).tolist()
        assert small.queries.user_features[row].tolist() == features[user].tolist()
    np.testing.assert_array_equal(fit._sample(part, seed=0).users, small.users)
    assert fit._sample(part, seed=1).users.tolist() != small.users.tolist()
