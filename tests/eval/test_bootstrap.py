"""Intervals are those of plain resampling and of scipy, over queries and over users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparcode.eval.bootstrap import bootstrap_means, paired_difference, percentile_intervals


def test_agrees_with_plain_resampling() -> None:
    random = np.random.default_rng(0)
    values = random.choice([0.0, 0.5, 1.0], 400, p=[0.7, 0.2, 0.1])
    interval = percentile_intervals({"x": values}, seed=1)["x"]
    plain = values[random.integers(0, 400, (10_000, 400))].mean(axis=1)
    np.testing.assert_allclose(interval, np.quantile(plain, [0.025, 0.975]), atol=0.004)
    assert interval.low < values.mean() < interval.high


def scipy_interval(statistic: Callable[..., Any], *samples: np.ndarray, resamples: int) -> tuple[float, float]:
    """Return scipy's percentile interval of a statistic of paired samples: units are drawn with all their values."""
    bootstrap = pytest.importorskip("scipy.stats").bootstrap
    found = bootstrap(
        samples, statistic, paired=True, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0)
    )
    return found.confidence_interval.low, found.confidence_interval.high


KINDS = {
    "hit or not": lambda random, size: (random.random(size) < 0.1).astype(float),
    "ndcg of one item": lambda random, size: random.choice([0, *(1 / np.log2(np.arange(2, 12)))], size),
    "all differ": lambda random, size: random.lognormal(size=size),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [40, 700])
def test_intervals_are_those_of_scipy(kind: str, size: int) -> None:
    values = KINDS[kind](np.random.default_rng(size), size)
    expected = scipy_interval(lambda x, axis: x.mean(axis=axis), values, resamples=20_000)
    found = percentile_intervals({"x": values}, seed=1, resamples=20_000)["x"]
    # An end of an interval from so many resamples is off by about 0.02 standard errors; steps of 1 / size beside it.
    allowed = 0.1 * values.std() / np.sqrt(size) + (1 / size if kind == "hit or not" else 0)
    np.testing.assert_allclose(found, expected, atol=allowed)


def sessions(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return values of queries and who asked: users of few and of many queries, each good at all or at none."""
    sizes = random.geometric(0.2, 120)
    users = random.permutation(np.repeat(np.arange(120) * 7, sizes))
    luck = random.random(120)
    return random.binomial(4, luck[users // 7]) / 4, users


def test_intervals_over_users_are_those_of_scipy() -> None:
    values, users = sessions(np.random.default_rng(5))
    sums, sizes = (np.bincount(users, weights)[::7].astype(float) for weights in (values, None))
    expected = scipy_interval(
        lambda total, count, axis: total.sum(axis=axis) / count.sum(axis=axis), sums, sizes, resamples=20_000
    )
    width = expected[1] - expected[0]
    found = percentile_intervals({"x": values}, seed=1, resamples=20_000, users=users)["x"]
    np.testing.assert_allclose(found, expected, atol=0.03 * width)
    alone = percentile_intervals({"x": values}, seed=1, resamples=20_000)["x"]
    assert alone.high - alone.low < 0.7 * width  # queries taken for independent: far too sure


def test_differences_over_users_are_those_of_scipy() -> None:
    random = np.random.default_rng(6)
    values, users = sessions(random)
    other = np.where(random.random(len(values)) < 0.8, values, random.random(len(values)))
    sums, sizes = (np.bincount(users, weights)[::7].astype(float) for weights in (values - other, None))
    low, high = scipy_interval(lambda t, c, axis: t.sum(axis=axis) / c.sum(axis=axis), sums, sizes, resamples=20_000)
    found = paired_difference(values, other, seed=1, resamples=20_000, users=users)
    np.testing.assert_allclose((found.low, found.high), (low, high), atol=0.03 * (high - low))
    assert found.difference == pytest.approx(sums.sum() / sizes.sum())


def test_standard_error_of_many_distinct_values() -> None:
    values = np.random.default_rng(1).normal(size=(2500, 1))
    means = bootstrap_means(values, seed=0)
    assert means.shape == (2000, 1)
    assert means.std() == pytest.approx(values.std() / 50, rel=0.1)
    assert bootstrap_means(values[:100], seed=0).shape == (10_000, 1)


def test_chunks_do_not_matter_for_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparcode.eval.bootstrap._CHUNK", 50)
    means = bootstrap_means(np.arange(20.0)[:, None], seed=0, resamples=999)
    assert means.shape == (999, 1)
    assert means.mean() == pytest.approx(9.5, abs=0.2)


def test_same_seed_same_interval() -> None:
    metrics = {"a": np.random.default_rng(2).random(50), "b": np.ones(50)}
    first = percentile_intervals(metrics, seed=3)
    assert first == percentile_intervals(metrics, seed=3)
    assert first != percentile_intervals(metrics, seed=4)
    assert first["b"] == (1.0, 1.0)


def test_nothing_to_resample() -> None:
    assert percentile_intervals({}) == {}
    assert percentile_intervals({"a": np.empty(0)}) == {}


def test_pairing_is_sharper_than_two_intervals() -> None:
    random = np.random.default_rng(3)
    b = random.random(300)
    a = b + 0.01 + 0.01 * random.normal(size=300)
    result = paired_difference(a, b, seed=0)
    assert result.low < result.difference < result.high
    assert result.low > 0
    assert result.share_not_above == 0
    assert result.high - result.low < 0.01


def test_equal_systems_differ_by_nothing() -> None:
    values = np.random.default_rng(4).random(30)
    assert paired_difference(values, values) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("shapes", [(3, 4), (0, 0)])
def test_unpaired_values_are_refused(shapes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="paired values"):
        paired_difference(np.zeros(shapes[0]), np.zeros(shapes[1]))
