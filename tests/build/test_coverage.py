"""Item coverage against a literal version of its rule, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.build.coverage import (
    Coverage,
    best_codes,
    coverage_of,
    mark_first,
    needed_lists,
    needy_ranges,
    take_best,
    unsettled,
    with_reserve,
)
from sparcode.build.cut import Cut, best_of_each, budget_cut, floor_pairs, pi_of
from sparcode.build.policy import resolve_settings
from sparcode.build.sample import draw, solve_prices
from sparcode.build.score.candidates import Candidates
from sparcode.config import IndexConfig
from sparcode.errors import BudgetError, ConfigError
from tests.build.test_cut import TableScorer, all_pairs, kept_set, table_of

CODES = np.arange(12, dtype=np.uint16)[:, None]


def needs_of(seed: int, items: int = 30, most: int = 2) -> np.ndarray:
    return np.random.default_rng([seed, 7]).integers(0, most + 1, items)


def traffic_of(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 8]).integers(0, 50, 12)


def literal_cover(pairs: set[tuple[int, int]], table: np.ndarray, needs: np.ndarray) -> set[tuple[int, int]]:
    """Add to (code, item) pairs those of highest value of every item that lacks lists."""
    whole = set(pairs)
    for item, need in enumerate(needs.tolist()):
        others = sorted((-table[item, c], c) for c in range(table.shape[1]) if (c, item) not in pairs)
        for _, code in others[: max(need - sum(i == item for _, i in pairs), 0)]:
            whole.add((code, item))
    return whole


def literal_cut(
    table: np.ndarray, price: np.ndarray, lam: float, forced: set[tuple[int, int]], needs: np.ndarray, most: int
) -> set[tuple[int, int]]:
    """Take pairs in the order of their keys while they and what items then lack are at most ``most``."""
    keys = {(c, i): table[i, c] - lam * price[c] for i in range(len(table)) for c in range(table.shape[1])}
    kept, best = set(forced), literal_cover(forced, table, needs)
    for pair in sorted(keys.keys() - forced, key=lambda pair: (-keys[pair], pair)):
        kept.add(pair)
        whole = literal_cover(kept, table, needs)
        if len(whole) > most:
            break
        if len(whole) > len(best) or len(kept) == len(keys):
            best = whole
    return best


def cut_of(found: Candidates, seed: int, most: int, coverage: Coverage | None, floor: int = 1, **more: object) -> Cut:
    zero = float(found.values.min(initial=0.0))
    more = {"zero": zero, "floor": floor, "most_postings": most} | more
    return budget_cut(found, traffic_of(seed), coverage=coverage, **more)  # type: ignore[arg-type]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.integers(70, 330), st.floats(0.0, 2.0), st.booleans())
def test_kept_is_what_the_literal_rule_keeps(seed, most, lam, given_price):
    table, needs = table_of(seed), needs_of(seed)
    found = all_pairs(table)
    price = {"lam": lam} if given_price else {}
    cut = cut_of(found, seed, most, coverage_of(found.items, needs), **price)
    forced = kept_set(found, best_of_each(found, 1))
    expected = literal_cut(table.astype("f"), 1 / pi_of(traffic_of(seed)), cut.lam, forced, needs, most)
    assert kept_set(found, cut.kept) == expected
    assert cut.kept.sum() == most


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(0, 3), st.floats(0.0, 1.0), st.booleans())
def test_a_storage_budget_is_met_and_items_are_covered(seed, floor, share, ties):
    table, needs = table_of(seed, ties=ties), needs_of(seed, most=4)
    found = all_pairs(table)
    coverage = coverage_of(found.items, needs)
    least = int(floor_pairs(found, floor, coverage).sum())
    by_lists = np.bincount(found.items[best_of_each(found, floor)], minlength=30)
    assert least == np.maximum(needs, by_lists).sum()
    most = least + int(share * (table.size - least))
    cut = cut_of(found, seed, most, coverage, floor)
    assert cut.kept.sum() == most
    assert (np.bincount(found.items[cut.kept], minlength=30) >= needs).all()
    assert cut.kept[best_of_each(found, floor)].all()
    assert 0 <= cut.for_items <= needs.sum()
    if least:
        with pytest.raises(BudgetError, match=f"need {least} postings"):
            cut_of(found, seed, least - 1, coverage, floor)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.floats(0.0, 1.0))
def test_more_budget_keeps_more_and_a_higher_floor_leaves_less_to_merit(seed, lam):
    table = table_of(seed)
    found = all_pairs(table)
    marks = [cut_of(found, seed, most, coverage_of(found.items, needs_of(seed)), lam=lam).mu for most in (90, 150, 300)]
    assert marks == sorted(marks, reverse=True)
    ones = np.ones(30, np.int64)
    cuts = [cut_of(found, seed, 150, coverage_of(found.items, each * ones), lam=lam) for each in (0, 1, 2, 4)]
    assert [cut.mu for cut in cuts] == sorted(cut.mu for cut in cuts)
    assert [cut.for_items for cut in cuts] == sorted(cut.for_items for cut in cuts)
    plain = cut_of(found, seed, 150, None, lam=lam)
    assert np.array_equal(cuts[0].kept, plain.kept)
    assert (cuts[0].mu, cuts[0].offset, cuts[0].lam) == (plain.mu, plain.offset, plain.lam)


def test_values_kept_on_merit_stay_positive():
    found = all_pairs(table_of(2))
    cut = cut_of(found, 2, 100, coverage_of(found.items, np.full(30, 2)))
    keys = found.values - cut.lam / pi_of(traffic_of(2))[found.codes]
    merit = cut.kept & (keys >= cut.mu - 1e-6)
    assert merit.sum() + cut.for_items >= 100 - 12
    assert (found.values[merit] + np.float32(cut.offset) >= -1e-5).all()
    assert cut.for_items > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.floats(60.0, 150.0))
def test_a_read_budget_is_met_and_items_are_covered(seed, most):
    table, needs, reads = table_of(seed, items=300), needs_of(seed, 300), np.random.default_rng(seed).random(12) * 0.2
    found = all_pairs(table)
    coverage = coverage_of(found.items, needs)
    least = float(reads[found.codes[floor_pairs(found, 1, coverage)]].sum())
    limits = {"most_postings": None, "most_reads": most, "reads": reads, "zero": 0.0}
    if least > most:
        with pytest.raises(BudgetError, match="a query"):
            cut_of(found, seed, 0, coverage, **limits)
        return
    kept = cut_of(found, seed, 0, coverage, **limits).kept
    assert (np.bincount(found.items[kept], minlength=300) >= needs).all()
    assert 0.98 * most <= reads[found.codes[kept]].sum() <= most * (1 + 1e-9)


def test_both_budgets_hold_with_covered_items():
    reads, needs = np.random.default_rng(0).random(12), np.ones(300, np.int64)
    found = all_pairs(table_of(0, items=300))
    coverage = coverage_of(found.items, needs)
    for most, most_reads in ((600, 1e9), (600, 320.0), (3600, 200.0), (600, 250.0)):
        for lam in (None, 0.3):
            cut = cut_of(found, 0, most, coverage, most_reads=most_reads, reads=reads, lam=lam)
            spent = reads[found.codes[cut.kept]].sum()
            assert cut.kept.sum() <= most
            assert spent <= most_reads * (1 + 1e-9)
            assert cut.kept.sum() >= 0.98 * most or spent >= 0.98 * most_reads
            assert set(found.items[cut.kept].tolist()) == set(range(300))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.floats(0.0, 4.0), st.integers(60, 110))
def test_pairs_above_a_threshold_and_the_best_of_items_suffice(seed, threshold, most):
    table, needs = table_of(seed), needs_of(seed)
    scorer, whole, some = TableScorer(table), all_pairs(table), all_pairs(table, threshold, 1)
    lacking = unsettled(some, needs, threshold)
    joined, reserve = with_reserve(some, best_codes(scorer, CODES, lacking))
    assert (np.diff(joined.indptr) >= np.diff(some.indptr)).all()
    assert kept_set(joined, ~reserve) == kept_set(some, np.ones(len(some.items), bool))
    bounds = zip(joined.indptr, joined.indptr[1:], strict=False)
    assert all((np.diff(joined.items[low:high]) > 0).all() for low, high in bounds)
    limits = {"zero": threshold, "lam": 0.0}
    part = cut_of(joined, seed, most, coverage_of(joined.items, needs, reserve), **limits)
    assert (np.bincount(joined.items[part.kept], minlength=30) >= needs).all()
    if not part.exhausted:
        full = cut_of(whole, seed, most, coverage_of(whole.items, needs), **limits)
        assert kept_set(joined, part.kept) == kept_set(whole, full.kept)
        assert part.offset == full.offset


def test_candidates_that_do_not_suffice_are_exhausted():
    table, needs = table_of(0), np.ones(30, np.int64)
    some = all_pairs(table, 4.0, 1)
    joined, reserve = with_reserve(some, best_codes(TableScorer(table), CODES, unsettled(some, needs, 4.0)))
    cut = cut_of(joined, 0, 300, coverage_of(joined.items, needs, reserve))
    assert cut.exhausted
    assert set(joined.items[cut.kept].tolist()) == set(range(30))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.booleans())
def test_best_codes_of_items_are_literal(seed, ties):
    table, needs = table_of(seed, ties=ties).astype("f"), needs_of(seed, most=14)
    found = best_codes(TableScorer(table), CODES, needs)
    expected = [(c, i) for i in range(30) for c in np.lexsort((np.arange(12), -table[i]))[: needs[i]].tolist()]
    assert list(zip(found["codes"].tolist(), found["items"].tolist(), strict=True)) == expected
    assert np.array_equal(found["values"], table[found["items"], found["codes"]])


def test_kernels_agree_with_the_uncompiled():
    found = all_pairs(table_of(1, ties=True))
    coverage, allowed = coverage_of(found.items, needs_of(1)), found.values < 3
    given_ = (coverage.indptr, coverage.order, found.values.astype(np.float64), allowed, coverage.needs)
    assert np.array_equal(mark_first(*given_), mark_first.py_func(*given_))
    scores, ends = table_of(1).astype("f"), np.arange(0, 31 * 3, 3)
    made = []
    for kernel in (take_best, take_best.py_func):
        rows, values = np.full(90, -1, np.int32), np.full(90, -np.inf, np.float32)
        kernel(scores, ends, rows, values)
        made.append((rows.tolist(), values.tolist()))
    assert made[0] == made[1]


def test_ranges_hold_all_items_in_need():
    needs = np.zeros(5000, np.int64)
    needs[[0, 5, 6, 900, 931, 4999]] = 1
    assert needy_ranges(needs) == [(0, 7), (900, 932), (4999, 5000)]
    assert needy_ranges(np.zeros(9, np.int64)) == []


def test_lists_of_other_families_count():
    others = [{"items": np.array([0, 0, 1, 3])}, {"items": np.array([1, 4])}]
    assert needed_lists(2, np.array([0, 1, 2, 2, 3]), others, 5).tolist() == [0, 0, 2, 1, 0]
    assert needed_lists(1, np.array([0, 1, 2]), [], 4).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("limits", [(3000, None), (None, 900.0), (3000, 900.0), (2500, 700.0)])
def test_prices_on_the_sample_are_those_of_the_solver(limits):
    rng = np.random.default_rng(3)
    table = rng.normal(size=(900, 12)) * 2 - np.linspace(0, 5, 900)[:, None]
    scorer, reads, needs = TableScorer(table), rng.random(12), np.ones(900, np.int64)
    everything = all_pairs(table, -20.0)
    postings, most_reads = limits
    wanted = cut_of(
        everything, 3, 0, coverage_of(everything.items, needs), 0, zero=-20.0, most_postings=postings,
        most_reads=most_reads, reads=reads,
    )  # fmt: skip
    sample = draw(scorer, CODES, -20.0)
    found = solve_prices(sample, 1 / pi_of(traffic_of(3)), reads, -20.0, postings, most_reads, 0.5, needs)
    assert found.lam == pytest.approx(wanted.lam, rel=0.02, abs=1e-6)
    assert found.mu == pytest.approx(wanted.mu, abs=0.05)


def test_the_floor_goes_with_any_budget_and_with_nothing_else():
    floor = {"item_floor": 2}
    assert resolve_settings(IndexConfig(policy="budget", budget_mb=3.0), floor, None).item_floor == 2
    assert resolve_settings(IndexConfig(), floor | {"budget_mb": 1.0}, None).item_floor == 2
    kept = resolve_settings(IndexConfig(policy="budget", budget_mb=3.0, item_floor=1), {"budget_mb": 2.0}, None)
    assert (kept.budget_mb, kept.item_floor) == (2.0, 1)
    assert resolve_settings(kept, {"density": 2.0}, None).item_floor is None
    assert resolve_settings(kept, {"item_floor": 0}, None).item_floor == 0
    with pytest.raises(ConfigError, match="item_floor does not belong to policy length"):
        resolve_settings(IndexConfig(), floor | {"length": 9}, None)
    with pytest.raises(ConfigError, match="item_floor does not belong to policy global-bias"):
        resolve_settings(IndexConfig(item_floor=1), {}, None)
    with pytest.raises(ConfigError, match="whole number"):
        resolve_settings(IndexConfig(), {"budget_mb": 1.0, "item_floor": 1.5}, None)
