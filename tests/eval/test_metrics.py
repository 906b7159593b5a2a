from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, P, R, Success, nDCG

from sparcode.eval import metrics
from sparcode.eval.metrics import coverage, overlap, per_query_metrics, popularity_bias, target_ranks

MEASURES = {
    f"{name}@{k}": make @ k
    for k in (5, 10, 20)
    for name, make in {"recall": R, "ndcg": nDCG, "precision": P, "hit_rate": Success}.items()
} | {"mrr": RR}


def world(seed: int, targets_a_query: int, width: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random rankings of 40 items, some shorter than ``width``, and up to ``targets_a_query`` targets each."""
    random = np.random.default_rng(seed)
    ids = np.array([random.permutation(40)[:width] for _ in range(30)], np.int32)
    for row in range(0, 30, 7):
        ids[row, random.integers(0, width) :] = -1
    sizes = random.integers(1, targets_a_query + 1, 30)
    targets = [random.permutation(40)[:size] for size in sizes]
    return ids, np.concatenate(([0], np.cumsum(sizes))), np.concatenate(targets).astype(np.int32)


@pytest.mark.parametrize("k", range(1, 65))
def test_the_best_possible_list_has_exactly_one(k: int) -> None:
    ids, targets = np.arange(100, dtype=np.int32)[None], np.arange(k + 5, dtype=np.int32)
    assert per_query_metrics(ids, np.array([0, k + 5]), targets, (k,))[f"ndcg@{k}"][0] == 1.0
    assert per_query_metrics(ids, np.array([0, k]), targets[:k], (k + 20,))[f"ndcg@{k + 20}"][0] == 1.0


@pytest.mark.parametrize(("seed", "most"), [(0, 1), (1, 4), (2, 35)])
def test_agree_with_ir_measures(seed: int, most: int) -> None:
    ids, indptr, targets = world(seed, most)
    ours = per_query_metrics(ids, indptr, targets, (5, 10, 20))
    assert set(ours) == set(MEASURES)
    qrels = [
        ir_measures.Qrel(str(row), str(item), 1) for row in range(30) for item in targets[indptr[row] : indptr[row + 1]]
    ]
    run = [
        ir_measures.ScoredDoc(str(row), str(item), float(-rank))
        for row in range(30)
        for rank, item in enumerate(ids[row])
        if item >= 0
    ]
    theirs = {name: np.zeros(30) for name in MEASURES}
    names = {str(measure): name for name, measure in MEASURES.items()}
    for metric in ir_measures.iter_calc(list(MEASURES.values()), qrels, run):
        theirs[names[str(metric.measure)]][int(metric.query_id)] = metric.value
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-9, err_msg=name)


def test_known_values() -> None:
    ids = np.array([[4, 7, 1, 2], [0, 1, 2, 3]], np.int32)
    values = per_query_metrics(ids, np.array([0, 2, 3]), np.array([7, 9, 8]), (2, 4))
    assert values["recall@2"].tolist() == [0.5, 0.0]
    assert values["precision@4"].tolist() == [0.25, 0.0]
    assert values["hit_rate@4"].tolist() == [1.0, 0.0]
    assert values["mrr"].tolist() == [0.5, 0.0]
    assert values["ndcg@2"][0] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))


def test_one_target_makes_recall_the_hit_rate() -> None:
    ids, indptr, targets = world(4, 1)
    values = per_query_metrics(ids, indptr, targets, (5, 20))
    assert np.array_equal(values["recall@5"], values["hit_rate@5"])


def test_targets_are_a_set_and_may_be_missing() -> None:
    values = per_query_metrics(np.array([[1, 2], [1, 2]], np.int32), np.array([0, 3, 3]), np.array([1, 1, 2]), (2,))
    assert values["recall@2"].tolist() == [1.0, 0.0]
    assert values["ndcg@2"].tolist() == [1.0, 0.0]


def test_ranks_of_targets() -> None:
    ids = np.array([[5, 3, 9], [1, 0, -1]], np.int32)
    assert target_ranks(ids, np.array([0, 3, 4]), np.array([9, 4, 5, 0])).tolist() == [2, -1, 0, 1]


def test_coverage_counts_the_catalogue_once() -> None:
    ids = np.array([[0, 1, 2], [1, 0, -1]], np.int32)
    assert coverage(ids, 2, 10) == 0.2
    assert coverage(ids, 3, 10) == 0.3


def test_overlap_ignores_order_and_padding() -> None:
    ours = np.array([[1, 2, 3], [4, 5, -1], [7, 8, 9]], np.int32)
    theirs = np.array([[3, 2, 9], [5, -1, -1], [-1, -1, -1]], np.int32)
    np.testing.assert_allclose(overlap(ours, theirs, 3), [2 / 3, 1, 0])
    np.testing.assert_allclose(overlap(ours, theirs, 1), [0, 0, 0])


def test_kernels_in_plain_python() -> None:
    ids, indptr, targets = world(5, 3)
    compiled, plain = np.zeros(ids.shape, bool), np.zeros(ids.shape, bool)
    targets[1] = targets[0]
    sizes = metrics.relevance(ids, indptr, targets, compiled)
    assert np.array_equal(sizes, metrics.relevance.py_func(ids, indptr, targets, plain))
    assert np.array_equal(compiled, plain)
    ranks = target_ranks(ids, indptr, targets)
    assert np.array_equal(ranks, target_ranks.py_func(ids, indptr, targets))


def test_popularity_bias_is_the_share_of_events_on_less_popular_items() -> None:
    popularity = np.array([5, 3, 1, 1, 0])
    # Percentiles: 5/10 of the events lie below item 0, 2/10 below item 1, none below items 2, 3 (equal) and 4.
    ids = np.array([[0, 1, 2], [4, -1, -1]], np.int32)
    assert popularity_bias(ids, popularity, 1) == pytest.approx((0.5 + 0.0) / 2)
    assert popularity_bias(ids, popularity, 3) == pytest.approx((0.5 + 0.2 + 0.0 + 0.0) / 4)
    assert popularity_bias(np.full((2, 3), -1, np.int32), popularity, 3) == 0.0
    assert popularity_bias(ids, np.zeros(5, np.int64), 3) == 0.0


def test_popularity_bias_equals_the_plain_definition() -> None:
    random = np.random.default_rng(0)
    popularity = random.integers(0, 6, 40)
    ids, _, _ = world(3, 2)
    shown = [item for row in ids[:, :10] for item in row if item >= 0]
    plain = [popularity[popularity < popularity[item]].sum() / popularity.sum() for item in shown]
    assert popularity_bias(ids, popularity, 10) == pytest.approx(np.mean(plain))
