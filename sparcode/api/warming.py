"""Queries of every shape, asked once, so that those of users find compiled kernels."""

from __future__ import annotations

import time

import numpy as np

from sparcode.api.snapshot import Snapshot
from sparcode.query.filters import ItemSet
from sparcode.types import Queries

_MANY = 200
"""Queries of a batch that is encoded together."""
_RESULTS = (1, 10, 20, 200)
"""Results that are kept in order while items are collected, by counting, and by sorting."""


def warm(now: Snapshot) -> float:
    """Answer queries of every shape (one, many, without history, filtered, by lists alone, with repeats); return the
    seconds that took: compiling, on a machine that never did it for such a run, else next to nothing."""
    started = time.perf_counter()
    pipeline = now.pipeline
    items = np.arange(min(5, pipeline.item_count), dtype=np.int32)
    width = pipeline.encoder.feature_width
    rows = np.zeros((1, width), np.float32) if width else None
    one = Queries(np.array([0, len(items)], np.int64), items, rows)
    mask = np.ones(pipeline.item_count, bool)
    mask[:1] = False
    every = ItemSet(mask)
    few = ItemSet.from_ids(items[:2], pipeline.item_count)
    for k in _RESULTS:
        for rescore in (None, 0):
            pipeline.retrieve(one, min(k, pipeline.item_count), rescore=rescore)
    for allow, deny in ((few, None), (every, None), (None, few)):
        pipeline.retrieve(one, 1, allow=allow, deny=deny)
    pipeline.retrieve(one, 1, include_seen=True)
    pipeline.retrieve(Queries(np.array([0, 0], np.int64), items[:0], rows), 1)
    many = Queries(
        np.arange(_MANY + 1, dtype=np.int64) * len(items), np.tile(items, _MANY),
        None if rows is None else np.repeat(rows, _MANY, axis=0),
    )  # fmt: skip
    pipeline.retrieve(many, 1)
    return time.perf_counter() - started
