"""Items that follow each other in histories, as pairs for InfoNCE."""

from __future__ import annotations

import numpy as np

from sparcode.errors import DataError
from sparcode.types import Sequences

NO_PARTNER = -1


class Neighbours:
    """For each of n items the items right before and after it in histories, one entry an occurrence."""

    def __init__(self, sequences: Sequences, items: int, usable: np.ndarray) -> None:
        """Keep pairs of different items that are both ``usable`` (items,) bool; DataError for ids out of range."""
        first, second = _steps(sequences, items)
        keep = (first != second) & usable[first] & usable[second]
        anchors = np.concatenate([first[keep], second[keep]])
        order = np.argsort(anchors, kind="stable")
        self.others = np.concatenate([second[keep], first[keep]])[order]
        self.indptr = np.concatenate([[0], np.bincount(anchors, minlength=items).cumsum()])

    def __len__(self) -> int:
        return len(self.others)

    def draw(self, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one partner (B,) int64 for each anchor (B,), ``NO_PARTNER`` where it has none."""
        low, count = self.indptr[anchors], np.diff(self.indptr)[anchors]
        places = low + np.floor(rng.random(len(anchors)) * count).astype(np.int64)
        partners = np.full(len(anchors), NO_PARTNER, np.int64)
        partners[count > 0] = self.others[places[count > 0]]
        return partners


def _steps(sequences: Sequences, items: int) -> tuple[np.ndarray, np.ndarray]:
    events = np.asarray(sequences.items, np.int64)
    outside = events[(events < 0) | (events >= items)]
    if len(outside):
        message = "row i of the vectors must be item i of the histories"
        raise DataError(f"histories hold item {outside[0]}, but there are {items} vectors: {message}")
    inside = np.ones(max(len(events) - 1, 0), bool)
    ends = np.asarray(sequences.indptr, np.int64)[1:-1]
    inside[ends[(ends > 0) & (ends < len(events))] - 1] = False
    return events[:-1][inside], events[1:][inside]
