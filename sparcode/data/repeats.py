"""Held-out items that a user had before: by default they are not ranked, so each of them is a miss."""

from __future__ import annotations

import numpy as np

from sparcode.types import EvaluationSet
from sparcode.wording import worded

MANY = 0.1
"""Share of repeats among the targets from which on ranking them is advised."""


def count_repeats(held: EvaluationSet) -> int:
    """Return how many targets stand in the history of their own query."""
    items = 1 + max(int(part.max(initial=0)) for part in (held.queries.items, held.target_items))
    rows = np.arange(len(held), dtype=np.int64)
    history = np.repeat(rows, np.diff(held.queries.indptr)) * items + held.queries.items
    targets = np.repeat(rows, np.diff(held.target_indptr)) * items + held.target_items
    return int(np.isin(targets, history).sum())


def repeats_line(repeats: int, targets: int, which: str, remedy: str) -> str:
    """Return the sentence that states repeats: number, share, what it means, and what to do."""
    share = 100 * repeats / max(targets, 1)
    return worded(
        f"{repeats:,} of {targets:,} {which} ({share:.3g} %) are already in the history of their query and count as "
        f"misses; {remedy}"
    )


def training_advice(held: EvaluationSet | None, which: str) -> str | None:
    """Return the advice to train for repeats when many targets of ``which`` part are some; else None."""
    if held is None or not len(held.target_items):
        return None
    repeats, targets = count_repeats(held), len(held.target_items)
    if repeats <= MANY * targets:
        return None
    remedy = "to recommend items again, train with query.include_seen=true (--set query.include_seen=true)"
    return repeats_line(repeats, targets, f"{which} targets", remedy)
