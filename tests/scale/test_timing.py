"""Times of engines in turns: the figures are numpy's, of the calls that were made."""

from __future__ import annotations

import numpy as np

from sparcode.scale.timing import _percentiles


def test_percentiles_are_those_of_numpy_over_the_calls_that_were_made() -> None:
    times = np.random.default_rng(0).exponential(50_000, (3, 41))  # rounds, queries: nanoseconds
    times[1:] = np.nan  # a slow call runs in the first round only
    wanted = {"p50": np.quantile(times[0], 0.5), "p95": np.quantile(times[0], 0.95)}
    assert _percentiles(times) == {name: round(float(value) / 1e3, 2) for name, value in wanted.items()}
