"""Policies: which scored pairs become postings, and what value they carry.

``global-bias`` keeps S + B > 0 and stores S + B (the paper's rule). ``budget`` keeps cut and offset apart: with a
price ``lam`` for memory and ``mu`` for latency the traffic-weighted score kept is greatest when a pair stays iff

    S - zero >= mu + lam / pi_code          pi_code = smoothed traffic of the code, mean 1

A read budget alone needs ``lam = 0``. A storage budget alone leaves ``mu`` free; it is half the single cut of the same
size, because pure memory pricing (mu = 0) makes the lists of busy codes too long to read.

``length`` keeps the best L items of every code, whatever they score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.errors import BudgetError
from sparcode.index.shards import Candidates

LATENCY_SHARE = 0.5
"""mu as a share of the single cut when only storage is limited."""
TRAFFIC_SMOOTHING = 1.0


@dataclass(frozen=True)
class Cut:
    """What a policy decided: ``kept`` (P,) bool over the candidates and ``offset``: stored value = S + offset.

    ``exhausted``: every candidate is kept and the policy wanted more; score again with a lower threshold.
    """

    kept: np.ndarray
    offset: float
    mu: float
    lam: float
    exhausted: bool = False


def bias_cut(candidates: Candidates, bias: float) -> Cut:
    """Keep S + bias > 0."""
    kept = candidates.values > np.float32(-bias)
    return Cut(kept, float(bias), float(-bias), 0.0)


def density_cut(candidates: Candidates, wanted: int, pairs: int) -> Cut:
    """Keep the ``wanted`` best of ``pairs`` scored pairs: B is minus the best score left out, which ties too."""
    values = candidates.values
    if wanted >= pairs:
        lowest = float(values.min(initial=0.0))
        bias = -float(np.nextafter(np.float32(lowest), np.float32(-np.inf)))
        return _exhausted_unless(len(values) == pairs, bias_cut(candidates, bias))
    if len(values) <= wanted:
        return _exhausted_unless(False, bias_cut(candidates, np.inf))
    left_out = np.partition(values, len(values) - wanted - 1)[len(values) - wanted - 1]
    return bias_cut(candidates, -float(left_out))


def _exhausted_unless(whole: bool, cut: Cut) -> Cut:
    return cut if whole else Cut(cut.kept, cut.offset, cut.mu, cut.lam, exhausted=True)


def length_cut(candidates: Candidates, zero: float | None) -> Cut:
    """Keep all candidates, which are the best of every code; with ``zero`` (a trained bias) those above it.

    Without it a value counts from the median, over codes, of the least value kept: what a typical list leaves out is
    worth nothing. Lists that reach lower store the smallest impact there.
    """
    if zero is not None:
        return bias_cut(candidates, -zero)
    filled = np.diff(candidates.indptr) > 0
    least = np.minimum.reduceat(candidates.values, candidates.indptr[:-1][filled]) if filled.any() else np.zeros(1)
    level = float(np.quantile(least, 0.5, method="lower"))
    return Cut(np.ones(len(candidates.values), bool), -level, level, 0.0)


def pi_of(traffic: np.ndarray) -> np.ndarray:
    """Return smoothed code traffic (C,) float64 with mean 1."""
    smoothed = np.asarray(traffic, np.float64) + TRAFFIC_SMOOTHING
    return smoothed / smoothed.mean()


def budget_cut(
    candidates: Candidates,
    traffic: np.ndarray,
    *,
    zero: float,
    floor: int,
    most_postings: int | None = None,
    most_reads: float | None = None,
    reads: np.ndarray | None = None,
) -> Cut:
    """Solve the two-price rule for at most ``most_postings`` postings and ``most_reads`` postings a query.

    ``traffic`` (C,) training uses of each code; ``reads`` (C,) mean times a validation query reads the code; every
    list keeps its ``floor`` best. ``zero``: score that counts as nothing (the candidates' threshold or minus the
    trained bias). Raises BudgetError when the floors alone are too much.
    """
    values = candidates.values.astype(np.float64) - zero
    codes = candidates.codes
    forced = best_of_each(candidates, floor)
    weight = np.zeros(len(traffic)) if reads is None else np.asarray(reads, np.float64)
    solver = _Solver(values, codes, forced, 1.0 / pi_of(traffic), weight)
    solver.refuse_if_impossible(most_postings, most_reads)
    if most_postings is not None and most_reads is None:
        kept, mu, lam = solver.by_storage(most_postings)
    elif most_postings is None and most_reads is not None:
        kept, mu, lam = solver.by_reads(most_reads)
    elif most_postings is not None and most_reads is not None:
        kept, mu, lam = solver.by_both(most_postings, most_reads)
    else:
        raise ValueError("a budget needs most_postings, most_reads or both")
    return Cut(kept, -(zero + _offset(values, kept, forced)), mu + zero, lam, exhausted=bool(kept.all()))


def _offset(values: np.ndarray, kept: np.ndarray, forced: np.ndarray) -> float:
    # The least value kept on merit, so that stored values stay positive under any prices. Postings that only the
    # floor keeps may lie below it and get the smallest impact.
    merit = kept & ~forced
    if merit.any():
        return float(values[merit].min())
    return float(values[kept].min()) if kept.any() else 0.0


def best_of_each(candidates: Candidates, floor: int) -> np.ndarray:
    """Return (P,) bool: the ``floor`` best pairs of each code, ties by smaller item."""
    codes = candidates.codes
    order = np.lexsort((candidates.items, -candidates.values, codes))
    rank = np.arange(len(codes)) - candidates.indptr[codes]
    chosen = np.zeros(len(codes), bool)
    chosen[order] = rank < floor
    return chosen


class _Solver:
    """The budget problem on flat arrays; keys are values less the memory price, best keys are kept first."""

    def __init__(
        self, values: np.ndarray, codes: np.ndarray, forced: np.ndarray, price: np.ndarray, reads: np.ndarray
    ) -> None:
        self.values, self.forced = values, forced
        self.cost = reads[codes]
        self.pair_price = price[codes]
        self.merit = np.where(forced, np.inf, values)  # what the floor keeps comes first at any price

    def refuse_if_impossible(self, most_postings: int | None, most_reads: float | None) -> None:
        least, least_reads = int(self.forced.sum()), float(self.cost[self.forced].sum())
        if most_postings is not None and most_postings < least:
            raise BudgetError(f"budget of {most_postings} postings found, the shortest lists need {least} postings")
        if most_reads is not None and most_reads < least_reads:
            raise BudgetError(
                f"budget of {most_reads:g} postings a query found, the shortest lists need {least_reads:.6g} a query"
            )

    def best(self, lam: float, count: int) -> tuple[np.ndarray, float]:
        """Keep the floors and, by key, as many others as make ``count``; return the mask and the last key kept."""
        keys = self.merit - lam * self.pair_price
        if count >= len(keys):
            return np.ones(len(keys), bool), float(keys.min(initial=0.0))
        kept = np.zeros(len(keys), bool)
        if count > 0:
            last = np.partition(keys, len(keys) - count)[len(keys) - count]
            kept = keys > last
            kept[np.flatnonzero(keys == last)[: count - int(kept.sum())]] = True  # ties in the order of code and item
            return kept, float(last)
        return kept, 0.0

    def by_storage(self, count: int) -> tuple[np.ndarray, float, float]:
        kept, single = self.best(0.0, count)
        if kept.all() or not np.isfinite(single) or single <= 0.0:
            return kept, 0.0 if not np.isfinite(single) else single, 0.0
        wanted = LATENCY_SHARE * single
        lam = self._largest(lambda lam: self.best(lam, count)[1] >= wanted, single)
        kept, last = self.best(lam, count)
        return kept, last, lam

    def by_reads(self, most: float) -> tuple[np.ndarray, float, float]:
        order = np.argsort(-self.merit, kind="stable")
        spent = np.cumsum(self.cost[order])
        fits = int(np.searchsorted(spent, most * (1 + 1e-12), side="right"))
        kept = np.zeros(len(order), bool)
        kept[order[:fits]] = True
        left = most - (spent[fits - 1] if fits else 0.0)
        for place in order[fits:]:
            # A posting of a busy code may not fit where the next ones do; only near the end, to land within 2 %.
            if left <= 0.02 * most:
                break
            if 0 < self.cost[place] <= left:
                kept[place] = True
                left -= self.cost[place]
        merit = kept & ~self.forced
        return kept, float(self.values[merit].min()) if merit.any() else 0.0, 0.0

    def by_both(self, count: int, most: float) -> tuple[np.ndarray, float, float]:
        kept, last = self.best(0.0, count)
        if self.cost[kept].sum() > most:
            return self.by_reads(most)
        if kept.all() or not np.isfinite(last) or last <= 0.0:
            return kept, 0.0 if not np.isfinite(last) else last, 0.0

        def affordable(lam: float) -> bool:
            mask, key = self.best(lam, count)
            return key >= 0.0 and float(self.cost[mask].sum()) <= most

        lam = self._largest(affordable, last)
        kept, last = self.best(lam, count)
        return kept, last, lam

    @staticmethod
    def _largest(holds, start: float) -> float:  # type: ignore[no-untyped-def]
        """Return the largest price for which ``holds`` (true at 0, then false for good), by bisection."""
        low, high = 0.0, start
        for _ in range(60):
            if not holds(high):
                break
            low, high = high, high * 2
        for _ in range(24):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low
