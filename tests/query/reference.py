"""Slow, obvious counterparts of the index kernels, and small random indexes."""

from __future__ import annotations

import numpy as np

from sparcode.index.layout import Family, Index, make_index, pack


def lists_to_index(lists: list[dict[int, int]], item_count: int, families: list[Family] | None = None) -> Index:
    """Build an index from one {item: impact} dictionary a row."""
    indptr = np.cumsum([0, *(len(row) for row in lists)])
    pairs = [pair for row in lists for pair in sorted(row.items())]
    ids = np.array([item for item, _ in pairs], np.int64)
    impacts = np.array([impact for _, impact in pairs], np.int64)
    families = [Family("codes", 0, len(lists))] if families is None else families
    return make_index(indptr, pack(ids, impacts), item_count, 0.5, families)


def random_lists(seed: int, rows: int, item_count: int, longest: int, top: int = 255) -> list[dict[int, int]]:
    """Random posting lists, some empty."""
    random = np.random.default_rng(seed)
    lists = []
    for _ in range(rows):
        length = int(random.integers(0, min(longest, item_count) + 1))
        items = random.choice(item_count, length, replace=False)
        lists.append({int(item): int(random.integers(1, top + 1)) for item in items})
    return lists


def search(lists, rows, weights, k, seen=(), allow=None, deny=None) -> list[tuple[int, int]]:
    """Return [(item, sum)] of one query, best first, smaller id first on ties."""
    sums: dict[int, int] = {}
    for row, weight in zip(rows, weights, strict=True):
        for item, impact in lists[row].items():
            sums[item] = sums.get(item, 0) + int(weight) * impact
    hidden = set(map(int, seen))
    kept = [
        (item, total)
        for item, total in sums.items()
        if item not in hidden and (allow is None or allow[item]) and (deny is None or not deny[item])
    ]
    return sorted(kept, key=lambda pair: (-pair[1], pair[0]))[:k]
