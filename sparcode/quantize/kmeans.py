"""The one k-means of the project: k-means++ seeding, Lloyd iterations, empty clusters re-seeded.

Distances are taken in blocks of rows that stay in the cache (``exact``), so memory does not grow with the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.jit import exact
from sparcode.quantize import exact as exact_words
from sparcode.quantize.seeds import greedy_plus_plus
from sparcode.seeding import generator

SEEDING_ROWS_PER_CLUSTER = 8


@dataclass(frozen=True)
class KMeans:
    """A clustering: ``centroids`` (k, d) float32, ``assignment`` (rows,) int32, ``inertia`` summed squared distance."""

    centroids: np.ndarray
    assignment: np.ndarray
    inertia: float


def kmeans(
    vectors: np.ndarray,
    clusters: int,
    *,
    seed: int,
    iterations: int = 25,
    tolerance: float = 1e-4,
    trials: int = 1,
    initial: np.ndarray | None = None,
) -> KMeans:
    """Cluster ``vectors`` (rows, d) into ``clusters`` groups; the same arguments give the same result.

    Stops when the inertia improves by less than ``tolerance`` (relative). With fewer distinct rows than clusters
    some centroids coincide and the later ones stay empty. Seeding: Arthur and Vassilvitskii 2007, on a random
    part of at most ``SEEDING_ROWS_PER_CLUSTER * clusters`` rows; with ``trials`` above 1 the best of so many rows drawn
    each time, see ``greedy_trials``; none with ``initial`` centroids. Raises ValueError on empty or non-finite input.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) == 0 or clusters < 1:
        raise ValueError(f"k-means needs a non-empty matrix and clusters >= 1, got {vectors.shape} and {clusters}")
    if not np.isfinite(vectors).all():
        raise ValueError("k-means got NaN or infinite values")
    centroids = _seeds(vectors, clusters, seed, trials) if initial is None else initial
    assignment, distances = nearest(vectors, centroids)
    inertia = float(distances.sum(dtype=np.float64))
    for _ in range(iterations):
        moved = _means(vectors, assignment, distances, centroids)
        new_assignment, distances = nearest(vectors, moved)
        new_inertia = float(distances.sum(dtype=np.float64))
        if new_inertia > inertia:  # re-seeding of empty clusters and rounding may lose a little at the very end
            break
        settled = inertia - new_inertia <= tolerance * inertia
        centroids, assignment, inertia = moved, new_assignment, new_inertia
        if settled:
            break
    return KMeans(centroids, assignment, inertia)


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the nearest centroid (int32; ties to the smaller) and its squared distance (float32).

    Distances are compared in float64; a row's answer does not depend on the other rows.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    assignment, distances = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
    exact_words.nearest(vectors, centroids, assignment, distances)
    return assignment, distances


def sampled(vectors: np.ndarray, rows: int, *purpose: str | int, seed: int) -> np.ndarray:
    """Return at most ``rows`` rows of ``vectors``, drawn without replacement, in their order."""
    if len(vectors) <= rows:
        return vectors
    return vectors[np.sort(generator(seed, *purpose).choice(len(vectors), rows, replace=False))]


def greedy_trials(clusters: int) -> int:
    """Return how many rows to try for each seed: 2 + log k as scikit-learn does, fewer where that takes minutes."""
    return 2 + int(np.log(clusters)) if clusters <= 4096 else 2


def _seeds(vectors: np.ndarray, clusters: int, seed: int, trials: int) -> np.ndarray:
    rng = generator(seed, "k-means")
    limit = max(SEEDING_ROWS_PER_CLUSTER * clusters, 4096)
    if len(vectors) > limit:
        vectors = vectors[np.sort(rng.choice(len(vectors), limit, replace=False))]
    if trials > 1:
        chosen = greedy_plus_plus(vectors, rng.random((clusters, trials)))
    else:
        chosen = plus_plus(vectors, clusters, rng.random(clusters))
    return np.ascontiguousarray(vectors[chosen])


@exact
def plus_plus(vectors: np.ndarray, clusters: int, draws: np.ndarray) -> np.ndarray:
    """Choose row numbers by k-means++: each next row with probability proportional to its squared distance.

    ``draws`` (clusters,) uniform numbers in [0, 1). When all distances are zero, rows are drawn uniformly.
    """
    rows, width = vectors.shape
    chosen = np.empty(clusters, np.int64)
    distance = np.full(rows, np.inf)
    chosen[0] = min(int(draws[0] * rows), rows - 1)
    for k in range(1, clusters):
        last = chosen[k - 1]
        total = 0.0
        for r in range(rows):
            gap = np.float32(0.0)
            for j in range(width):
                step = vectors[r, j] - vectors[last, j]
                gap += step * step
            if gap < distance[r]:
                distance[r] = gap
            total += distance[r]
        chosen[k] = min(int(draws[k] * rows), rows - 1)
        if total > 0.0:
            mark = draws[k] * total
            for r in range(rows):
                mark -= distance[r]
                if mark < 0.0 and distance[r] > 0.0:
                    chosen[k] = r
                    break
    return chosen


def _means(vectors: np.ndarray, assignment: np.ndarray, distances: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    sums, counts = sums_by_cluster(vectors, assignment, len(centroids))
    moved = centroids.copy()
    used = counts > 0
    moved[used] = (sums[used] / counts[used, None]).astype(np.float32)
    empty = np.flatnonzero(~used)
    if len(empty):
        # Each empty cluster takes one of the rows that fit worst; rows that fit exactly are left alone.
        worst = np.argsort(-distances, kind="stable")[: len(empty)]
        worst = worst[distances[worst] > 0]
        moved[empty[: len(worst)]] = vectors[worst]
    return moved


@exact
def sums_by_cluster(vectors: np.ndarray, assignment: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum (clusters, d) float64 and the number (clusters,) int64 of rows in each cluster."""
    sums = np.zeros((clusters, vectors.shape[1]))
    counts = np.zeros(clusters, np.int64)
    for r in range(vectors.shape[0]):
        k = assignment[r]
        counts[k] += 1
        for j in range(vectors.shape[1]):
            sums[k, j] += vectors[r, j]
    return sums, counts
