"""Which rows of a query gave an item how much."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.errors import QueryError
from sparcode.index.layout import Index


def explain(index: Index, rows: np.ndarray, weights: np.ndarray, item: int) -> list[dict[str, Any]]:
    """Return one entry for every row of the query that holds ``item``, the largest contribution first.

    ``rows``, ``weights``: (K,) integers as in a search; ``item``: internal id. An entry holds ``family``, ``row``,
    ``code`` (learned rows: the M codewords as a list; others: the row's number in its family, which for the
    item family is the internal id of the history's item, for ``category`` and ``segment`` the place of the word in the
    vocabulary of items or users), ``weight``, ``impact``, ``contribution`` =
    weight * impact * scale, and ``value``, the impact in the family's own unit. The contributions of all entries
    add up to the cache score. Raises QueryError for a row or item outside the index.
    """
    if not 0 <= item < index.item_count:
        raise QueryError(f"item {item} is outside the index of {index.item_count} items")
    if len(rows) != len(weights):
        raise QueryError(f"{len(rows)} rows beside {len(weights)} weights")
    entries = []
    for row, weight in zip(np.asarray(rows).tolist(), np.asarray(weights).tolist(), strict=True):
        if not 0 <= row < index.row_count:
            raise QueryError(f"row {row} is outside the index of {index.row_count} rows")
        impact = impact_of(index, row, item)
        if impact:
            entries.append(_entry(index, row, weight, impact))
    return sorted(entries, key=lambda entry: -entry["contribution"])


def impact_of(index: Index, row: int, item: int) -> int:
    """Return the impact (1..255) of an item in a posting list, 0 when it is not there; O(log length)."""
    postings = index.postings[int(index.indptr[row]) : int(index.indptr[row + 1])]
    place = int(np.searchsorted(postings, np.uint32(item << 8)))
    if place == len(postings) or int(postings[place]) >> 8 != item:
        return 0
    return int(postings[place]) & 255


def _entry(index: Index, row: int, weight: int, impact: int) -> dict[str, Any]:
    family = index.family_of(row)
    number = row - family.first_row
    coded = family.name == "learned" and len(index.code_table) > 0
    return {
        "family": family.name,
        "row": row,
        "code": index.code_table[number].tolist() if coded else number,
        "weight": weight,
        "impact": impact,
        "contribution": weight * impact * index.scale,
        "value": impact * index.scale * family.multiplier,
    }
