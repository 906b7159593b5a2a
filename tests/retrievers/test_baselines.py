from __future__ import annotations

import numpy as np
import pytest

from sparcode.retrievers import item_knn as knn_module
from sparcode.retrievers import lists
from sparcode.retrievers.item_knn import cosine_lists
from sparcode.retrievers.popular import popularity
from sparcode.retrievers.ranking import empty_hits
from sparcode.retrievers.recent_popular import recent_popular
from sparcode.types import Sequences
from tests.retrievers.contract import HISTORIES, ITEMS, TRAIN, count_scores, queries_of, transition_lists


def test_popularity_counts_events() -> None:
    assert popularity(TRAIN, ITEMS).tolist() == [6, 3, 4, 2, 2, 2, 1, 1, 1, 2, 0, 0]
    assert popularity(TRAIN, ITEMS).sum() == len(TRAIN.items)


def test_recent_popular_without_times_reads_the_end_of_each_row() -> None:
    train = Sequences(np.array([0, 10, 12]), np.array([0] * 9 + [3] + [0, 4], np.int32), np.empty(0))
    hits = recent_popular(train, 6, share=0.1).retrieve(queries_of([[]]), 6)
    assert hits.ids[0].tolist() == [3, 4, 0, 1, 2, 5]
    assert hits.filled[0].tolist() == [False, False, True, True, True, True]


def test_recent_popular_of_everything_is_popular() -> None:
    hits = recent_popular(TRAIN, ITEMS, share=1.0).retrieve(queries_of([[]]), ITEMS)
    assert hits.ids[0].tolist() == np.lexsort((np.arange(ITEMS), -popularity(TRAIN, ITEMS))).tolist()


def test_neighbours_are_symmetric_when_all_are_kept() -> None:
    indptr, items, values = cosine_lists(TRAIN, ITEMS, ITEMS)
    dense = np.zeros((ITEMS, ITEMS), np.float32)
    dense[np.repeat(np.arange(ITEMS), np.diff(indptr)), items] = values
    assert np.array_equal(dense, dense.T)
    assert dense.max() <= 1 + 1e-6
    assert not dense.diagonal().any()


def test_neighbour_kernel_in_plain_python() -> None:
    row_indptr, row_items = np.array([0, 2, 4]), np.array([0, 1, 1, 2], np.int32)
    item_indptr, item_rows = np.array([0, 1, 3, 4]), np.array([0, 0, 1, 1])
    arguments = (row_indptr, row_items, item_indptr, item_rows, 2)
    for compiled, plain in zip(
        knn_module._neighbours(*arguments), knn_module._neighbours.py_func(*arguments), strict=True
    ):
        np.testing.assert_array_equal(compiled, plain)


@pytest.mark.parametrize("distinct", [False, True])
def test_list_kernels_in_plain_python(distinct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = queries_of(HISTORIES)
    indptr, items, values = transition_lists()
    arrays = lists.Lists(indptr.astype(np.int64), items.astype(np.int32), values.astype(np.float32))
    histories = lists.Histories(queries.indptr, queries.items, True)
    outputs = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(lists, "_accumulate", lists._accumulate.py_func)
        search = lists._search if compiled else lists._search.py_func
        ids, scores = empty_hits(len(queries), 5)
        search(arrays, lists.Reading(0.5, 4, distinct), histories, ids, scores)
        outputs.append((ids, scores))
    np.testing.assert_array_equal(outputs[0][0], outputs[1][0])
    np.testing.assert_array_equal(outputs[0][1], outputs[1][1])


def test_repeated_events_add_up_in_counts() -> None:
    assert count_scores([5, 5])[7] == pytest.approx(1.5)
