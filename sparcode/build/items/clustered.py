"""Best neighbours in a large catalogue: every source looks into the clusters of targets that suit it best.

Comparing all pairs of a million items takes hours; the best inner products of a source lie in a few clusters of the
targets. Clusters are visited one at a time, each a matrix product of the sources that look into it with its targets,
and a running list of every source takes what is better than its last. This is the inverted file (IVF) of vector search
with the loops exchanged, so that everything stays a large matrix product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.jit import exact
from sparcode.quantize.kmeans import kmeans, nearest
from sparcode.seeding import generator

PROBES = 32
"""Clusters a source looks into: 99 % of its best 60 on trained vectors of 100,000 items."""
ITEMS_A_CLUSTER = 400
_FITTED = 40
"""Targets a cluster that fit the centroids."""
_BLOCK = 1 << 22
_ROUNDS = 8


class Clusters(NamedTuple):
    """``centroids`` (G, d) float32; ``members`` (n,) int32 target ids by cluster; ``starts`` (G + 1,) int64."""

    centroids: np.ndarray
    members: np.ndarray
    starts: np.ndarray


def cluster(targets: np.ndarray, seed: int = 0) -> Clusters:
    """Cluster targets (n, d) into about n / ITEMS_A_CLUSTER groups."""
    groups = max(1, len(targets) // ITEMS_A_CLUSTER)
    rng = generator(seed, "clusters of targets")
    most = min(len(targets), _FITTED * groups)
    chosen = np.sort(rng.choice(len(targets), most, replace=False))
    centroids = kmeans(targets[chosen], groups, seed=seed, iterations=_ROUNDS).centroids
    owner = nearest(targets, centroids)[0]
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=groups))]).astype(np.int64)
    return Clusters(centroids, np.argsort(owner, kind="stable").astype(np.int32), starts)


def clustered_neighbours(
    sources: np.ndarray, targets: np.ndarray, keep: int, probes: int = PROBES, seed: int = 0, *, own: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (n, keep) int32, scores float32 of nearly the best targets of every source; itself only if ``own``.

    ``sources``, ``targets``: (n, d) float32, score = source . target, row i of both the same item. Best first, ties by
    the smaller id; a place for which nothing was found holds id -1 and score -inf.
    """
    made = cluster(targets, seed)
    count = len(sources)
    ids = np.full((count, keep), -1, np.int32)
    scores = np.full((count, keep), -np.inf, np.float32)
    least = np.zeros(count, np.int32)
    visits, bounds = _visits(sources, made, min(probes, len(made.centroids)))
    for group in range(len(made.centroids)):
        members = made.members[made.starts[group] : made.starts[group + 1]]
        vectors = np.ascontiguousarray(targets[members].T)
        rows = max(1, _BLOCK // max(len(members), 1))
        for low in range(bounds[group], bounds[group + 1], rows):
            who = visits[low : min(low + rows, bounds[group + 1])]
            keep_better(who, members, sources[who] @ vectors, own, ids, scores, least)
    sort_rows(ids, scores)
    return ids, scores


def _visits(sources: np.ndarray, made: Clusters, probes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sources that look into each cluster: (n * probes,) int32 by cluster, and where each begins."""
    groups = len(made.centroids)
    wanted = np.empty((len(sources), probes), np.int32)
    rows = max(1, _BLOCK // groups)
    for low in range(0, len(sources), rows):
        near = sources[low : low + rows] @ made.centroids.T
        wanted[low : low + rows] = np.argpartition(-near, probes - 1, axis=1)[:, :probes]
    order = np.argsort(wanted.reshape(-1), kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(wanted.reshape(-1), minlength=groups))]).astype(np.int64)
    return (order // probes).astype(np.int32), bounds


@exact
def keep_better(
    who: np.ndarray, members: np.ndarray, found: np.ndarray, own: bool, ids: np.ndarray, scores: np.ndarray,
    least: np.ndarray,
) -> None:  # fmt: skip
    """Put ``found`` (rows, members) into the lists of the sources ``who``; ``least``: where a list's worst stands.

    Of equal scores the smaller id is better, so that the order of visits does not matter.
    """
    for row in range(len(who)):
        source = who[row]
        place = least[source]
        worst, worst_id = scores[source, place], ids[source, place]
        for column in range(len(members)):
            score = found[row, column]
            if score < worst:
                continue
            item = members[column]
            if (item == source and not own) or (score == worst and (worst_id >= 0 and item > worst_id)):
                continue
            ids[source, place] = item
            scores[source, place] = score
            for other in range(ids.shape[1]):
                lower = scores[source, other] < scores[source, place]
                tied = scores[source, other] == scores[source, place] and ids[source, other] > ids[source, place]
                if lower or tied:
                    place = other
            worst, worst_id = scores[source, place], ids[source, place]
        least[source] = place


@exact
def sort_rows(ids: np.ndarray, scores: np.ndarray) -> None:
    """Order every row by falling score, ties by the smaller id; empty places last."""
    for row in range(len(ids)):
        for place in range(1, ids.shape[1]):
            item, score = ids[row, place], scores[row, place]
            before = place
            while before > 0 and (
                scores[row, before - 1] < score
                or (scores[row, before - 1] == score and 0 <= item < ids[row, before - 1])
            ):
                ids[row, before], scores[row, before] = ids[row, before - 1], scores[row, before - 1]
                before -= 1
            ids[row, before], scores[row, before] = item, score
