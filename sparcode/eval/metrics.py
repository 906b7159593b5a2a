"""Ranking metrics on held-out items. A query's targets are a set; results are ranked ids, best first.

With T the targets of a query and R_k its first k results: recall@k = |R_k & T| / |T|; precision@k = |R_k & T| / k;
hit_rate@k = 1 if R_k & T is not empty; ndcg@k = sum over hits at 0-based rank r of 1 / log2(r + 2), divided by the
same sum for the min(k, |T|) best ranks (binary gains, Jarvelin and Kekalainen 2002); mrr = 1 / (r + 1) of the first
hit, 0 when none is in the list. Targets that can never be found (already in the history) stay in |T|.
"""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.types import NO_ITEM


@exact
def relevance(ids: np.ndarray, target_indptr: np.ndarray, targets: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Mark hits (B, K) bool in ranked ``ids`` (B, K); return (B,) int64 numbers of distinct targets."""
    sizes = np.zeros(ids.shape[0], np.int64)
    for row in range(ids.shape[0]):
        start, stop = target_indptr[row], target_indptr[row + 1]
        for place in range(start, stop):
            new = True
            for earlier in range(start, place):
                if targets[earlier] == targets[place]:
                    new = False
                    break
            if not new:
                continue
            sizes[row] += 1
            for rank in range(ids.shape[1]):
                if ids[row, rank] == targets[place]:
                    hits[row, rank] = True
                    break
    return sizes


@exact
def target_ranks(ids: np.ndarray, target_indptr: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (targets,) int64: the 0-based rank of each target in its row of ``ids`` (B, K), -1 when absent."""
    ranks = np.full(len(targets), -1, np.int64)
    for row in range(ids.shape[0]):
        for place in range(target_indptr[row], target_indptr[row + 1]):
            for rank in range(ids.shape[1]):
                if ids[row, rank] == targets[place]:
                    ranks[place] = rank
                    break
    return ranks


def per_query_metrics(
    ids: np.ndarray, target_indptr: np.ndarray, targets: np.ndarray, cutoffs: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return (B,) float64 arrays: recall, ndcg, precision and hit_rate at each cutoff, and mrr over all K places.

    ``ids``: (B, K) int32 padded with -1, K at least the largest cutoff. A query without targets scores 0.
    """
    hits = np.zeros(ids.shape, np.bool_)
    sizes = relevance(ids, target_indptr, targets, hits)
    discount = 1.0 / np.log2(np.arange(ids.shape[1]) + 2.0)
    metrics: dict[str, np.ndarray] = {}
    for k in cutoffs:
        found = hits[:, :k].sum(axis=1)
        metrics[f"recall@{k}"] = found / np.maximum(sizes, 1)
        metrics[f"ndcg@{k}"] = _ndcg(hits[:, :k], discount[:k], sizes)
        metrics[f"precision@{k}"] = found / k
        metrics[f"hit_rate@{k}"] = (found > 0).astype(np.float64)
    first = np.argmax(hits, axis=1)
    metrics["mrr"] = np.where(hits.any(axis=1), 1.0 / (first + 1.0), 0.0)
    return metrics


def coverage(ids: np.ndarray, k: int, item_count: int) -> float:
    """Return the share of the catalogue that appears in the first k results of any query."""
    shown = ids[:, :k]
    return len(np.unique(shown[shown != NO_ITEM])) / max(item_count, 1)


def popularity_bias(ids: np.ndarray, popularity: np.ndarray, k: int) -> float:
    """Return the mean popularity percentile of the items in the first k results, from 0 (rarest) to below 1.

    ``popularity``: (n,) training events of each item. The percentile of an item is the share of training events that
    fall on items less popular than it; places without an item do not count. 0 when nothing is recommended.
    """
    ascending = np.sort(popularity)
    events = np.concatenate(([0], np.cumsum(ascending, dtype=np.int64)))
    percentile = events[np.searchsorted(ascending, popularity, side="left")] / max(int(events[-1]), 1)
    shown = ids[:, :k]
    shown = shown[shown != NO_ITEM]
    return float(percentile[shown].mean()) if len(shown) else 0.0


def overlap(ids: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    """Return (B,) float64: the share of the reference's first k results among the first k of ``ids`` (index recall)."""
    ours, theirs = ids[:, :k], reference[:, :k]
    wanted = theirs != NO_ITEM
    found = (theirs[:, :, None] == ours[:, None, :]).any(axis=2) & wanted
    share: np.ndarray = found.sum(axis=1) / np.maximum(wanted.sum(axis=1), 1)
    return share


def _ndcg(hits: np.ndarray, discount: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    ideal = np.concatenate(([0.0], np.cumsum(discount)))[np.minimum(sizes, len(discount))]
    # One after the other, as the ideal gains are added: the best possible list has exactly 1.
    gains: np.ndarray = np.cumsum(hits * discount, axis=1)[:, -1]
    return np.divide(gains, ideal, out=np.zeros_like(gains), where=ideal > 0)
