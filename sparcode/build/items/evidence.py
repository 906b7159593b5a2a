"""What a run knows of item -> item, and the settings by which posting lists are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.build.items.lists import (
    Neighbours,
    best_neighbours,
    lists_of,
    merge_lists,
    rows_of,
    spread,
    weigh_items,
    weigh_own,
    with_repeats,
)
from sparcode.build.items.transitions import Transitions
from sparcode.config import ItemFamilyConfig
from sparcode.query.encoder.additive import AdditiveEncoder
from sparcode.query.model_checks import read_lists
from sparcode.spec_values import count_of, finite
from sparcode.types import Sequences

LONGEST = 60
"""Learned postings an item that are scored when validation chooses how many to keep."""


@dataclass(frozen=True)
class ListSettings:
    """What item lists are made of. ``decay``: query weights decay^age, None = the additive model's own.

    ``own_weight``: factor of the value by which a list holds its own item, where repeats are ranked. ``new_gain``:
    factor of items without training events. No count speaks for them, so beside counted items they rank low; validation
    cannot choose it, because it hardly ever asks for them.
    """

    length: int = 40
    cut: float = 1.0
    counted_weight: float = 4.0
    decay: float | None = None
    own_weight: float = 1.0
    new_gain: float = 1.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ListSettings:
        """Read what ``to_json`` wrote; ValueError or TypeError names a bad value or key."""
        settings = cls(**values)
        count_of(values, "length", 0)
        for name in ("cut", "counted_weight", "own_weight", "new_gain"):
            finite(getattr(settings, name), 0.0, 1e6)
        if settings.decay is not None:
            finite(settings.decay, 0.0, 1.0)
        return settings

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class ItemEvidence:
    """What a run knows of item -> item: ``neighbours`` and ``age_weights`` of the additive model, ``counted`` lists.

    ``own``: neighbours and counts say of an item too how well it follows itself. ``new`` (n,) bool: items without
    training events, if there are any.
    """

    neighbours: Neighbours | None
    age_weights: np.ndarray | None
    counted: Transitions | None
    own: bool = False
    new: np.ndarray | None = None

    def lists(self, settings: ListSettings, only: np.ndarray | None = None) -> Transitions:
        """Return the merged lists; ``only``: ascending items whose lists are wanted, those of all others are empty."""
        near, counted = self.neighbours, self.counted
        if only is not None:
            near = None if near is None else Neighbours(near.items[only], near.scores[only])
            counted = None if counted is None else rows_of(counted, only)
        parts: list[tuple[float, Transitions]] = []
        if near is not None:
            parts.append((1.0, lists_of(near, settings.length, settings.cut)))
        if counted is not None:
            parts.append((1.0 if near is None else settings.counted_weight, counted))
        if only is None:
            lists = merge_lists(parts)
        else:
            lists = spread(merge_lists(parts, self.item_count), only, self.item_count)
        lists = weigh_own(lists, settings.own_weight)
        return lists if self.new is None else weigh_items(lists, self.new, settings.new_gain)

    @property
    def item_count(self) -> int:
        """Items there is evidence about."""
        return len(self.neighbours.items) if self.neighbours is not None else len(self.counted.indptr) - 1  # type: ignore[union-attr]

    def weights(self, settings: ListSettings, history: int) -> np.ndarray:
        """Return the query weights (<= history,) of ages 0, 1, ..., the largest one 1."""
        if settings.decay is not None or self.age_weights is None:
            return np.asarray((0.7 if settings.decay is None else settings.decay) ** np.arange(history))
        own = np.asarray(self.age_weights[:history], np.float64)
        return own / own.max()


def fixed_settings(evidence: ItemEvidence, config: ItemFamilyConfig) -> ListSettings:
    """Return the settings of a run without validation: what the configuration says, else the usual values."""
    usual = ListSettings()
    return ListSettings(
        config.additive_length or usual.length,
        usual.cut if config.additive_cut is None else config.additive_cut,
        usual.counted_weight if config.counted_weight is None else config.counted_weight,
        None if evidence.age_weights is not None else config.decay,
        new_gain=config.new_gain,
    )


def open_evidence(model: Path, config: ItemFamilyConfig, repeats: Sequences | None = None) -> ItemEvidence | None:
    """Read the parts of the item family a configuration asks for; None when it asks for none or the run has none.

    ``repeats``: the training sequences, where items of the history are ranked too; an item can come back by its own
    list alone, so lists then hold their own item, by the model's score and by the repeats that are counted here.
    """
    own, counted, neighbours, age_weights = repeats is not None, None, None, None
    path = model / "transitions.safetensors"
    if config.enabled and config.counted and path.exists():
        counted = Transitions(**{name: np.array(array) for name, array in read_lists(path).items()})
        if repeats is not None:
            counted = with_repeats(counted, repeats, config)
    if config.enabled and config.additive and (model / "additive.json").exists():
        encoder = AdditiveEncoder.open(model)
        age_weights = np.array(encoder.age_weights)
        longest = max(config.additive_length or 0, LONGEST)
        neighbours = best_neighbours(encoder.sources, encoder.targets, encoder.temperature, longest, own=own)
    if counted is None and neighbours is None:
        return None
    return ItemEvidence(neighbours, age_weights, counted, own)
