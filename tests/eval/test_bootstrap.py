from __future__ import annotations

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
