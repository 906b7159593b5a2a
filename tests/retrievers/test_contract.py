"""What every retriever promises, on a world whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.errors import QueryError
from sparcode.types import NO_ITEM, Retriever
from tests.retrievers.contract import CASES, HISTORIES, ITEMS, Case, queries_of, right_answer


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def retriever(case: Case) -> Retriever:
    return case.build()


def test_name_is_the_one_of_the_tables() -> None:
    assert {name: case.build().name for name, case in CASES.items()} == {name: name for name in CASES}


@pytest.mark.parametrize("include_seen", [False, True])
@pytest.mark.parametrize("k", [1, 3, 5, ITEMS, ITEMS + 8])
def test_right_answer(case: Case, retriever: Retriever, k: int, include_seen: bool) -> None:
    hits = retriever.retrieve(queries_of(HISTORIES), k, include_seen=include_seen)
    for row, history in enumerate(HISTORIES):
        ids, scores = zip(*right_answer(case, history, k, include_seen), strict=True)
        assert hits.ids[row].tolist() == list(ids), history
        np.testing.assert_allclose(hits.scores[row], scores, rtol=1e-6, atol=1e-6)


def test_shapes_types_and_padding(retriever: Retriever) -> None:
    hits = retriever.retrieve(queries_of(HISTORIES), 20)
    assert hits.ids.shape == hits.scores.shape == (len(HISTORIES), 20)
    assert hits.ids.dtype == np.int32
    assert hits.scores.dtype == np.float32
    assert np.array_equal(hits.ids == NO_ITEM, np.isneginf(hits.scores))


def test_exactly_min_k_eligible_distinct_unseen_items(retriever: Retriever) -> None:
    for k in (1, 4, 15):
        hits = retriever.retrieve(queries_of(HISTORIES), k)
        for row, history in enumerate(HISTORIES):
            found = hits.ids[row][hits.ids[row] != NO_ITEM].tolist()
            assert len(found) == min(k, ITEMS - len(set(history)))
            assert len(set(found)) == len(found)
            assert not set(found) & set(history)


def test_batch_equals_single(retriever: Retriever) -> None:
    batch = retriever.retrieve(queries_of(HISTORIES), 5)
    for row, history in enumerate(HISTORIES):
        single = retriever.retrieve(queries_of([history]), 5)
        assert np.array_equal(batch.ids[row : row + 1], single.ids)
        np.testing.assert_array_equal(batch.scores[row : row + 1], single.scores)


def test_no_history_is_answered(retriever: Retriever) -> None:
    hits = retriever.retrieve(queries_of([[]]), 4)
    assert len(set(hits.ids[0].tolist())) == 4
    assert NO_ITEM not in hits.ids


def test_an_empty_batch_gives_an_empty_answer(retriever: Retriever) -> None:
    assert retriever.retrieve(queries_of([]), 3).ids.shape == (0, 3)


def test_queries_are_not_changed(retriever: Retriever) -> None:
    queries = queries_of(HISTORIES)
    before = queries.items.copy()
    first = retriever.retrieve(queries, 6)
    second = retriever.retrieve(queries, 6)
    assert np.array_equal(queries.items, before)
    assert np.array_equal(first.ids, second.ids)


@pytest.mark.parametrize(("history", "k"), [([1], 0), ([1], -3), ([ITEMS], 2), ([-1], 2)])
def test_bad_requests_are_refused(retriever: Retriever, history: list[int], k: int) -> None:
    with pytest.raises(QueryError):
        retriever.retrieve(queries_of([history]), k)
