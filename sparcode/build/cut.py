"""How a list is cut: which scored pairs become postings, and what value they carry.

``global-bias`` keeps S + B > 0 and stores S + B (the paper's rule). ``budget`` keeps cut and offset apart: with a
price ``lam`` for memory and ``mu`` for latency the traffic-weighted score kept is greatest when a pair stays iff

    S - zero >= mu + lam / pi_code          pi_code = smoothed traffic of the code, mean 1

A read budget alone needs ``lam = 0``. A storage budget alone leaves ``mu`` free; it is half the single cut of the same
size, because pure memory pricing (mu = 0) makes the lists of busy codes too long to read.

Floors stand before prices: every list keeps its best few, and with an item floor every item stands in so many lists
(``build.coverage``); what they cost is paid first.

``length`` keeps the best L items of every code, whatever they score.

Scoring everything is affordable, holding everything is not: ``Cutter`` has pairs scored under a threshold that a random
sample says will suffice, cuts them by the policy, and has them scored again under a lower one where it did not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sparcode.build.blocks import BlockScoring
from sparcode.build.coverage import Coverage
from sparcode.build.reads import Reads
from sparcode.build.sample import Reservoir, draw, largest, sampled_codes, solve_prices
from sparcode.build.score.candidates import Candidates
from sparcode.build.score.kept import best_first, key_of
from sparcode.build.score.scoring import CodeScorer, ListScorer
from sparcode.build.stored_codes import Stored
from sparcode.config import IndexConfig
from sparcode.errors import BudgetError
from sparcode.jit import exact

LATENCY_SHARE = 0.5
"""mu as a share of the single cut when only storage is limited."""
TRAFFIC_SMOOTHING = 1.0
LONGEST_SHARE = 1 / 16
"""Largest mean list, as a share of the items, when nothing says how much to keep and no bias was trained in."""
MIN_LIST = 4
"""Policy budget: every stored code keeps at least so many postings."""
HEAD_ROOM = 4.0
"""Candidates scored for a budget, as a multiple of what it can keep; the solver needs room to move."""
MOST_CANDIDATES = 1 << 24
"""Policy budget: beyond so many candidates, prices are found on a sample and few more than fit are scored."""
PRICE_ROOM = 1.15
"""Candidates scored at such prices, as a multiple of what fits; doubled when they did not suffice."""
LEAST_USED = 0.98
"""Policy budget: share of what is allowed that is used, as far as there are pairs."""


@dataclass(frozen=True)
class Cut:
    """What a policy decided: ``kept`` (P,) bool over the candidates and ``offset``: stored value = S + offset.

    ``exhausted``: every candidate is kept and the policy wanted more; score again with a lower threshold.
    ``for_items``: postings that only the item floor keeps.
    """

    kept: np.ndarray
    offset: float
    mu: float
    lam: float
    exhausted: bool = False
    for_items: int = 0


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
    lam: float | None = None,
    coverage: Coverage | None = None,
) -> Cut:
    """Solve the two-price rule for at most ``most_postings`` postings and ``most_reads`` postings a query.

    ``traffic`` (C,) training uses of each code; ``reads`` (C,) mean times a validation query reads the code; every
    list keeps its ``floor`` best. ``zero``: score that counts as nothing (the candidates' threshold or minus the
    trained bias). ``lam``: the memory price, when it was found beforehand on a sample. ``coverage``: lists that items
    must stand in. Raises BudgetError when the floors alone are too much.
    """
    values = candidates.values.astype(np.float64) - zero
    codes = candidates.codes
    forced = best_of_each(candidates, floor)
    weight = np.zeros(len(traffic)) if reads is None else np.asarray(reads, np.float64)
    solver = _Solver(values, codes, candidates.items, forced, 1.0 / pi_of(traffic), weight, coverage)
    solver.refuse_if_impossible(most_postings, most_reads)
    if most_postings is not None and lam is not None:
        merit, mu, lam = solver.at_price(lam, most_postings, most_reads)
    elif most_postings is not None and most_reads is None:
        merit, mu, lam = solver.by_storage(most_postings)
    elif most_postings is None and most_reads is not None:
        merit, mu, lam = solver.by_reads(most_reads)
    elif most_postings is not None and most_reads is not None:
        merit, mu, lam = solver.by_both(most_postings, most_reads)
    else:
        raise ValueError("a budget needs most_postings, most_reads or both")
    kept = solver.covered(merit)
    offset = -(zero + _offset(values, merit, kept, forced))
    return Cut(kept, offset, mu + zero, lam, solver.all_of(kept), int(kept.sum() - merit.sum()))


def floor_pairs(candidates: Candidates, floor: int, coverage: Coverage | None) -> np.ndarray:
    """Return (P,) bool what floors alone keep: the ``floor`` best of each code, and what items then still lack."""
    forced = best_of_each(candidates, floor)
    return forced if coverage is None else _covered(forced, candidates.items, candidates.values, coverage)


def _covered(kept: np.ndarray, items: np.ndarray, values: np.ndarray, coverage: Coverage) -> np.ndarray:
    # Highest value, not lowest price: an item that few lists would hold on merit belongs where it says most.
    return kept | coverage.first(values.astype(np.float64), ~kept, coverage.missing(kept, items))


def _offset(values: np.ndarray, merit: np.ndarray, kept: np.ndarray, forced: np.ndarray) -> float:
    # The least value kept on merit, so that stored values stay positive under any prices. Postings that only
    # floors keep may lie below it and get the smallest impact.
    merit = merit & ~forced
    if merit.any():
        return float(values[merit].min())
    return float(values[kept].min()) if kept.any() else 0.0


def best_of_each(candidates: Candidates, floor: int) -> np.ndarray:
    """Return (P,) bool: the ``floor`` best pairs of each code, ties by smaller item."""
    return mark_best(candidates.indptr, candidates.items, candidates.values, floor)


@exact
def mark_best(indptr, items, values, floor):  # type: ignore[no-untyped-def]
    """Return the mask of ``best_of_each``; ``indptr`` (C + 1,), ``items`` and ``values`` (P,)."""
    chosen = np.zeros(values.shape[0], np.bool_)
    for code in range(indptr.shape[0] - 1):
        low, high = indptr[code], indptr[code + 1]
        if high - low <= floor:
            chosen[low:high] = True
        elif floor > 0:
            keys = np.empty(high - low, np.uint64)
            for place in range(low, high):
                keys[place - low] = key_of(values[place], items[place])
            last = best_first(keys, high - low, floor)
            for place in range(low, high):
                chosen[place] = key_of(values[place], items[place]) >= last
    return chosen


class _Solver:
    """The budget problem on flat arrays; keys are values less the memory price, best keys are kept first.

    Its answers are what stays on merit or by the floors of lists; ``covered`` adds what items then lack.
    """

    def __init__(
        self, values: np.ndarray, codes: np.ndarray, items: np.ndarray, forced: np.ndarray, price: np.ndarray,
        reads: np.ndarray, coverage: Coverage | None,
    ) -> None:  # fmt: skip
        self.values, self.items, self.forced, self.coverage = values, items, forced, coverage
        self.codes, self.reads, self.price = codes, reads, price
        self.merit = np.where(forced, np.inf, values)  # what the floor keeps comes first at any price
        self.open = np.ones(len(values), bool) if coverage is None else ~coverage.reserve
        self.least = self.covered(forced)

    @property
    def cost(self) -> np.ndarray:
        """(P,) float64 reads of each pair by a query."""
        return np.asarray(self.reads[self.codes])

    def covered(self, kept: np.ndarray) -> np.ndarray:
        """Return ``kept`` (P,) bool and the pairs of highest value of items that lack lists."""
        return kept if self.coverage is None else _covered(kept, self.items, self.values, self.coverage)

    def all_of(self, kept: np.ndarray) -> bool:
        """Return whether all pairs are kept that may be kept on merit."""
        return bool(kept[self.open].all())

    def spent(self, kept: np.ndarray) -> float:
        """Return the postings a query reads of the kept pairs (P,) bool."""
        return float(np.bincount(self.codes[kept], minlength=len(self.reads)) @ self.reads)

    def refuse_if_impossible(self, most_postings: int | None, most_reads: float | None) -> None:
        least, least_reads = int(self.least.sum()), self.spent(self.least)
        if most_postings is not None and most_postings < least:
            raise BudgetError(f"budget of {most_postings} postings found, the shortest lists need {least} postings")
        if most_reads is not None and most_reads < least_reads:
            raise BudgetError(
                f"budget of {most_reads:g} postings a query found, the shortest lists need {least_reads:.6g} a query"
            )

    def best(self, lam: float, count: int) -> tuple[np.ndarray, float]:
        """Keep the floors and, by key, as many others as make ``count``; return the mask and the last key kept."""
        keys = self.merit - lam * self.price[self.codes]
        if self.coverage is None:
            return _best(keys, self.open, count)
        # The best pairs of an item, as many as it needs, cost nothing beyond what the needs cost in any case.
        first = self.coverage.first(keys, self.open)
        spare, count = self.open & ~first, count - int(self.coverage.needs.sum())
        if count >= int(spare.sum()):
            return _best(keys, self.open, len(keys))
        kept, last = _best(keys, spare, count)
        return kept | (first & (keys >= last)), last

    def at_price(self, lam: float, count: int, most: float | None) -> tuple[np.ndarray, float, float]:
        kept, last = self.best(lam, count)
        if most is not None and self.spent(self.covered(kept)) > most:
            return self.by_reads(most)
        return kept, last if np.isfinite(last) else 0.0, lam

    def by_storage(self, count: int) -> tuple[np.ndarray, float, float]:
        kept, single = self.best(0.0, count)
        if self.all_of(kept) or not np.isfinite(single) or single <= 0.0:
            return kept, 0.0 if not np.isfinite(single) else single, 0.0
        wanted = LATENCY_SHARE * single
        lam = largest(lambda lam: self.best(lam, count)[1] >= wanted, single)
        kept, last = self.best(lam, count)
        return kept, last, lam

    def by_reads(self, most: float) -> tuple[np.ndarray, float, float]:
        # Without a memory price the best pairs of an item are those of highest value, so floors are known beforehand.
        merit, cost = np.where(self.least, np.inf, self.values), self.cost
        order = np.argsort(-merit, kind="stable")
        order = order[(self.open | self.least)[order]]
        spent = np.cumsum(cost[order])
        fits = int(np.searchsorted(spent, most * (1 + 1e-12), side="right"))
        kept = np.zeros(len(merit), bool)
        kept[order[:fits]] = True
        left = most - (spent[fits - 1] if fits else 0.0)
        for place in order[fits:]:
            # A posting of a busy code may not fit where the next ones do; only near the end, to land within 2 %.
            if left <= 0.02 * most:
                break
            if 0 < cost[place] <= left:
                kept[place] = True
                left -= cost[place]
        free = kept & ~self.least
        last = float(self.values[free].min()) if free.any() else np.inf
        return kept & (self.forced | (self.values >= last)), last if free.any() else 0.0, 0.0

    def by_both(self, count: int, most: float) -> tuple[np.ndarray, float, float]:
        kept, last = self.best(0.0, count)
        if self.spent(self.covered(kept)) > most:
            return self.by_reads(most)
        if self.all_of(kept) or not np.isfinite(last) or last <= 0.0:
            return kept, 0.0 if not np.isfinite(last) else last, 0.0

        def affordable(lam: float) -> bool:
            mask, key = self.best(lam, count)
            return key >= 0.0 and self.spent(self.covered(mask)) <= most

        lam = largest(affordable, last)
        kept, last = self.best(lam, count)
        return kept, last, lam


def _best(keys: np.ndarray, among: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Return the mask of the ``count`` best of the pairs ``among`` (P,) bool, and the last key kept."""
    places = np.flatnonzero(among)
    pool = keys[places]
    if count >= len(pool):
        return among, float(pool.min(initial=0.0))
    kept, last = np.zeros(len(keys), bool), np.inf
    if count > 0:
        last = float(np.partition(pool, len(pool) - count)[len(pool) - count])
        kept = among & (keys > last)
        kept[places[np.flatnonzero(pool == last)[: count - int(kept.sum())]]] = (
            True  # ties in the order of code and item
        )
    return kept, last


