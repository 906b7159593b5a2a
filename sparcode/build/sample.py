"""A weighted sample of scored pairs: thresholds and prices are found on it before the job scores all pairs.

Ids ascend by popularity and the pairs worth storing crowd among the popular items, so items are sampled by octaves of
rank: the first ones all, then as many of each octave, in runs spread evenly. A pair stands for as many as its octave
has items for each one sampled. Nothing here is random, and a pair's weight depends on its item alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sparcode.build.coverage import coverage_of
from sparcode.build.score.candidates import collect, unshifted
from sparcode.build.score.kept import KeptPairs
from sparcode.build.score.scoring import ListScorer
from sparcode.seeding import generator

HEAD_ITEMS = 8192
"""Most popular items, all of which are in the sample."""
OCTAVE_RUNS, RUN_LENGTH = 24, 16
"""Runs of consecutive items sampled from each octave behind them, and their length."""
CODES_AT_ONCE = 4096
SAMPLE_PAIRS = 1 << 22
STEPS_UP, STEPS_BETWEEN = 60, 24


class Reservoir(NamedTuple):
    """Sampled pairs above a threshold: ``codes`` (X,) i32, ``values`` (X,) f32, ``weights`` (X,) f64, pairs each is.

    ``items`` (X,) i32: all pairs above the threshold of an item are in the sample, or none.
    """

    codes: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    items: np.ndarray

    def level(
        self, keys: np.ndarray, most: float, cost: np.ndarray | None = None, among: np.ndarray | None = None
    ) -> float:
        """Return the least key (X,) f64 that the best keys of a total cost of ``most`` have; -inf when all fit.

        ``cost`` (C,) of one pair of each code; absent: 1. ``among`` (X,) bool: pairs that cost anything; absent: all.
        """
        spent = self.weights if cost is None else self.weights * cost[self.codes]
        spent = spent if among is None else spent * among
        order = np.argsort(-keys, kind="stable")
        total = np.cumsum(spent[order])
        place = int(np.searchsorted(total, most, side="left"))
        return float(keys[order[place]]) if place < len(order) else -np.inf


class Prices(NamedTuple):
    """A pair of value v is kept iff v >= ``mu`` + ``lam`` / pi(code)."""

    mu: float
    lam: float


def sampled_ranges(item_count: int) -> list[tuple[int, int, float]]:
    """Return (start, stop, weight) of the sampled runs of items; all items, each once, when they are few."""
    ranges = [(0, min(HEAD_ITEMS, item_count), 1.0)]
    low, wanted = HEAD_ITEMS, OCTAVE_RUNS * RUN_LENGTH
    while low < item_count:
        high = min(2 * low, item_count)
        if high - low <= wanted:
            ranges.append((low, high, 1.0))
        else:
            starts = np.linspace(low, high - RUN_LENGTH, OCTAVE_RUNS).astype(int).tolist()
            ranges += [(start, start + RUN_LENGTH, (high - low) / wanted) for start in starts]
        low = high
    return ranges


def sampled_codes(codes: np.ndarray, item_count: int) -> np.ndarray:
    """Return a fixed random choice of codes (C, M): all when they and the items are few."""
    most = max(1, min(512, SAMPLE_PAIRS // item_count if item_count <= 8192 else 512))
    if len(codes) <= most:
        return codes
    return codes[np.sort(generator(0, "threshold sample").choice(len(codes), most, replace=False))]


def draw(scorer: ListScorer, codes: np.ndarray, threshold: float = -np.inf) -> Reservoir:
    """Return the sampled pairs of codes (C, M) with a value above ``threshold``."""
    parts = [
        _draw(scorer, codes[low : low + CODES_AT_ONCE], low, threshold) for low in range(0, len(codes), CODES_AT_ONCE)
    ]
    return Reservoir(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _draw(scorer: ListScorer, codes: np.ndarray, first: int, threshold: float) -> Reservoir:
    plan = scorer.plan(codes)
    inner, inner_plan, shift = unshifted(scorer, plan, len(codes))
    kept = KeptPairs(np.full(len(codes), threshold, np.float32), 0, shift)
    ranges = sampled_ranges(scorer.item_count)
    for start, stop, _ in ranges:
        collect(inner, inner_plan, start, stop, kept)
    rows, items, values = kept.finish()
    starts, weights = np.array([start for start, _, _ in ranges]), np.array([weight for _, _, weight in ranges])
    return Reservoir(rows + np.int32(first), values, weights[np.searchsorted(starts, items, side="right") - 1], items)


def solve_prices(
    sample: Reservoir,
    price: np.ndarray,
    reads: np.ndarray,
    zero: float,
    most_postings: float | None,
    most_reads: float | None,
    latency_share: float,
    needs: np.ndarray | None = None,
) -> Prices:
    """Return the prices at which the pairs worth keeping cost what is allowed; see ``build.cut``.

    ``price`` (C,) = 1 / pi of each code, ``reads`` (C,) reads of it by a query; values count from ``zero``. ``needs``
    (n,) lists each item must be in: paid first, and exactly; what its pairs read is known of sampled items alone.
    """
    values, pair_price = sample.values.astype(np.float64) - zero, price[sample.codes]
    room = (most_postings or 0.0) - (0.0 if needs is None else float(needs.sum()))
    needed = _needed(sample, needs)

    def cut(lam: float) -> float:
        keys = values - lam * pair_price
        return sample.level(keys, room, among=~needed(keys))

    def spent(lam: float) -> float:
        keys = values - lam * pair_price
        kept = (keys >= cut(lam)) | needed(keys)
        return float((sample.weights * reads[sample.codes])[kept].sum())

    if most_postings is None or (most_reads is not None and spent(0.0) > most_reads):
        first = needed(values)
        left = (most_reads or 0.0) - float((sample.weights * reads[sample.codes])[first].sum())
        return Prices(_above(sample.level(values, left, reads, ~first), zero), 0.0)
    single = cut(0.0)
    if not single > 0.0:
        return Prices(_above(single, zero), 0.0)
    if most_reads is None:
        lam = largest(lambda lam: cut(lam) >= latency_share * single, single)
    else:
        lam = largest(lambda lam: cut(lam) >= 0.0 and spent(lam) <= most_reads, single)
    return Prices(_above(cut(lam), zero), lam)


def _needed(sample: Reservoir, needs: np.ndarray | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function keys (X,) f64 -> (X,) bool: the best pairs of each item, as many as it needs."""
    if needs is None:
        return lambda keys: np.zeros(len(keys), bool)
    coverage, every = coverage_of(sample.items, needs), np.ones(len(sample.items), bool)
    return lambda keys: coverage.first(keys, every)


def _above(level: float, zero: float) -> float:
    return zero + max(level, 0.0)


def largest(holds: Callable[[float], Any], start: float) -> float:
    """Return the largest price for which ``holds`` (true at 0, then false for good), by bisection from ``start``."""
    low, high = 0.0, start
    for _ in range(STEPS_UP):
        if not holds(high):
            break
        low, high = high, high * 2
    for _ in range(STEPS_BETWEEN):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
