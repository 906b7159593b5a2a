"""Neighbours through clusters: close to all pairs, repeatable, exact when every cluster is looked into."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.build.items import lists as item_lists
from sparcode.build.items.clustered import cluster, clustered_neighbours
from sparcode.build.items.evidence import ItemEvidence, ListSettings
from sparcode.build.items.lists import best_neighbours
from sparcode.quantize.kmeans import KMeans


def world(count: int, width: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, width))
    targets = centres[rng.integers(0, 30, count)] + 0.5 * rng.standard_normal((count, width))
    targets = (targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float32)
    return (targets + 0.1 * rng.standard_normal((count, width))).astype(np.float32), targets


def all_pairs(sources: np.ndarray, targets: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    scores = sources @ targets.T
    np.fill_diagonal(scores, -np.inf)
    ids = np.stack([np.lexsort((np.arange(len(targets)), -row))[:keep] for row in scores])
    return ids, np.take_along_axis(scores, ids, axis=1)


def test_clusters_hold_every_target_once() -> None:
    _, targets = world(2000)
    made = cluster(targets)
    assert sorted(made.members) == list(range(2000))
    assert made.starts[0] == 0 and made.starts[-1] == 2000  # noqa: PT018
    assert len(made.centroids) == 5


def test_looking_everywhere_is_exact() -> None:
    sources, targets = world(1500)
    ids, scores = clustered_neighbours(sources, targets, 12, probes=1000)
    wanted_ids, wanted_scores = all_pairs(sources, targets, 12)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
    assert np.mean(ids == wanted_ids) > 0.999  # products of other shapes round differently, near-ties may swap


def test_few_clusters_find_nearly_all_and_repeat() -> None:
    sources, targets = world(6000)
    found = clustered_neighbours(sources, targets, 20, probes=6)
    again = clustered_neighbours(sources, targets, 20, probes=6)
    assert all((a == b).all() for a, b in zip(found, again, strict=True))
    wanted, _ = all_pairs(sources, targets, 20)
    share = np.mean([np.isin(row, best).mean() for row, best in zip(wanted, found[0], strict=True)])
    assert share > 0.9
    assert not (found[0] == np.arange(6000)[:, None]).any()


def test_ties_go_to_the_smaller_id_whatever_the_order_of_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.tile(np.eye(4, dtype=np.float32), (300, 1))

    def fixed(vectors: np.ndarray, clusters: int, **_: object) -> KMeans:
        return KMeans(np.eye(4, dtype=np.float32)[:clusters], np.zeros(len(vectors), np.int32), 0.0)

    monkeypatch.setattr("sparcode.build.items.clustered.kmeans", fixed)
    ids, scores = clustered_neighbours(targets, targets, 5, probes=3)
    assert ids[0].tolist() == [4, 8, 12, 16, 20]
    assert ids[8].tolist() == [0, 4, 12, 16, 20]
    assert (scores == 1).all()


def test_places_for_which_nothing_was_found_are_empty() -> None:
    sources, targets = world(10)
    ids, scores = clustered_neighbours(sources, targets, 15)
    assert (ids[:, 9:] == -1).all()
    assert np.isneginf(scores[:, 9:]).all()


def test_large_catalogues_go_through_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, targets = world(900)
    exact = best_neighbours(sources, targets, 0.1, 8)
    monkeypatch.setattr(item_lists, "COMPARED_ITEMS", 100)
    found = best_neighbours(sources, targets, 0.1, 8)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-4)


def test_lists_merge_the_same_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, targets = world(300)
    near = best_neighbours(sources, targets, 0.1, 10)
    parts = [(1.0, item_lists.lists_of(near, 10, 0.5)), (2.5, item_lists.lists_of(near, 4, 0.9))]
    whole = item_lists.merge_lists(parts)
    monkeypatch.setattr(item_lists, "MERGED_AT_ONCE", 50)
    pieces = item_lists.merge_lists(parts)
    assert all((a == b).all() for a, b in zip(whole, pieces, strict=True))


def test_lists_of_some_items_are_those_of_all_items() -> None:
    sources, targets = world(200)
    near = best_neighbours(sources, targets, 0.1, 10)
    counted = item_lists.lists_of(near, 3, 0.2)
    evidence = ItemEvidence(near, None, counted)
    only = np.array([0, 5, 6, 199])
    every, some = evidence.lists(ListSettings(8, 0.5)), evidence.lists(ListSettings(8, 0.5), only)
    for item in range(200):
        span, wanted = slice(*some.indptr[item : item + 2]), slice(*every.indptr[item : item + 2])
        if item in only:
            assert (some.items[span] == every.items[wanted]).all()
            assert (some.values[span] == every.values[wanted]).all()
        else:
            assert span.start == span.stop


def test_an_item_is_its_own_neighbour_where_asked() -> None:
    sources, targets = world(500)
    ids, _ = clustered_neighbours(sources, targets, 3, probes=1000, own=True)
    assert np.mean(ids[:, 0] == np.arange(500)) > 0.9
