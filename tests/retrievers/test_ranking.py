from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.retrievers import ranking
from sparcode.types import NO_ITEM

SCORES = st.lists(st.sampled_from([-np.inf, np.nan, -1.5, 0.0, 0.5, 0.5, 2.0, 3.0]), min_size=1, max_size=40)


def slow_select(values: np.ndarray, blocked: np.ndarray, k: int) -> list[int]:
    kept = [i for i in range(len(values)) if values[i] > -np.inf and not blocked[i]]
    return sorted(kept, key=lambda i: (-values[i], i))[:k]


@settings(max_examples=150, deadline=None)
@given(SCORES, st.integers(1, 45), st.integers(0, 2**40 - 1))
def test_select_orders_by_score_then_id(values: list[float], k: int, bits: int) -> None:
    scores = np.array(values, np.float32)
    blocked = np.array([bool(bits >> place & 1) for place in range(len(values))])
    for select in (ranking.select, ranking.select.py_func):
        ids, best = np.full(k, NO_ITEM, np.int32), np.full(k, -np.inf, np.float32)
        count = select(scores, blocked, ids, best)
        assert ids[:count].tolist() == slow_select(scores, blocked, k)
        assert np.array_equal(best[:count], scores[ids[:count]])


def test_plain_kernels_agree_with_compiled_ones() -> None:
    random = np.random.default_rng(3)
    values = random.integers(0, 4, (5, 13)).astype(np.float32)
    values[values == 0] = -np.inf
    indptr, items = np.array([0, 2, 2, 5, 9, 13]), random.integers(0, 13, 13).astype(np.int32)
    order, fixed = np.array([4, 2, 0], np.int32), np.array([3, 2, 1], np.float32)
    for exclude in (True, False):
        outputs = []
        for compiled in (True, False):
            rank = ranking.rank_rows if compiled else ranking.rank_rows.py_func
            walk = ranking.walk_order if compiled else ranking.walk_order.py_func
            first, second = ranking.empty_hits(5, 15), ranking.empty_hits(5, 6)
            rank(values, indptr, items, exclude, *first)
            walk(order, fixed, 13, indptr, items, exclude, *second)
            outputs.append((*first, *second))
        for compiled_array, plain_array in zip(*outputs, strict=True):
            np.testing.assert_array_equal(compiled_array, plain_array)


def test_heap_kernels_in_plain_python() -> None:
    ids, scores = np.array([4, 1, 3, 2], np.int32), np.array([0.0, 2.0, 1.0, 2.0], np.float32)
    ranking.sort_heap.py_func(ids, scores, 4)
    assert ids.tolist() == [1, 2, 3, 4]
    ranking.sift_down.py_func(ids, scores, 0, 4)
    assert ids[0] in (2, 3, 4)
    assert ranking.worse.py_func(1.0, 3, 1.0, 2)
    blocked = np.array([False, True, False, False])
    filled, values = np.array([2, NO_ITEM, NO_ITEM], np.int32), np.zeros(3, np.float32)
    ranking.fill.py_func(blocked, filled, values, 1)
    assert filled.tolist() == [2, 0, 3]
    assert blocked.tolist() == [False, True, False, False]
    ranking.fill.py_func(blocked, filled, values, 3)
    assert filled.tolist() == [2, 0, 3]


def test_blocks_do_not_change_the_answer(monkeypatch) -> None:
    from sparcode.retrievers.exact import ExactRetriever
    from tests.retrievers.contract import HISTORIES, VECTORS, LastItemEncoder, queries_of

    retriever = ExactRetriever(LastItemEncoder(), VECTORS)
    whole = retriever.retrieve(queries_of(HISTORIES), 5)
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 100)
    parts = retriever.retrieve(queries_of(HISTORIES), 5)
    assert np.array_equal(whole.ids, parts.ids)
