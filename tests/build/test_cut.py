"""Policies against literal versions of their rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.build.cut import best_of_each, bias_cut, budget_cut, density_cut, length_cut, pi_of
from sparcode.build.policy import resolve_settings
from sparcode.build.score.candidates import Candidates, grouped, score_block
from sparcode.config import IndexConfig
from sparcode.errors import BudgetError, ConfigError


class TableScorer:
    """Scores read from a table (items, codes); the code is its own column number."""

    def __init__(self, table: np.ndarray) -> None:
        self.table, self.item_count = table.astype(np.float32), len(table)

    def plan(self, codes: np.ndarray) -> np.ndarray:
        return codes[:, 0].astype(np.int64)

    def scores(self, plan: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
        return np.ascontiguousarray(self.table[start:stop, plan])


def table_of(seed: int, items: int = 30, codes: int = 12, ties: bool = False) -> np.ndarray:
    table = np.random.default_rng(seed).normal(size=(items, codes)) * 3
    return np.round(table) if ties else table


def all_pairs(table: np.ndarray, threshold: float = -np.inf, floor: int = 0) -> Candidates:
    codes = np.arange(table.shape[1], dtype=np.uint16)[:, None]
    return score_block(TableScorer(table), codes, threshold, floor)


def kept_set(candidates: Candidates, kept: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(candidates.codes[kept].tolist(), candidates.items[kept].tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.floats(-6, 6), st.integers(0, 5), st.booleans())
def test_candidates_are_what_is_above_and_the_best(seed, threshold, floor, ties):
    table = table_of(seed, ties=ties).astype(np.float32)
    found = all_pairs(table, threshold, floor)
    expected = {(c, i) for i, c in zip(*np.nonzero(table > np.float32(threshold)), strict=True)}
    for c in range(table.shape[1]):
        expected |= {(c, i) for i in np.lexsort((np.arange(len(table)), -table[:, c]))[:floor].tolist()}
    assert kept_set(found, np.ones(len(found.items), bool)) == expected
    assert np.array_equal(found.values, table[found.items, found.codes])
    for row in range(table.shape[1]):
        assert (np.diff(found.items[found.indptr[row] : found.indptr[row + 1]]) > 0).all()


def test_bias_keeps_positive_sums():
    table = table_of(1)
    found = all_pairs(table)
    assert kept_set(found, bias_cut(found, 0.75).kept) == {
        (c, i) for i in range(30) for c in range(12) if np.float32(table[i, c]) + np.float32(0.75) > 0
    }


@pytest.mark.parametrize("most", [1, 7, 100, 359])
def test_a_budget_of_postings_is_met_exactly_where_scores_are_equal(most):
    found = all_pairs(np.ones((30, 12)))
    cut = budget_cut(found, np.ones(12), zero=0.0, floor=0, most_postings=most)
    assert cut.kept.sum() == most
    assert cut.kept[:most].all()  # in the order of code and item


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 360))
def test_density_lands_exactly(seed, wanted):
    found = all_pairs(table_of(seed))
    cut = density_cut(found, wanted, 360)
    assert cut.kept.sum() == wanted
    assert (found.values[cut.kept] + np.float32(cut.offset) > 0).all()
    assert cut.kept.all() or found.values[cut.kept].min() > found.values[~cut.kept].max()


def test_density_leaves_out_ties_together():
    table = np.array([[3.0, 2.0], [2.0, 2.0], [1.0, 0.0]])
    found = all_pairs(table)
    assert [int(density_cut(found, wanted, 6).kept.sum()) for wanted in (1, 2, 3, 4, 5, 6)] == [1, 1, 1, 4, 5, 6]


def test_density_says_when_candidates_do_not_suffice():
    found = all_pairs(table_of(0), threshold=2.0)
    assert density_cut(found, len(found.values), 360).exhausted
    assert not density_cut(found, len(found.values) - 1, 360).exhausted


def test_best_of_each_is_literal():
    table = table_of(3, ties=True)
    found = all_pairs(table)
    expected = {(c, i) for c in range(12) for i in np.lexsort((np.arange(30), -table[:, c]))[:3].tolist()}
    assert kept_set(found, best_of_each(found, 3)) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.integers(40, 300))
def test_storage_budget_follows_the_two_price_rule(seed, most):
    rng = np.random.default_rng(seed)
    table, traffic = table_of(seed), rng.integers(0, 50, 12)
    found = all_pairs(table)
    zero = float(found.values.min())
    cut = budget_cut(found, traffic, zero=zero, floor=2, most_postings=most)
    assert cut.kept.sum() == most
    thresholds = cut.mu + cut.lam / pi_of(traffic)
    forced = best_of_each(found, 2)
    literal = np.array([v >= thresholds[c] - 1e-6 for v, c in zip(found.values, found.codes, strict=True)])
    assert np.array_equal(cut.kept, literal | forced)
    assert (found.values[cut.kept & ~forced] + np.float32(cut.offset) >= -1e-5).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.floats(30.0, 120.0))
def test_read_budget_is_met_within_two_percent(seed, most):
    rng = np.random.default_rng(seed)
    table, traffic, reads = table_of(seed, items=300), rng.integers(0, 50, 12), rng.random(12) * 0.2
    found = all_pairs(table)
    cut = budget_cut(found, traffic, zero=0.0, floor=1, most_reads=most, reads=reads)
    spent = float(reads[found.codes[cut.kept]].sum())
    assert spent <= most * (1 + 1e-9)
    assert spent >= 0.98 * most


def test_both_budgets_hold_and_one_binds():
    rng = np.random.default_rng(0)
    table, traffic, reads = table_of(0, items=300), rng.integers(0, 50, 12), rng.random(12)
    found = all_pairs(table)
    for most, most_reads in ((600, 1e9), (600, 320.0), (3600, 200.0), (600, 250.0)):
        cut = budget_cut(found, traffic, zero=-9.0, floor=1, most_postings=most, most_reads=most_reads, reads=reads)
        spent = reads[found.codes[cut.kept]].sum()
        assert cut.kept.sum() <= most
        assert spent <= most_reads * (1 + 1e-9)
        assert cut.kept.sum() >= 0.98 * most or spent >= 0.98 * most_reads


def test_floors_that_do_not_fit_are_refused():
    found = all_pairs(table_of(0))
    with pytest.raises(BudgetError, match="need 48 postings"):
        budget_cut(found, np.ones(12), zero=0.0, floor=4, most_postings=40)
    with pytest.raises(BudgetError, match="need 24 a query"):
        budget_cut(found, np.ones(12), zero=0.0, floor=4, most_reads=20.0, reads=np.full(12, 0.5))
    with pytest.raises(ValueError, match="needs"):
        budget_cut(found, np.ones(12), zero=0.0, floor=4)


def test_more_budget_than_pairs_keeps_all():
    found = all_pairs(table_of(0))
    cut = budget_cut(found, np.ones(12), zero=0.0, floor=1, most_postings=1000)
    assert cut.kept.all()
    assert cut.exhausted


def given_settings(**values: object) -> dict[str, object]:
    names = ("policy", "bias", "density", "budget_mb", "postings_per_query", "length")
    return {name: values.get(name) for name in names}


def test_arguments_overrule_the_configuration():
    defaults = IndexConfig(policy="budget", budget_mb=3.0)
    assert resolve_settings(defaults, given_settings(), None) == defaults
    found = resolve_settings(defaults, given_settings(density=2.0), 9)
    assert (found.policy, found.density, found.budget_mb, found.block_codes) == ("global-bias", 2.0, None, 9)
    assert resolve_settings(defaults, given_settings(postings_per_query=7.0), None).policy == "budget"
    found = resolve_settings(defaults, given_settings(length=256), None)
    assert (found.policy, found.length, found.budget_mb) == ("length", 256, None)
    assert resolve_settings(IndexConfig(policy="length", length=8), given_settings(), None).length == 8


def test_the_best_of_every_code_and_what_they_are_worth():
    table = table_of(3)
    found = all_pairs(table, np.inf, 4)
    assert np.diff(found.indptr).tolist() == [4] * 12
    cut = length_cut(found, None)
    assert cut.kept.all()
    least = np.sort(table, axis=0)[-4].astype("f")
    assert -cut.offset in least
    assert (least < -cut.offset).sum() == 5
    trained = length_cut(found, 0.5)
    assert np.array_equal(trained.kept, found.values > 0.5)
    assert trained.offset == -0.5
    assert length_cut(all_pairs(table[:0], np.inf, 4), None).kept.tolist() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "best"}, "expected global-bias, budget or length"),
        ({"policy": "budget"}, "needs budget_mb or postings_per_query"),
        ({"policy": "budget", "budget_mb": 1.0, "bias": 0.5}, "bias does not belong to policy budget"),
        ({"policy": "global-bias", "budget_mb": 1.0}, "budget_mb does not belong to policy global-bias"),
        ({"bias": 1.0, "density": 2.0}, "exclude each other"),
        ({"density": 0.0}, "above 0"),
        ({"density": 101.0}, "at most 100"),
        ({"budget_mb": -1.0}, "a number above 0"),
        ({"policy": "length"}, "needs length"),
        ({"policy": "length", "bias": 1.0}, "bias does not belong to policy length"),
        ({"policy": "budget", "budget_mb": 1.0, "length": 3}, "length does not belong to policy budget"),
        ({"length": 0}, "whole number of at least 1"),
        ({"length": 2.5}, "whole number of at least 1"),
    ],
)
def test_contradictions_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        resolve_settings(IndexConfig(), given_settings(**values), None)


def test_counting_sort_is_stable():
    keys = np.array([2, 0, 2, 1, 0, 2], np.int32)
    for kernel in (grouped, grouped.py_func):
        assert kernel(keys, 3).tolist() == np.argsort(keys, kind="stable").tolist()
