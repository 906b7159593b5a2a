"""How the lists of the ``item`` family are made, chosen on validation: lengths, cut, weight of counts, age weights.

The choice is by NDCG@10 of the item lists alone, read through an index in memory as queries read them. One knob is
moved at a time, in a fixed order, twice; a longer list must be better by ``WORTH`` to be worth its bytes. Items of the
history are ranked when the lists hold their own item, and left out otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sparcode.build.assembly import assemble
from sparcode.build.items.evidence import ItemEvidence, ListSettings, fixed_settings
from sparcode.build.items.lists import COMPARED_ITEMS
from sparcode.build.tuning import CUTOFF, integer_weights, ndcg
from sparcode.config import ItemFamilyConfig
from sparcode.query.families import item_rows
from sparcode.query.search.searcher import Searcher
from sparcode.types import EvaluationSet

_log = logging.getLogger(__name__)

LENGTHS = (20, 40, 60)
"""Learned postings an item; counted ones are merged in, so an index holds up to that many plus ``length``."""
CUTS = (1.0, 0.9, 0.75, 0.5)
COUNTED = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 15.0, 25.0)
"""Weights of a counted value beside a learned one; both are about 1 where evidence is strong."""
OWN = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Factors of a list's own item, which competes with all the others only where repeats are ranked."""
DECAYS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WORTH = 0.002
"""Relative gain of NDCG that longer lists must bring."""


def fit_lists(
    evidence: ItemEvidence, config: ItemFamilyConfig, part: EvaluationSet, item_count: int
) -> tuple[ListSettings, dict[str, Any]]:
    """Return the best settings on the validation queries ``part`` and the figures behind the choice."""
    search = _Search(evidence, config, part, item_count)
    best = fixed_settings(evidence, config)
    for _ in range(2):
        for name, values in _knobs(evidence, config):
            best = search.best(best, name, values)
            _log.info("item lists: %s chosen, validation NDCG@10 %.4f", name.replace("_", " "), search.gain(best))
    figures = {"validation_ndcg@10_item_lists": search.gain(best), "list_settings_tried": len(search.tried)}
    return best, figures


def _knobs(evidence: ItemEvidence, config: ItemFamilyConfig) -> list[tuple[str, Sequence[Any]]]:
    """Return the open settings and what is tried for each, from cheap to dear."""
    knobs: list[tuple[str, Sequence[Any]]] = [("own_weight", OWN)] if evidence.own else []
    own = [] if evidence.age_weights is None else [None]
    both = evidence.neighbours is not None and evidence.counted is not None
    if both and config.counted_weight is None:
        knobs.append(("counted_weight", COUNTED))
    knobs.append(("decay", (*own, *DECAYS)))
    if evidence.neighbours is not None and config.additive_cut is None:
        knobs.append(("cut", CUTS))
    if evidence.neighbours is not None and config.additive_length is None:
        knobs.append(("length", LENGTHS))
    return knobs


class _Search:
    def __init__(self, evidence: ItemEvidence, config: ItemFamilyConfig, part: EvaluationSet, item_count: int) -> None:
        self.evidence, self.config, self.part, self.item_count = evidence, config, part, item_count
        # Of a large catalogue only the lists that these queries read are made, again for every setting.
        self.read = np.unique(part.queries.items) if item_count > COMPARED_ITEMS else None
        self.tried: dict[ListSettings, float] = {}
        self.searcher: tuple[ListSettings, Searcher] | None = None

    def best(self, start: ListSettings, name: str, values: Sequence[Any]) -> ListSettings:
        """Return ``start`` with the best value of one setting; what stands wins a tie, longer lists must pay."""
        best = start if getattr(start, name) in values else replace(start, **{name: values[0]})
        if name == "length":
            best = replace(start, length=values[0])
        for value in values:
            other = replace(start, **{name: value})
            least = 1.0 + WORTH if name == "length" and value > best.length else 1.0
            if self.gain(other) > self.gain(best) * least:
                best = other
        return best

    def gain(self, settings: ListSettings) -> float:
        """Return NDCG@10 of the validation queries by the item lists alone."""
        if settings not in self.tried:
            searcher = self._searcher(replace(settings, decay=None))
            weights = np.array(integer_weights(self.evidence.weights(settings, self.config.history)), np.int32)
            rows, values, indptr = item_rows(self.part.queries, weights, 0)
            seen = (None, None) if self.evidence.own else (self.part.queries.indptr, self.part.queries.items)
            found = searcher.search(
                rows, values, indptr, min(CUTOFF, self.item_count), seen_indptr=seen[0], seen_items=seen[1]
            )
            self.tried[settings] = ndcg(found.ids, self.part)
        return self.tried[settings]

    def _searcher(self, settings: ListSettings) -> Searcher:
        if self.searcher is None or self.searcher[0] != settings:
            index = assemble(self.item_count, None, None, self.evidence.lists(settings, self.read)._asdict(), None)
            self.searcher = settings, Searcher(index)
        return self.searcher[1]
