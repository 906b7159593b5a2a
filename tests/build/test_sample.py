"""The sample that prices are found on: every pair has its weight, and levels and prices agree with all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparcode.build import sample as module
from sparcode.build.cut import budget_cut, pi_of
from sparcode.build.sample import Reservoir, draw, largest, sampled_ranges, solve_prices
from sparcode.build.score.candidates import score_block
from tests.build.test_cut import TableScorer


@given(st.integers(1, 3_000_000))
def test_ranges_stand_for_all_items(count):
    ranges = sampled_ranges(count)
    assert sum((stop - start) * weight for start, stop, weight in ranges) == pytest.approx(count)
    assert all(0 <= start < stop <= count for start, stop, _ in ranges)
    assert all(one[1] <= other[0] for one, other in zip(ranges, ranges[1:], strict=False))
    assert sum(stop - start for start, stop, _ in ranges) <= 8192 + 384 * 9


def world(items: int, codes: int = 40) -> np.ndarray:
    """Scores (items, codes) that fall with the rank of the item."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(items, codes)) * 2 - np.log1p(np.arange(items))[:, None]


def numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint16)[:, None]


def test_few_items_are_all_drawn(monkeypatch):
    monkeypatch.setattr(module, "CODES_AT_ONCE", 7)
    table = world(900)
    sample = draw(TableScorer(table), numbers(40), -5.0)
    assert (sample.weights == 1).all()
    found = sorted(zip(sample.codes.tolist(), sample.values.tolist(), strict=True))
    rows, columns = np.nonzero(table.astype("f") > -5)
    assert found == sorted(zip(columns.tolist(), table.astype("f")[rows, columns].tolist(), strict=True))


def test_levels_of_a_large_catalogue():
    table = world(200_000)
    sample = draw(TableScorer(table), numbers(40))
    assert sample.weights.sum() == pytest.approx(table.size)
    values = np.sort(table.astype("f").reshape(-1))[::-1]
    for count in (4_000, 40_000, 400_000):
        level = sample.level(sample.values.astype(np.float64), count)
        assert (values >= level).sum() == pytest.approx(count, rel=0.1)
    assert sample.level(sample.values.astype(np.float64), 1e9) == -np.inf


@pytest.mark.parametrize("limits", [(3000, None), (None, 900.0), (3000, 900.0), (3000, 400.0)])
def test_prices_are_those_of_the_solver_on_all_pairs(limits):
    table, rng = world(900), np.random.default_rng(1)
    scorer, traffic, reads = TableScorer(table), rng.integers(1, 90, 40), rng.random(40)
    everything = score_block(scorer, numbers(40), -20.0, 0)
    postings, most_reads = limits
    wanted = budget_cut(
        everything, traffic, zero=-20.0, floor=0, most_postings=postings, most_reads=most_reads, reads=reads
    )
    price = 1 / pi_of(traffic)
    found = solve_prices(draw(scorer, numbers(40), -20.0), price, reads, -20.0, postings, most_reads, 0.5)
    assert found.lam == pytest.approx(wanted.lam, rel=1e-3, abs=1e-6)
    assert found.mu == pytest.approx(wanted.mu, abs=0.02)
    if postings is not None:
        again = budget_cut(
            everything, traffic, zero=-20.0, floor=0, most_postings=postings, most_reads=most_reads, reads=reads,
            lam=found.lam,
        )  # fmt: skip
        assert (again.kept != wanted.kept).mean() < 0.01


def test_all_fits_and_nothing_is_there():
    empty = Reservoir(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0), np.zeros(0, np.int32))
    assert solve_prices(empty, np.ones(3), np.ones(3), -4.0, 10, None, 0.5) == (-4.0, 0.0)
    assert largest(lambda price: price <= 3.0, 0.5) == pytest.approx(3.0, rel=1e-6)
