"""k-means against plain loops, and its edge cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.quantize import exact
from sparcode.quantize import kmeans as module
from sparcode.quantize.kmeans import greedy_trials, kmeans, nearest, plus_plus, sums_by_cluster
from sparcode.quantize.seeds import drawn_row, greedy_plus_plus
from sparcode.seeding import generator


def blobs(seed: int = 0, rows: int = 200, groups: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, rows)
    centres = rng.normal(size=(groups, 5)) * 10
    return (centres[group] + rng.normal(size=(rows, 5)) * 0.1).astype(np.float32), group


def test_nearest_equals_loops(monkeypatch):
    monkeypatch.setattr(exact, "PRODUCT_VALUES", 6 * 7)
    rng = np.random.default_rng(1)
    vectors, centroids = rng.normal(size=(30, 4)).astype("f"), rng.normal(size=(6, 4)).astype("f")
    assignment, distances = nearest(vectors, centroids)
    for row, vector in enumerate(vectors):
        gaps = [float(((vector - c) ** 2).sum()) for c in centroids]
        assert assignment[row] == int(np.argmin(gaps))
        assert distances[row] == pytest.approx(min(gaps), rel=1e-5)


def test_ties_go_to_the_smaller_centroid():
    assert nearest(np.zeros((1, 2), "f"), np.array([[1, 0], [0, 1], [-1, 0]], "f"))[0][0] == 0


def test_recovers_separated_groups():
    vectors, group = blobs()
    found = kmeans(vectors, 4, seed=3)
    assert len({(a, b) for a, b in zip(group, found.assignment, strict=True)}) == 4
    assert found.inertia < 0.1 * len(vectors)


@pytest.mark.parametrize("trials", [1, 3])
def test_another_seed_starts_from_other_rows(trials):
    vectors = np.random.default_rng(0).normal(size=(200, 3)).astype("f")
    first, second = (kmeans(vectors, 8, seed=seed, iterations=0, trials=trials).centroids for seed in (0, 1))
    assert not np.array_equal(np.unique(first, axis=0), np.unique(second, axis=0))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_result_is_consistent(seed, clusters):
    vectors = np.random.default_rng(seed).normal(size=(40, 3)).astype("f")
    found = kmeans(vectors, clusters, seed=seed)
    again = kmeans(vectors, clusters, seed=seed)
    assert np.array_equal(found.centroids, again.centroids)
    assert np.array_equal(found.assignment, again.assignment)
    assignment, distances = nearest(vectors, found.centroids)
    assert np.array_equal(assignment, found.assignment)
    assert found.inertia == pytest.approx(float(distances.sum()), rel=1e-5)


def test_more_clusters_than_distinct_rows():
    vectors = np.repeat(np.eye(3, dtype="f"), 4, axis=0)
    found = kmeans(vectors, 5, seed=0)
    assert found.inertia == 0.0
    assert found.centroids.shape == (5, 3)
    assert np.isfinite(found.centroids).all()


def test_empty_clusters_take_the_worst_rows():
    vectors = np.array([[0, 0], [0, 1], [9, 9]], "f")
    centroids = np.array([[0, 0], [50, 50]], "f")
    assignment, distances = nearest(vectors, centroids)
    moved = module._means(vectors, assignment, distances, centroids)
    assert np.array_equal(moved[1], vectors[2])


def test_seeding_uses_a_part_of_many_rows():
    vectors = np.random.default_rng(0).normal(size=(5000, 2)).astype("f")
    found = kmeans(vectors, 2, seed=1, iterations=2)
    assert np.bincount(found.assignment).min() > 0


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(3), np.full((2, 2), np.nan)])
def test_refuses_what_cannot_be_clustered(bad):
    with pytest.raises(ValueError):
        kmeans(bad, 2, seed=0)


def test_kernels_equal_their_python_source():
    vectors, _ = blobs(rows=30)
    draws = np.linspace(0.05, 0.95, 4)
    assert np.array_equal(plus_plus(vectors, 4, draws), plus_plus.py_func(vectors, 4, draws))
    many = generator(0, "draws").random((6, 3))
    assert np.array_equal(greedy_plus_plus(vectors, many), greedy_plus_plus.py_func(vectors, many))
    assert drawn_row(np.array([0, 1.0, 0, 2.0]), 1.5) == drawn_row.py_func(np.array([0, 1.0, 0, 2.0]), 1.5) == 3
    assignment = np.arange(30, dtype=np.int32) % 3
    for fast, slow in zip(
        sums_by_cluster(vectors, assignment, 4), sums_by_cluster.py_func(vectors, assignment, 4), strict=True
    ):
        assert np.allclose(fast, slow)


@pytest.mark.parametrize("world", ["blobs", "cloud", "skewed"])
def test_objective_is_within_one_percent_of_scikit_learn(world):
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(11)
    vectors = {
        "blobs": rng.normal(size=(40, 8))[rng.integers(0, 40, 3000)] * 4 + rng.normal(size=(3000, 8)),
        "cloud": rng.normal(size=(3000, 8)),
        "skewed": rng.lognormal(size=(3000, 8)),
    }[world].astype("f")
    ours, theirs = [], []
    for seed in range(6):
        options = {"iterations": 100, "tolerance": 1e-5, "trials": greedy_trials(32)}
        ours.append(kmeans(vectors, 32, seed=seed, **options).inertia)
        peer = cluster.KMeans(32, n_init=1, random_state=seed, algorithm="lloyd", tol=1e-5)
        theirs.append(peer.fit(vectors).inertia_)
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


def test_sampled_keeps_the_order_and_whole_small_sets():
    vectors = np.arange(20, dtype="f")[:, None]
    assert module.sampled(vectors, 20, "p", seed=0) is vectors
    part = module.sampled(vectors, 5, "p", seed=0)
    assert len(part) == 5
    assert (np.diff(part[:, 0]) > 0).all()


def literal_greedy(vectors: np.ndarray, draws: np.ndarray) -> list[int]:
    """Greedy k-means++ with whole distance tables."""
    gaps = np.square(vectors[:, None].astype(float) - vectors[None].astype(float)).sum(axis=2)
    chosen = [int(draws[0, 0] * len(vectors))]
    for marks in draws[1:]:
        distance = gaps[chosen].min(axis=0)
        tried = [int(np.searchsorted(np.cumsum(distance), mark * distance.sum(), side="right")) for mark in marks]
        left = [np.minimum(distance, gaps[row]).sum() for row in tried]
        chosen.append(tried[int(np.argmin(left))])
    return chosen


def test_greedy_seeding_equals_the_literal_one():
    vectors, _ = blobs(rows=60)
    draws = generator(1, "draws").random((8, 4))
    assert greedy_plus_plus(vectors, draws).tolist() == literal_greedy(vectors, draws)
    assert greedy_plus_plus(np.ones((5, 2), "f"), draws).tolist() == [min(int(d * 5), 4) for d in draws[:, 0]]
