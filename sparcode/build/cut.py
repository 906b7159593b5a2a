"""Which pairs of stored codes and items the policy of a build keeps.

Scoring everything is affordable, holding everything is not: pairs are scored under a threshold that a random sample
says will suffice, cut by the policy, and scored again under a lower one where it did not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparcode.build.budget import (
    LATENCY_SHARE,
    Cut,
    bias_cut,
    budget_cut,
    density_cut,
    floor_pairs,
    length_cut,
    pi_of,
    up_to,
)
from sparcode.build.code_blocks import BlockScoring
from sparcode.build.coverage import Coverage
from sparcode.build.reads import Reads
from sparcode.build.sample import Reservoir, draw, sampled_codes, solve_prices
from sparcode.build.score.scoring import CodeScorer, ListScorer
from sparcode.build.shards import Candidates
from sparcode.build.stored_codes import Stored
from sparcode.config import IndexConfig
from sparcode.errors import BudgetError

LONGEST_SHARE = 1 / 16
"""Largest mean list, as a share of the items, when nothing says how much to keep and no bias was trained in."""
MIN_LIST = 4
"""Policy budget: every stored code keeps at least so many postings."""
HEAD_ROOM = 4.0
"""Candidates scored for a budget, as a multiple of what it can keep; the solver needs room to move."""
MOST_CANDIDATES = 1 << 24
"""Policy budget: beyond so many candidates, prices are found on a sample and few more than fit are scored."""
PRICE_SLACK = 1.15
"""Candidates scored at such prices, as a multiple of what fits; doubled when they did not suffice."""
LEAST_USED = 0.98
"""Policy budget: share of what is allowed that is used, as far as there are pairs."""


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
        slack = PRICE_SLACK
        while True:
            keys = sample.values.astype(np.float64) - prices.lam * price[sample.codes]
            levels = [
                sample.level(keys, most * slack, cost) for most, cost in ((postings, None), (wish, reads)) if most
            ]
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
            slack *= 2

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
