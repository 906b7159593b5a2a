"""Small planted items for tests: clusters in space, and categories that follow them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Items:
    """``vectors`` (n, d) float32 in groups; ``categories``: a path an item."""

    vectors: np.ndarray
    categories: list[str]


def planted(items: int = 400, width: int = 16, groups: int = 30, spread: float = 0.3, seed: int = 0) -> Items:
    """Return items around ``groups`` centres; the category is the group's, two levels deep."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, items)
    vectors = rng.normal(size=(groups, width))[group] + spread * rng.normal(size=(items, width))
    return Items(vectors.astype(np.float32), [f"top {g % 3} > sub {g % 7}" for g in group.tolist()])
