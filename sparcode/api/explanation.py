"""Why an item is recommended to somebody, or why it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.api.snapshot import Snapshot
from sparcode.query.filters import Eligible, ItemSet
from sparcode.types import Queries

RANKED = 1000
"""Places by exact score that are told; an item behind them has none."""


def explanation(
    now: Snapshot, queries: Queries, internal: int, repeats: bool, allow: ItemSet | None, deny: ItemSet | None
) -> dict[str, Any]:
    """Return the document of ``SparCode.explain`` for the first query and an internal item id."""
    explained = now.pipeline.explain(queries, internal)
    seen = bool((queries.items == internal).any())
    # An item of the history has a place among all items only: among those that are recommended it has none.
    ranking = now.pipeline.retrieve_exhaustive(
        queries, min(RANKED, now.pipeline.item_count), include_seen=repeats or seen
    )
    found = np.flatnonzero(ranking.ids[0] == internal)
    filtered = not Eligible(now.pipeline.item_count, allow, deny).hold(np.array([internal]))[0]
    excluded = "filtered" if filtered else "seen" if seen and not repeats else None
    return {
        "item_id": now.external(np.array([internal]))[0],
        "title": now.title(internal),
        "seen": seen,
        "eligible": excluded is None,
        "excluded_because": excluded,
        "exhaustive_rank": int(found[0]) if len(found) else None,
        **explained,
        "lists": [_with_name(now, part) for part in explained["lists"]],
    }


def _with_name(now: Snapshot, part: dict[str, Any]) -> dict[str, Any]:
    """Add the name of what a list belongs to: the item of the history, or the category of items or users."""
    if part["family"] == "item":
        internal = int(part["code"])
        return part | {"item_id": now.external(np.array([internal]))[0], "title": now.title(internal)}
    described = {"category": now.dataset.item_features, "segment": now.dataset.user_features}
    features = described.get(part["family"])
    return part if features is None else part | {"word": features.vocabulary[int(part["code"])]}
