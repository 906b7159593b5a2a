"""Dense controls: parts against slow references, and weights against a literal search by evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.eval.evaluate import evaluate
from sparcode.retrievers import blend as module
from sparcode.retrievers.additive import additive
from sparcode.retrievers.blend import Blend, CountsPart, DensePart, Part, fit_blend, gains
from sparcode.retrievers.counts import counts
from sparcode.retrievers.exact import ExactRetriever
from sparcode.types import EvaluationSet, Queries
from tests.retrievers.contract import (
    HISTORIES,
    ITEMS,
    VECTORS,
    LastItemEncoder,
    additive_encoder,
    queries_of,
    transition_lists,
)

GRIDS = [(0.0, 0.5, 2.0, 8.0), (0.0, 0.5, 1.5)]


class FeatureEncoder(LastItemEncoder):
    """Encodes a query without a history by its features."""

    def tokens(self, queries: Queries) -> np.ndarray:
        assert queries.user_features is not None
        return queries.user_features[:, None]

    def has_tokens(self, queries: Queries) -> np.ndarray:
        return np.ones(len(queries), np.bool_)


def parts_of_the_world() -> list[Part]:
    """Return two-tower, counts and additive of the contract's world."""
    tower = DensePart(ExactRetriever(LastItemEncoder(), VECTORS), 0.25)
    lists = CountsPart(*transition_lists(), decay=0.5, history=4)
    return [tower, lists, DensePart(additive(additive_encoder()), 0.125)]


def held_out(queries: int = 60, seed: int = 0) -> EvaluationSet:
    """Return random histories with one or two targets that partly follow the transitions and the additive model."""
    random = np.random.default_rng(seed)
    histories = [random.integers(0, ITEMS, random.integers(0, 5)).tolist() for _ in range(queries)]
    targets = [random.choice(ITEMS, random.integers(1, 3), replace=False) for _ in histories]
    liked = additive(additive_encoder()).retrieve(queries_of(histories), 1).ids
    for row, history in enumerate(histories):
        if history and history[-1] in (0, 2):
            targets[row] = np.array([4])
        elif row % 3:
            targets[row] = liked[row]
    indptr = np.cumsum([0, *map(len, targets)]).astype(np.int64)
    flat = np.concatenate(targets).astype(np.int32)
    return EvaluationSet(np.arange(queries, dtype=np.int32), queries_of(histories), indptr, flat)


def evaluated(parts: list[Part], weights: list[float], part: EvaluationSet) -> float:
    """NDCG@10 by the ordinary evaluation."""
    return evaluate(Blend("x", parts, weights, ITEMS), part, ITEMS, resamples=2).metrics["ndcg@10"]


def test_counts_part_is_the_score_of_counts() -> None:
    queries = queries_of(HISTORIES)
    dense = CountsPart(*transition_lists(), decay=0.7, history=3).scores(queries)
    hits = counts(*transition_lists(), decay=0.7, history=3).retrieve(queries, ITEMS, include_seen=True)
    for row in range(len(queries)):
        for item, score in zip(hits.ids[row], hits.scores[row], strict=True):
            assert dense[row, item] == pytest.approx(0.0 if np.isnan(score) else score, rel=1e-6)


def test_dense_part_divides_by_the_temperature() -> None:
    queries = queries_of([[], [3]])
    scores = parts_of_the_world()[0].scores(queries)
    np.testing.assert_array_equal(scores, [[0.0] * ITEMS, 4 * (VECTORS @ VECTORS[3])])


def test_a_query_with_features_alone_is_answered_by_its_vector() -> None:
    tower = DensePart(ExactRetriever(FeatureEncoder(), VECTORS), 0.25)
    lists = CountsPart(*transition_lists())
    queries = Queries(np.zeros(2, np.int64), np.empty(0, np.int32), VECTORS[[6]])
    hits = Blend("x", [tower, lists], [1, 2], ITEMS).retrieve(queries, 3)
    assert hits.ids[0, :2].tolist() == [6, 7]
    assert not hits.filled.any()


def test_gains_are_those_of_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, part = parts_of_the_world(), held_out()
    tried = [[1.0, weight, other] for weight in GRIDS[0] for other in GRIDS[1]]
    found = gains(parts, tried, part, ITEMS)
    np.testing.assert_allclose(found, [evaluated(parts, weights, part) for weights in tried])
    assert len(set(found)) > 3
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    np.testing.assert_allclose(gains(parts, tried, part, ITEMS), found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_weight_is_the_best_of_its_grid(seed: int) -> None:
    parts, part = parts_of_the_world()[:2], held_out(seed=seed)
    fitted = fit_blend("two-tower+counts", parts, GRIDS[:1], part, ITEMS, seed=0)
    figures = [evaluated(parts, [1.0, weight], part) for weight in GRIDS[0]]
    assert fitted.weights == (1.0, GRIDS[0][int(np.argmax(figures))])
    assert fitted.name == "two-tower+counts"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_weights_are_fitted_one_after_the_other(seed: int) -> None:
    parts, part = parts_of_the_world(), held_out(seed=seed)
    best = [1.0, 0.0, 0.0]
    for axis in (1, 2, 1):
        figures = []
        for value in GRIDS[axis - 1]:
            best[axis] = value
            figures.append(evaluated(parts, best, part))
        best[axis] = GRIDS[axis - 1][int(np.argmax(figures))]
    assert list(fit_blend("x", parts, GRIDS, part, ITEMS, seed=0).weights) == best
    assert best[2] > 0


def test_evidence_of_nothing_gets_no_weight() -> None:
    nothing = CountsPart(np.zeros(ITEMS + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    fitted = fit_blend("x", [parts_of_the_world()[0], nothing], GRIDS[:1], held_out(), ITEMS, seed=0)
    assert fitted.weights == (1.0, 0.0)


def test_repeats_count_where_they_are_ranked() -> None:
    histories = [[item] for item in range(ITEMS)]
    pointer, targets = np.arange(ITEMS + 1, dtype=np.int64), np.arange(ITEMS, dtype=np.int32)
    part = EvaluationSet(targets, queries_of(histories), pointer, targets)
    parts, weights = parts_of_the_world()[:2], [[1.0, 0.5]]
    assert gains(parts, weights, part, ITEMS) == [0.0]
    wanted = evaluate(Blend("x", parts, weights[0], ITEMS), part, ITEMS, resamples=2, include_seen=True)
    assert gains(parts, weights, part, ITEMS, True) == [pytest.approx(wanted.metrics["ndcg@10"])]
    assert wanted.metrics["ndcg@10"] > 0


def test_the_fit_reads_a_seeded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_QUERIES", 7)
    seen: list[list[int]] = []

    def recorded(parts: object, tried: list[list[float]], part: EvaluationSet, *others: object) -> list[float]:
        seen.append(part.users.tolist())
        return [0.0] * len(tried)

    monkeypatch.setattr(module, "gains", recorded)
    for seed in (0, 0, 1):
        fit_blend("x", parts_of_the_world()[:2], GRIDS[:1], held_out(), ITEMS, seed=seed)
    assert len(seen[0]) == 7
    assert seen[0] == seen[1] != seen[2]


def test_the_grids_are_those_of_the_tables() -> None:
    assert module.COUNTS_WEIGHTS == (0, 0.5, 1, 2, 3, 5, 8, 12, 20)
    assert module.ADDITIVE_WEIGHTS == (0, 0.25, 0.5, 0.75, 1, 1.5)
