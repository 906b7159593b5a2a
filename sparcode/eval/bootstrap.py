"""Bootstrap intervals over queries (Efron's percentile interval), seeded.

Resampling B queries with replacement gives each query a multinomial count. Queries with equal values are
interchangeable, so counts are drawn for *distinct* rows of values: the same distribution, and with one held-out
item a query there are few distinct rows. With many distinct rows fewer resamples are drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.seeding import generator

RESAMPLES = 10_000
MANY_RESAMPLES = 2_000
_MANY = 2_000  # distinct rows from which on MANY_RESAMPLES are drawn
_CHUNK = 1 << 22  # counts held at once


class Interval(NamedTuple):
    """A two-sided percentile interval of a mean."""

    low: float
    high: float


class Difference(NamedTuple):
    """Mean of a - b over the same queries, its interval, and the share of resamples with a mean of 0 or less."""

    difference: float
    low: float
    high: float
    share_not_above: float


def bootstrap_means(values: np.ndarray, *, seed: int, resamples: int | None = None) -> np.ndarray:
    """Return (resamples, m) means of resampled rows of ``values`` (B, m), B at least 1.

    ``resamples`` is 10,000 when absent, or 2,000 where more than 2,000 rows are distinct.
    """
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    if resamples is None:
        resamples = RESAMPLES if len(distinct) <= _MANY else MANY_RESAMPLES
    random = generator(seed, "bootstrap")
    total = len(values)
    step = max(1, _CHUNK // len(distinct))
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = random.multinomial(total, counts / total, size=size)
        means[start : start + size] = drawn @ distinct / total
    return means


def percentile_intervals(
    metrics: dict[str, np.ndarray], *, seed: int = 0, level: float = 0.95, resamples: int | None = None
) -> dict[str, Interval]:
    """Return the interval of the mean of each per-query array (B,); all metrics share the same resamples."""
    if not metrics or not len(next(iter(metrics.values()))):
        return {}
    means = bootstrap_means(np.column_stack(list(metrics.values())), seed=seed, resamples=resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: Interval(float(low[i]), float(high[i])) for i, name in enumerate(metrics)}


def paired_difference(
    a: np.ndarray, b: np.ndarray, *, seed: int = 0, level: float = 0.95, resamples: int | None = None
) -> Difference:
    """Compare two systems on the same queries: per-query values ``a`` and ``b``, both (B,), in the same order.

    Raises ValueError when the shapes differ or there are no queries.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"paired values have shapes {a.shape} and {b.shape}; expected two equal non-empty vectors")
    means = bootstrap_means((a - b)[:, None], seed=seed, resamples=resamples)[:, 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(np.mean(a - b)), float(low), float(high), float(np.mean(means <= 0)))
