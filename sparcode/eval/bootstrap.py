"""Bootstrap intervals of means over queries (Efron's percentile interval), seeded.

Queries of one user (the prefixes of a session) are not independent, so users are resampled, each with all its queries
(cluster bootstrap); the mean stays the mean over queries. Where every user asks once that is the plain bootstrap.

Resampling B units with replacement gives each a multinomial count. Units with equal values are interchangeable, so
counts are drawn for *distinct* rows of values: the same distribution, and with one held-out item a query there are few
distinct rows. With many distinct rows fewer resamples are drawn.
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
    """Mean of a - b over the same queries, its interval over users, the share of resamples with a mean of 0 or less."""

    difference: float
    low: float
    high: float
    share_not_above: float


def bootstrap_means(
    values: np.ndarray, *, seed: int, resamples: int | None = None, users: np.ndarray | None = None
) -> np.ndarray:
    """Return (resamples, m) means of resampled rows of ``values`` (B, m), B at least 1.

    ``users``: (B,) who asked each query; rows of one user are drawn together, and a mean is over the rows drawn.
    Absent: every row by itself. ``resamples`` is 10,000 when absent, or 2,000 where more than 2,000 units differ.
    """
    sums, sizes = _by_user(values, users)
    distinct, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    if resamples is None:
        resamples = RESAMPLES if len(distinct) <= _MANY else MANY_RESAMPLES
    random = generator(seed, "bootstrap")
    total = len(sums)
    step = max(1, _CHUNK // len(distinct))
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = random.multinomial(total, counts / total, size=size) @ distinct
        means[start : start + size] = drawn[:, :-1] / drawn[:, -1:]
    return means


def percentile_intervals(
    metrics: dict[str, np.ndarray],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int | None = None,
    users: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Return the interval of the mean of each per-query array (B,); all metrics share the same resamples.

    ``users``: as of ``bootstrap_means``.
    """
    if not metrics or not len(next(iter(metrics.values()))):
        return {}
    means = bootstrap_means(np.column_stack(list(metrics.values())), seed=seed, resamples=resamples, users=users)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: Interval(float(low[i]), float(high[i])) for i, name in enumerate(metrics)}


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int | None = None,
    users: np.ndarray | None = None,
) -> Difference:
    """Compare two systems on the same queries: per-query values ``a`` and ``b``, both (B,), in the same order.

    ``users``: as of ``bootstrap_means``. Raises ValueError when the shapes differ or there are no queries.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"paired values have shapes {a.shape} and {b.shape}; expected two equal non-empty vectors")
    means = bootstrap_means((a - b)[:, None], seed=seed, resamples=resamples, users=users)[:, 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(np.mean(a - b)), float(low), float(high), float(np.mean(means <= 0)))


def _by_user(values: np.ndarray, users: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of the rows of every user (U, m), and how many rows each has (U,)."""
    if users is None:
        return values, np.ones(len(values))
    if len(users) != len(values):
        raise ValueError(f"{len(users)} users and {len(values)} rows of values; expected one user a row")
    place, sizes = np.unique(users, return_inverse=True, return_counts=True)[1:]
    if sizes.max() == 1:
        return values, np.ones(len(values))
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, place.reshape(-1), values)
    return sums, sizes.astype(np.float64)
