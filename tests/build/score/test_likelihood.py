"""Log-probabilities of lists: equal to the softmax, blind to a shift per code, independent of the block."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.build.score import likelihood
from sparcode.build.score.likelihood import LikelihoodScorer, sampled_ranges


class Table:
    """Scores given as a table (codes, items); code c is the number c."""

    def __init__(self, scores: np.ndarray) -> None:
        self.table, self.item_count = scores.astype(np.float32), scores.shape[1]

    def plan(self, codes: np.ndarray) -> np.ndarray:
        return codes[:, 0]

    def scores(self, plan: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.table[plan, start:stop].T


def codes(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint16)[:, None]


def test_equal_to_the_softmax() -> None:
    scores = np.random.default_rng(0).normal(0, 3, (5, 70))
    scorer = LikelihoodScorer(Table(scores))
    found = scorer.scores(scorer.plan(codes(3, 0)), 10, 20)
    wanted = scores[[3, 0]] - np.log(np.exp(scores[[3, 0]]).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, wanted[:, 10:20].T, atol=1e-5)


def test_a_shift_of_a_code_changes_nothing() -> None:
    scores = np.random.default_rng(1).normal(0, 2, (4, 30))
    shifted = scores + np.array([[0.0], [50.0], [-50.0], [3.0]])
    plain, moved = LikelihoodScorer(Table(scores)), LikelihoodScorer(Table(shifted))
    every = codes(0, 1, 2, 3)
    np.testing.assert_allclose(plain.scores(plain.plan(every)), moved.scores(moved.plan(every)), atol=1e-4)


def test_a_code_alone_equals_the_code_in_a_block() -> None:
    scorer = LikelihoodScorer(Table(np.random.default_rng(2).normal(0, 2, (40, 500))))
    together = scorer.scores(scorer.plan(codes(*range(40))))
    for code in range(0, 40, 7):
        assert np.array_equal(scorer.scores(scorer.plan(codes(code)))[:, 0], together[:, code])


def test_many_items_are_sampled_over_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "SAMPLED_RUNS", 16)
    ranges = sampled_ranges(100_000)
    assert len(ranges) == 16
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 100_000
    scores = np.random.default_rng(3).normal(0, 1, (2, 20_000))
    scorer = LikelihoodScorer(Table(scores))
    exact = np.log(np.exp(scores).sum(axis=1))
    np.testing.assert_allclose(scorer.plan(codes(0, 1)).log_sums, exact, atol=0.15)
