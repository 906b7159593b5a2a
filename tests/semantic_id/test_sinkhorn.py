"""Balanced assignment: its marginals, and how near its rounding comes to the exact one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sparcode.semantic_id.sinkhorn import _greedy, round_plan, sinkhorn


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (5, 5), (7, 20), (30, 256), (64, 64)])
def test_marginals(rows: int, columns: int) -> None:
    costs = np.random.default_rng(rows).random((rows, columns)) ** 3 * 10
    plan = sinkhorn(costs, iterations=5000)
    np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-9)
    assert plan.sum(axis=0).max() <= 1.01
    assert (plan >= 0).all()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_scale_of_costs_does_not_matter(scale: float) -> None:
    costs = np.random.default_rng(0).random((6, 9))
    np.testing.assert_allclose(sinkhorn(costs * scale), sinkhorn(costs), atol=1e-6)


def test_equal_costs_and_far_columns() -> None:
    assert sorted(round_plan(sinkhorn(np.zeros((4, 4)))).tolist()) == [0, 1, 2, 3]
    costs = np.full((3, 4), 1e30)
    costs[:, :3] = 1 - np.eye(3)
    assert round_plan(sinkhorn(costs)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(12))
def test_the_rounded_plan_costs_little_more_than_the_best_assignment(seed: int) -> None:
    costs = np.random.default_rng(seed).random((5, 7))
    chosen = round_plan(sinkhorn(costs, iterations=2000))
    assert len(set(chosen.tolist())) == 5
    best = min(sum(costs[row, column] for row, column in enumerate(way)) for way in itertools.permutations(range(7), 5))
    assert costs[np.arange(5), chosen].sum() <= 1.1 * best + 1e-9


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows do not fit into 2 columns"):
        sinkhorn(np.ones((3, 2)))


def test_rounding_equals_its_plain_form() -> None:
    plan = np.random.default_rng(1).random((4, 6))
    order = np.argsort(-plan, axis=None, kind="stable")
    np.testing.assert_array_equal(_greedy.py_func(order, 4, 6), _greedy(order, 4, 6))
