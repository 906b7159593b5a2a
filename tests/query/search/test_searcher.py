"""The searcher equals the slow reference exactly: sums, order, filters, batches, threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparcode.index
from sparcode.errors import QueryError
from sparcode.index.store import publish
from sparcode.query.search.searcher import Searcher
from sparcode.types import NO_ITEM
from tests.query import reference

ROWS, ITEMS = 9, 40
LISTS = [{}, *reference.random_lists(11, ROWS - 2, ITEMS, 30, top=6), dict.fromkeys(range(ITEMS), 255)]
SEARCHER = Searcher(reference.lists_to_index(LISTS, ITEMS))
WEIGHTS = st.one_of(st.integers(1, 3), st.integers(1, 65535))
QUERY = st.lists(st.tuples(st.integers(0, ROWS - 1), WEIGHTS), max_size=8)
BATCH = st.lists(st.tuples(QUERY, st.lists(st.integers(0, ITEMS - 1), max_size=5)), min_size=1, max_size=5)
MASK = st.one_of(st.none(), st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS).map(np.array))


def ragged(rows: list[list]) -> tuple[np.ndarray, np.ndarray]:
    flat = np.array([value for row in rows for value in row], np.int32)
    return flat, np.cumsum([0, *map(len, rows)])


@settings(max_examples=150, deadline=None)
@given(BATCH, st.integers(1, 60), MASK, MASK, st.sampled_from([1, 3]))
def test_search_equals_the_reference_and_batch_equals_single(batch, k, allow, deny, threads):
    rows, indptr = ragged([[row for row, _ in query] for query, _ in batch])
    weights, _ = ragged([[weight for _, weight in query] for query, _ in batch])
    seen, seen_indptr = ragged([hidden for _, hidden in batch])
    result = SEARCHER.search(
        rows, weights, indptr, k, seen_indptr=seen_indptr, seen_items=seen, allow=allow, deny=deny, threads=threads
    )
    assert result.ids.shape == result.sums.shape == (len(batch), k)
    for b, (query, hidden) in enumerate(batch):
        low, high = indptr[b], indptr[b + 1]
        expected = reference.search(LISTS, rows[low:high], weights[low:high], k, hidden, allow, deny)
        count = result.counts[b]
        assert list(zip(result.ids[b, :count].tolist(), result.sums[b, :count].tolist(), strict=True)) == expected
        assert (result.ids[b, count:] == NO_ITEM).all()
        assert not result.sums[b, count:].any()
        hidden_items = np.array(hidden, np.int32)
        ids, sums = SEARCHER.search_one(rows[low:high], weights[low:high], k, hidden_items, allow, deny)
        assert list(zip(ids.tolist(), sums.tolist(), strict=True)) == expected
        assert len(query) == high - low


@settings(deadline=None)
@given(QUERY, st.lists(st.integers(-3, ITEMS + 3), max_size=20))
def test_sums_of_equals_the_reference(query, candidates):
    rows = np.array([row for row, _ in query], np.int32)
    weights = np.array([weight for _, weight in query], np.int32)
    expected = dict(reference.search(LISTS, rows, weights, ITEMS))
    got = SEARCHER.sums_of(rows, weights, np.array(candidates, np.int32))
    assert got.dtype == np.uint32
    assert got.tolist() == [expected.get(item, 0) for item in candidates]


@pytest.mark.parametrize("hidden", [0, 10, 25])
def test_seen_items_at_the_top_of_a_list_cost_no_answers(hidden):
    # More than are kept in order, so that a list promises a sum below which nothing is noted.
    items, k = 200, 20
    lists = [{item: 250 - item for item in range(items)}, dict.fromkeys(range(0, items, 2), 1)]
    searcher, rows = Searcher(reference.lists_to_index(lists, items)), np.array([0, 1], np.int32)
    weights, seen = np.array([3, 1], np.int32), np.arange(hidden, dtype=np.int32)
    ids, sums = searcher.search_one(rows, weights, k, seen)
    expected = reference.search(lists, rows, weights, k, seen.tolist())
    assert len(expected) == k
    assert list(zip(ids.tolist(), sums.tolist(), strict=True)) == expected


def one(rows=(1,), weights=(1,), k=3, **options):
    return SEARCHER.search_one(np.array(rows, np.int32), np.array(weights, np.int32), k, **options)


def many(rows=(1,), weights=(1,), indptr=(0, 1), k=3, **options):
    return SEARCHER.search(np.array(rows), np.array(weights), np.array(indptr), k, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": [ROWS]}, "rows are 0..8"),
        ({"rows": [-1]}, "rows are 0..8"),
        ({"weights": [0]}, "1..65535"),
        ({"k": 0}, "k is 0"),
        ({"deny": np.zeros(3, bool)}, "deny: got bool of shape"),
        ({"allow": np.zeros(ITEMS, np.int8)}, "allow: got int8"),
        ({"rows": [1] * 300, "weights": [65535] * 300, "indptr": [0, 300]}, "smaller weights"),
    ],
)
def test_bad_queries_are_named(arguments, message):
    with pytest.raises(QueryError, match=message):
        many(**arguments)
    arguments.pop("indptr", None)
    with pytest.raises(QueryError, match=message):
        one(**arguments)
    assert many().counts[0] == min(3, len(LISTS[1])), "the scratch is clean after a refused query"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [65536]}, "expected 1..65535"),
        ({"indptr": [0, 2]}, "indptr must rise"),
        ({"indptr": [1, 0]}, "indptr must rise"),
        ({"indptr": []}, "indptr must rise"),
        ({"seen_items": np.array([1]), "seen_indptr": np.array([0, 2])}, "seen_indptr must rise"),
        ({"seen_items": np.array([1]), "seen_indptr": np.array([0])}, "expected 2"),
    ],
)
def test_bad_batches_are_named(arguments, message):
    with pytest.raises(QueryError, match=message):
        many(**arguments)


def test_rows_and_weights_must_match():
    with pytest.raises(QueryError, match="2 rows beside 1 weights"):
        one(rows=[1, 2])
    with pytest.raises(QueryError, match="2 rows beside 1 weights"):
        SEARCHER.sums_of(np.zeros(2, np.int32), np.ones(1, np.int32), np.zeros(1, np.int32))
    with pytest.raises(QueryError, match="rows are"):
        SEARCHER.sums_of(np.full(1, 99, np.int32), np.ones(1, np.int32), np.zeros(1, np.int32))


def test_an_empty_batch():
    result = many(rows=[], weights=[], indptr=[0])
    assert result.ids.shape == (0, 3)
    assert result.counts.shape == (0,)


def test_threads_have_scratch_of_their_own():
    query = np.array([2, 8, 8, 3], np.int32), np.array([1, 1, 300, 2], np.int32)
    expected = [part.tolist() for part in SEARCHER.search_one(*query, 10)]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(200):
            if [part.tolist() for part in SEARCHER.search_one(*query, 10)] != expected:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_opened_index_answers_as_the_one_in_memory(tmp_path):
    publish(tmp_path / "index", SEARCHER.index, model_hash="m", config_hash="c", info={"policy": "test"})
    opened = sparcode.index.open(tmp_path / "index")
    assert opened.manifest["info"] == {"policy": "test"}
    assert opened.scale == 0.5
    rows, weights = np.array([1, 4, 8], np.int32), np.array([3, 1, 1], np.int32)
    for got, expected in zip(opened.search_one(rows, weights, 9), SEARCHER.search_one(rows, weights, 9), strict=True):
        assert got.tolist() == expected.tolist()


def test_arrays_to_write_to_are_returned():
    rows, weights = np.array([8, 2], np.int32), np.array([1, 3], np.int32)
    ids, sums = SEARCHER.search_one(rows, weights, 4)
    out = np.empty(4, np.int32), np.empty(4, np.uint32)
    found = SEARCHER.search_one(rows, weights, 4, out=out)
    assert found[0] is out[0]
    assert found[1] is out[1]
    np.testing.assert_array_equal(out[0], ids)
    np.testing.assert_array_equal(out[1], sums)
    out = np.empty(60, np.int32), np.empty(60, np.uint32)
    assert len(SEARCHER.search_one(rows, weights, 60, out=out)[0]) == ITEMS


@pytest.mark.parametrize(
    "out",
    [
        (np.empty(4, np.int64), np.empty(4, np.uint32)),
        (np.empty(4, np.int32), np.empty(4, np.int32)),
        (np.empty(3, np.int32), np.empty(4, np.uint32)),
        (np.empty((4, 1), np.int32), np.empty((4, 1), np.uint32)),
        (np.empty(8, np.int32)[::2], np.empty(4, np.uint32)),
        (np.frombuffer(bytes(16), np.int32), np.empty(4, np.uint32)),
    ],
)
def test_arrays_that_cannot_be_written_to_are_refused(out):
    with pytest.raises(QueryError, match=r"out: got .*expected int32 and uint32 of shape \(4,\)"):
        one(k=4, out=out)


@settings(max_examples=40, deadline=None)
@given(QUERY, st.sampled_from(["int64", "uint8", "strided", "reversed", "read-only"]))
def test_other_integers_and_layouts_are_taken_as_int32(query, form):
    rows = np.array([row for row, _ in query], np.int32)
    weights = np.array([min(weight, 250) for _, weight in query], np.int32)
    seen = np.array([1, 4], np.int32)
    expected = SEARCHER.search_one(rows, weights, 7, seen)
    given_arrays = [_in_form(array, form) for array in (rows, weights, seen)]
    found = SEARCHER.search_one(given_arrays[0], given_arrays[1], 7, given_arrays[2])
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def _in_form(array: np.ndarray, form: str) -> np.ndarray:
    if form in ("int64", "uint8"):
        return array.astype(form)
    if form == "strided":
        return np.repeat(array, 2)[::2]
    if form == "reversed":
        return array[::-1].copy()[::-1]
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("rows", [np.array([1.0]), np.array([[1]], np.int32), np.array([2**32 + 1]), np.array([True])])
def test_what_is_no_int32_is_refused(rows):
    with pytest.raises(QueryError, match="expected int32 rows, weights or items"):
        SEARCHER.search_one(rows, np.ones(1, np.int32), 3)
    with pytest.raises(QueryError, match="expected int32 rows, weights or items"):
        SEARCHER.search_one(np.ones(1, np.int32), np.ones(1, np.int32), 3, rows)


def test_scratch_of_other_threads_is_kept_for_later_calls():
    searcher = Searcher(reference.lists_to_index(LISTS, ITEMS))
    rows, weights, indptr = np.arange(ROWS), np.ones(ROWS, np.int32), np.arange(ROWS + 1)
    expected = searcher.search(rows, weights, indptr, 5)
    for threads in (3, 2, 3):
        found = searcher.search(rows, weights, indptr, 5, threads=threads)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.sums, expected.sums)
    assert 1 <= len(searcher._spare) <= 2
