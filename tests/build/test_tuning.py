"""What every choice on validation shares: the figure, the sample, weights as small integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.build import tuning
from sparcode.build.tuning import NEWEST_WEIGHT, integer_weights, ndcg, validation_sample
from sparcode.eval.metrics import per_query_metrics
from sparcode.types import NO_ITEM, EvaluationSet
from tests.build.test_fit import ITEMS, held_out, slow_ndcg
from tests.worlds import queries_of


def test_ndcg_equals_the_definition():
    part, random = held_out(), np.random.default_rng(1)
    ids = np.array([random.permutation(ITEMS)[:12] for _ in range(len(part))], np.int32)
    assert ndcg(ids, part) == pytest.approx(slow_ndcg(ids, part))
    ids[:, 4:] = NO_ITEM
    assert ndcg(ids, part) == pytest.approx(slow_ndcg(ids, part))
    assert ndcg(ids[:, :3], part) == pytest.approx(slow_ndcg(ids[:, :3], part)), "fewer results than the cutoff"


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_is_the_one_that_evaluation_reports(seed):
    part, random = held_out(seed=seed), np.random.default_rng(seed)
    ids = np.array([random.permutation(ITEMS)[:10] for _ in range(len(part))], np.int32)
    ids[random.random(ids.shape) < 0.1] = NO_ITEM
    reported = per_query_metrics(ids, part.target_indptr, part.target_items, (10,))["ndcg@10"]
    assert ndcg(ids, part) == pytest.approx(reported.mean())


def slow_integers(weights: list[float]) -> tuple[int, ...]:
    """Round halves up, then drop zeros from the end."""
    rounded = [int(NEWEST_WEIGHT * weight + 0.5) for weight in weights]
    while rounded and rounded[-1] == 0:
        rounded.pop()
    return tuple(rounded)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_integer_weights_equal_a_loop(weights):
    assert integer_weights(np.array(weights)) == slow_integers(weights)


def test_integer_weights_written_out():
    assert integer_weights(0.5 ** np.arange(20)) == (32, 16, 8, 4, 2, 1, 1), "halves rounded up, zeros left out"
    assert integer_weights(np.ones(3)) == (32, 32, 32)
    assert integer_weights(np.array([1.0, 0.001, 0.5, 0.001])) == (32, 0, 16), "a zero in between keeps its age"
    assert integer_weights(np.zeros(3)) == integer_weights(np.empty(0)) == ()


def test_large_validation_sets_are_sampled_with_their_features(monkeypatch):
    monkeypatch.setattr(tuning, "MOST_QUERIES", 7)
    part = held_out()
    features = np.arange(60, dtype=np.float32).reshape(30, 2)
    part = EvaluationSet(
        part.users, queries_of([part.queries.history(row).tolist() for row in range(30)], features),
        part.target_indptr, part.target_items,
    )  # fmt: skip
    small = validation_sample(part, seed=0)
    assert len(small) == 7
    for row, user in enumerate(small.users):
        assert small.queries.history(row).tolist() == part.queries.history(int(user)).tolist()
        assert small.targets(row).tolist() == part.targets(int(user)).tolist()
        assert small.queries.user_features[row].tolist() == features[user].tolist()
    assert (np.diff(small.users) > 0).all(), "in their order"
    np.testing.assert_array_equal(validation_sample(part, seed=0).users, small.users)
    assert validation_sample(part, seed=1).users.tolist() != small.users.tolist()


@settings(max_examples=20)
@given(st.integers(0, 30))
def test_small_validation_sets_are_taken_whole(rows):
    part = held_out(rows) if rows else held_out(1)
    assert validation_sample(part, seed=0) is part
