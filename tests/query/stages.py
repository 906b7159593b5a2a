"""Queries answered stage by stage in numpy: what the one compiled call must equal to the last bit."""

from __future__ import annotations

import numpy as np

from sparcode.query.filters import Eligible
from sparcode.query.pipeline import Pipeline
from sparcode.query.state import Candidates, QueryState
from sparcode.types import NO_ITEM, Hits, Queries


def by_stages(
    pipeline: Pipeline, queries: Queries, k: int, depth: int, include_seen: bool, eligible: Eligible | None = None
) -> Hits:
    """Return answers before popularity fills them; ``depth``: R >= k, or 0."""
    eligible = eligible or Eligible.of(pipeline.item_count, None, None)
    state = pipeline.encode(queries)
    few = eligible.at_most(depth) if depth else None
    if few is not None:
        found = all_of(pipeline, state, few, include_seen)
    else:
        masks = {"allow": eligible.allowed, "deny": eligible.denied}
        found = pipeline.search(state, max(k, depth), include_seen=include_seen, **masks)
    if depth:
        return pipeline.rescore(state, found, k)
    ids = np.full((len(queries), k), NO_ITEM, np.int32)
    scores = np.full(ids.shape, -np.inf, np.float32)
    size = min(k, found.ids.shape[1])
    ids[:, :size] = found.ids[:, :size]
    sums = (found.sums[:, :size] * np.float32(pipeline.searcher.scale)).astype(np.float32)
    scores[:, :size] = np.where(ids[:, :size] == NO_ITEM, np.float32(-np.inf), sums)
    return Hits(ids, scores)


def all_of(pipeline: Pipeline, state: QueryState, items: np.ndarray, include_seen: bool) -> Candidates:
    """Return ``items`` as the candidates of every query that reads anything, less its own history."""
    ids = np.full((len(state.queries), len(items)), NO_ITEM, np.int32)
    sums = np.zeros(ids.shape, np.uint32)
    for row in range(len(ids)):
        part = slice(state.indptr[row], state.indptr[row + 1])
        seen = () if include_seen else state.queries.history(row)
        reads = state.known[row] or part.start < part.stop
        own = items[~np.isin(items, seen)] if reads else items[:0]
        ids[row, : len(own)] = own
        sums[row, : len(own)] = pipeline.searcher.sums_of(state.rows[part], state.weights[part], own)
    return Candidates(ids, sums)