def up_to(value: float) -> str:
    """Write a bound with four digits, rounded up, so that the number itself is feasible."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3) if value > 0 else 1.0
    return f"{math.ceil(value / step - 1e-9) * step:.6g}"


@dataclass(frozen=True)
class Cutter:
    """Scores the stored codes of one build and keeps what its policy asks for.

    ``mean_list``: wanted mean length of lists when nothing says how much to keep. ``most_postings``: what a budget of
    bytes leaves for learned postings, None without one. ``needs`` (n,): how many learned lists each item is to be in.
    """

    settings: IndexConfig
    mean_list: int
    scorer: ListScorer
    scoring: BlockScoring
    stored: Stored
    item_count: int
    reads: Reads
    most_postings: int | None
    needs: np.ndarray | None

    def cut(self) -> tuple[Candidates, Cut]:
        """Score under a threshold that surely suffices; where it did not, score again under a lower one."""
        if self.settings.length is not None:
            candidates = self.scoring.candidates(self.stored, float("inf"), self.settings.length)
            return candidates, length_cut(candidates, self._trained_zero)
        share = self._share()
        sample = draw(self.scorer, sampled_codes(self.stored.codes, self.item_count))
        while True:
            threshold = self._threshold(sample, share)
            if self.settings.policy == "budget" and share * self._pairs > MOST_CANDIDATES and np.isfinite(threshold):
                candidates, cut = self._cut_at_prices(threshold)
            else:
                candidates, coverage = self._candidates(threshold, threshold)
                cut = self._apply(candidates, threshold, coverage=coverage)
            if not cut.exhausted or len(candidates.values) == self._pairs or self._trained_zero == threshold:
                return candidates, cut
            share = min(1.0, 4 * share)

    def _cut_at_prices(self, zero: float) -> tuple[Candidates, Cut]:
        """Solve the budget on a sample, score under each code's own threshold, and land on the budget exactly."""
        price, reads = 1.0 / pi_of(self.stored.traffic), self.reads.codes
        postings, wish = self._limits()
        sample = draw(self.scorer, self.stored.codes, zero)
        prices = solve_prices(sample, price, reads, zero, postings, wish, LATENCY_SHARE, self.needs)
        room = PRICE_ROOM
        while True:
            keys = sample.values.astype(np.float64) - prices.lam * price[sample.codes]
            levels = [sample.level(keys, most * room, cost) for most, cost in ((postings, None), (wish, reads)) if most]
            mu = max(zero, *levels)
            thresholds = (mu + prices.lam * price).astype(np.float32)
            candidates, coverage = self._candidates(thresholds, float(thresholds.max()))
            cut = self._apply(candidates, zero, prices.lam, coverage)
            # A posting of a busy code may not fit where those of others would, had they been scored.
            used = float(np.bincount(candidates.codes[cut.kept], minlength=len(reads)) @ reads)
            short = wish is not None and used < LEAST_USED * wish and cut.kept.sum() < LEAST_USED * (postings or np.inf)
            cut = replace(cut, exhausted=bool(cut.exhausted or short))
            if mu <= zero or not cut.exhausted:
                return candidates, cut
            room *= 2

    def _candidates(self, threshold: float | np.ndarray, highest: float) -> tuple[Candidates, Coverage | None]:
        """Return the pairs above ``threshold``, of which ``highest`` is the greatest, and what items need besides."""
        candidates = self.scoring.candidates(self.stored, threshold, self._floor)
        if self.needs is None:
            return candidates, None
        return self.scoring.covered(self.stored, candidates, self.needs, highest)

    def _apply(
        self, candidates: Candidates, threshold: float, lam: float | None = None, coverage: Coverage | None = None
    ) -> Cut:
        if self.settings.policy == "global-bias":
            wanted = self._density
            if wanted is None:
                return bias_cut(candidates, -threshold)
            return density_cut(candidates, round(wanted * self._pairs), self._pairs)
        postings, wish = self._limits()
        zero = threshold if np.isfinite(threshold) else float(candidates.values.min(initial=0.0))
        try:
            return budget_cut(
                candidates, self.stored.traffic, zero=zero, floor=self._floor, reads=self.reads.codes,
                most_postings=postings, most_reads=wish, lam=lam, coverage=coverage,
            )  # fmt: skip
        except BudgetError:
            raise self._too_small(candidates, coverage) from None

    def _too_small(self, candidates: Candidates, coverage: Coverage | None) -> BudgetError:
        needed, reads = floor_pairs(candidates, self._floor, coverage), self.reads.codes
        least = float(np.bincount(candidates.codes[needed], minlength=len(reads)) @ reads) + self.reads.of_others
        floors = "shortest lists" + (" and item_floor" if self.needs is not None else "")
        return BudgetError(
            f"budget of {self.settings.postings_per_query or self.settings.budget_mb:g} found, too small for the "
            f"{floors}; the smallest feasible is {up_to(least)} postings a query"
        )

    def _limits(self) -> tuple[int | None, float | None]:
        """Return the most learned postings, and the most of them a query may read."""
        wish, others = self.settings.postings_per_query, self.reads.of_others
        if wish is not None and wish < others:
            raise BudgetError(
                f"budget of {wish:g} postings a query found, the {' and '.join(reversed(self.reads.lists))} lists "
                f"alone need {up_to(others)}; shorten them (families.item.length or history) or raise the budget"
            )
        return self.most_postings, None if wish is None else wish - others

    def _share(self) -> float:
        """Return the share of pairs worth scoring into candidates; 0 when the threshold is known beforehand."""
        if self.settings.policy == "global-bias":
            wanted = self._density
            return 0.0 if wanted is None else wanted * 1.25 + 1e-4
        limits = []
        if self.most_postings is not None:
            limits.append(self.most_postings / self._pairs)
        if self.settings.postings_per_query is not None:
            each = max(float(self.reads.codes.sum()), 1e-9)
            limits.append(max(self.settings.postings_per_query - self.reads.of_others, 0.0) / each / self.item_count)
        return min(1.0, HEAD_ROOM * min(limits) + 1e-4)

    def _threshold(self, sample: Reservoir, share: float) -> float:
        trained = self._trained_zero
        if self.settings.policy == "global-bias" and share == 0.0:
            return -self.settings.bias if self.settings.bias is not None else float(trained or 0.0)
        most = share * float(sample.weights.sum())
        low = -np.inf if share >= 1.0 else sample.level(sample.values.astype(np.float64), most)
        # Under a budget a trained bias still says what is worth nothing; global-bias with a density overrules it.
        return low if trained is None or self.settings.policy == "global-bias" else max(low, trained)

    @property
    def _pairs(self) -> int:
        return len(self.stored.codes) * self.item_count

    @property
    def _floor(self) -> int:
        # With a trained bias a score of zero means nothing, and no list is filled up with nothing.
        return MIN_LIST if self.settings.policy == "budget" and self._trained_bias is None else 0

    @property
    def _trained_bias(self) -> float | None:
        spec = self.scorer.rescorer.spec if isinstance(self.scorer, CodeScorer) else {}
        return None if spec.get("bias") is None else float(spec["bias"])

    @property
    def _trained_zero(self) -> float | None:
        return None if self._trained_bias is None else -self._trained_bias

    @property
    def _density(self) -> float | None:
        """The wanted share of pairs under global-bias, None when a bias is given or was trained in."""
        if self.settings.density is not None:
            return self.settings.density / 100
        if self.settings.bias is not None or self._trained_bias is not None:
            return None
        return min(self.mean_list / self.item_count, LONGEST_SHARE)
