"""Pairs of items that follow each other."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.errors import DataError
from sparcode.seeding import generator
from sparcode.train.item_pairs import NO_PARTNER, Neighbours
from sparcode.types import Sequences


def sequences(*rows: list[int]) -> Sequences:
    """Return histories."""
    indptr = np.cumsum([0, *map(len, rows)])
    return Sequences(indptr, np.array([item for row in rows for item in row], np.int32), np.zeros(0))


def pairs(found: Neighbours) -> list[tuple[int, int]]:
    """Return all pairs in order."""
    anchors = np.repeat(np.arange(len(found.indptr) - 1), np.diff(found.indptr))
    return sorted(zip(anchors.tolist(), found.others.tolist(), strict=True))


def test_neighbours_stay_inside_a_history_and_differ():
    found = Neighbours(sequences([0, 1, 1, 2], [], [3], [2, 4], []), 6, np.ones(6, bool))
    assert pairs(found) == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 4), (4, 2)]


def test_items_outside_the_training_part_are_nobodys_partner():
    usable = np.array([True, False, True, True])
    assert pairs(Neighbours(sequences([0, 1, 2, 3]), 4, usable)) == [(2, 3), (3, 2)]


def test_partners_are_drawn_uniformly_and_absent_ones_marked():
    found = Neighbours(sequences([0, 1], [0, 2], [0, 2], [0, 2]), 4, np.ones(4, bool))
    drawn = found.draw(np.zeros(4000, np.int64), generator(1, "x"))
    assert np.mean(drawn == 2) == pytest.approx(0.75, abs=0.03)
    assert set(drawn.tolist()) == {1, 2}
    assert found.draw(np.array([3, 1]), generator(1, "x")).tolist() == [NO_PARTNER, 0]


@pytest.mark.parametrize("item", [4, -1])
def test_items_without_vector_are_refused(item):
    with pytest.raises(DataError, match=f"hold item {item}, but there are 4 vectors"):
        Neighbours(sequences([0, item]), 4, np.ones(4, bool))
