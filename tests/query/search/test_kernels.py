"""Each kernel against plain Python, compiled and uncompiled, and with damaged postings."""

from __future__ import annotations

import pkgutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import SparcodeError
from sparcode.query import search
from sparcode.query.search import (
    adding,
    base,
    batch,
    buckets,
    fitting,
    one_list,
    query,
    select,
    sorting,
    threshold,
    touched,
)
from sparcode.query.search.arguments import Accumulators, Answers, Filters, Lists, SparseQuery
from tests.query import reference

KEYS = st.lists(st.integers(0, 2**56 - 1), unique=True, max_size=200)
NONE = np.zeros(0, np.int32)
NO_MASK = np.zeros(0, np.bool_)
MODULES = (adding, batch, buckets, fitting, one_list, query, select, sorting, threshold, touched)
PARTS = {name: value for module in MODULES for name, value in vars(module).items() if hasattr(value, "py_func")}


@pytest.fixture(params=["compiled", "uncompiled"])
def form(request, monkeypatch):
    """Run a test on the compiled kernels and again on their Python source."""
    if request.param == "uncompiled":
        for module in MODULES:
            for name in PARTS.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, PARTS[name].py_func)
    return SimpleNamespace(**{name: value for module in MODULES for name, value in vars(module).items()})


def histogram() -> np.ndarray:
    return np.zeros(base.BUCKETS, np.uint64)


def scratch(index, dtype):
    room = index.item_count + int(index.lengths().max(initial=0))
    work = np.zeros(base.BUCKETS + 2 * room, np.uint64)
    return np.zeros(index.item_count + 1, dtype), work


def lists_of(index):
    return Lists(index.indptr, index.postings)


def run_query(form, index, rows, weights, k, dtype=np.uint16, seen=NONE, allow=NO_MASK, deny=NO_MASK):
    accumulator, work = scratch(index, dtype)
    ids, sums = np.full(k, -7, np.int32), np.zeros(k, np.uint32)
    rows, weights = np.array(rows, np.int32), np.array(weights, np.int32)
    asked = lists_of(index), SparseQuery(rows, weights), accumulator, work
    found = form.search_query(*asked, Filters(seen, allow, deny), Answers(ids, sums))
    assert not accumulator.any(), "scratch must be clean between calls"
    assert not work[: base.BUCKETS].any()
    if found < 0:
        return found
    assert (ids[found:] == -7).all()
    return list(zip(ids[:found].tolist(), sums[:found].tolist(), strict=True))


def test_the_modules_above_are_all():
    others = {"arguments", "base", "best", "prepared", "searcher"}
    found = {part.name for part in pkgutil.iter_modules(search.__path__)} - others
    assert found == {module.__name__.rpartition(".")[2] for module in MODULES}


@settings(deadline=None)
@given(KEYS)
def test_sort_keys(keys):
    array, cells = np.array(keys, np.uint64), histogram()
    sorting.sort_keys(array, np.empty_like(array), cells)
    assert array.tolist() == sorted(keys, reverse=True)
    assert not cells.any()


def test_sort_keys_in_one_crowded_bucket(form):
    values = [*range(40), 2**56 - 1]
    array, cells = np.array(values, np.uint64), histogram()
    form.sort_keys(array, np.empty_like(array), cells)
    assert array.tolist() == sorted(values, reverse=True)
    assert not cells.any()


@settings(deadline=None)
@given(KEYS, st.integers(0, 200))
def test_keep_largest(keys, need):
    need = min(need, len(keys))
    array, cells = np.array(keys, np.uint64), histogram()
    select.keep_largest(array, need, cells)
    assert sorted(array[:need].tolist()) == sorted(sorted(keys)[len(keys) - need :])
    assert sorted(array.tolist()) == sorted(keys)
    assert not cells.any()


def test_keep_largest_narrows_in_several_passes(form):
    keys = [1 << shift for shift in range(56)] + [3 << 40, 5 << 30, 7]
    array, cells = np.array(keys, np.uint64), histogram()
    form.keep_largest(array, 50, cells)
    assert sorted(array[:50].tolist()) == sorted(keys)[-50:]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("k", [1, 7, 60, 500])
def test_search_query_equals_the_reference(form, dtype, k):
    lists = reference.random_lists(3, 12, 150, 120, top=9)
    index = reference.lists_to_index(lists, 150)
    rows, weights = [0, 5, 5, 11, 3], [1, 2, 1, 7, 1]
    seen, deny = np.array([0, 3, 149, 150, -1, 9999], np.int32), np.arange(150) % 7 == 0
    allow = np.arange(150) % 5 != 1
    got = run_query(form, index, rows, weights, k, dtype, seen, allow, deny)
    assert got == reference.search(lists, rows, weights, k, seen, allow, deny)


def test_many_ties_give_the_smaller_ids(form):
    lists = [dict.fromkeys(range(start, 300, 2), 1) for start in (1, 0)]
    index = reference.lists_to_index(lists, 300)
    assert run_query(form, index, [0, 1], [1, 1], 40) == [(item, 1) for item in range(40)]


def test_no_rows_empty_lists_and_no_items(form):
    index = reference.lists_to_index([{}, {0: 3}], 1)
    assert run_query(form, index, [], [], 3) == []
    assert run_query(form, index, [0, 0], [1, 1], 3) == []
    assert run_query(form, index, [1, 0], [2, 1], 3) == [(0, 6)]
    assert run_query(form, reference.lists_to_index([{}], 0), [0], [1], 2) == []


@pytest.mark.parametrize("k", [17, 40])
@pytest.mark.parametrize("seen", [NONE, np.array([3, 4, 5, 4, 900], np.int32)])
def test_only_items_that_reach_the_first_threshold_are_noted(form, k, seen):
    lists = [{}, *reference.random_lists(4, 4, 160, 20), {item: 1 + item * 7 % 90 for item in range(0, 150)}]
    index = reference.lists_to_index(lists, 160)
    for rows, weights in (([5, 1, 2], [2, 1, 9]), ([0, 5, 5, 3], [1, 1, 1, 1]), ([4, 1, 0], [1, 1, 1])):
        expected = reference.search(lists, rows, weights, k, seen)
        assert run_query(form, index, rows, weights, k, seen=seen) == expected


def test_the_first_threshold_is_the_needed_impact_of_the_heaviest_list(form):
    lists = [{item: item + 1 for item in range(100)}, dict.fromkeys(range(120), 5), {}]
    index, cells = reference.lists_to_index(lists, 120), histogram()

    def found(rows, weights, need):
        asked = SparseQuery(np.array(rows, np.int32), np.array(weights, np.int32))
        return form.first_threshold(lists_of(index), asked, need, cells)

    assert found([1, 0, 2], [1, 3, 9], 50) == 3 * 51
    assert found([1, 0, 2], [1, 3, 9], 51) == 1, "the list is too short"
    assert found([1, 0, 2], [8, 3, 9], 50) == 8 * 5
    assert found([2], [4], 1) == 1
    assert not cells.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.sampled_from([np.uint16, np.uint32]), st.integers(0, 9))
def test_adding_with_copies_and_prefetches_is_adding(seed, least, dtype, rows):
    random = np.random.default_rng(seed)
    lists = reference.random_lists(seed, 6, 50, 40)
    index = reference.lists_to_index(lists, 50)
    chosen, weights = random.integers(0, 6, rows).astype(np.int32), random.integers(1, 9, rows).astype(np.int32)
    found = []
    for ahead in (False, True):
        accumulator, touched = np.zeros(51, dtype), np.zeros(500, np.uint32)
        arguments = (lists_of(index), SparseQuery(chosen, weights), accumulator, touched, np.uint64(least))
        if ahead:
            copy = np.zeros(400 + adding.AHEAD, np.uint32)
            total = adding.copy_lists(lists_of(index), chosen, copy[: -adding.AHEAD])
            assert total == index.lengths()[chosen].sum()
            count = adding.accumulate_ahead(*arguments, copy, np.uint64(total))
        else:
            count = adding.accumulate_crossing(*arguments)
        found.append((touched[:count].tolist(), accumulator.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("k", [3, 30])
def test_large_accumulators_are_read_ahead(form, k, monkeypatch):
    if hasattr(form.add_lists, "py_func"):
        items = adding.LARGE + 7
    else:
        items = 200
        monkeypatch.setattr(adding, "LARGE", 10)
    lists = [{item * 3 % items: 1 + item % 250 for item in range(100)}, {items - 1: 9, 5: 2}, {}]
    index = reference.lists_to_index(lists, items)
    for rows in ([0, 1, 2], [2, 1, 1], [2, 2, 0, 0], [0, 2] * 30):
        weights = [1 + place % 4 for place in range(len(rows))]
        assert run_query(form, index, rows, weights, k) == reference.search(lists, rows, weights, k)


def test_queries_longer_than_the_copy_are_added_without_it(form, monkeypatch):
    monkeypatch.setattr(adding, "LARGE", 10)
    lists = [dict.fromkeys(range(60), 2), dict.fromkeys(range(0, 60, 2), 3)]
    index = reference.lists_to_index(lists, 60)
    rows, weights = [0, 1] * 20, [1] * 40
    assert run_query(form, index, rows, weights, 9) == reference.search(lists, rows, weights, 9)


ONE = st.dictionaries(st.integers(0, 39), st.integers(1, 255), max_size=40)
SEEN = st.lists(st.integers(-2, 42), max_size=6)
MASKS = st.one_of(st.just(NO_MASK), st.lists(st.booleans(), min_size=40, max_size=40).map(np.array))


@settings(max_examples=80, deadline=None)
@given(ONE, st.integers(1, 300), st.integers(1, 50), SEEN, MASKS, MASKS, st.booleans())
def test_one_list_is_counted_by_impact(items, weight, k, seen, allow, deny, compiled):
    index = reference.lists_to_index([items], 40)
    accumulator, cells = np.zeros(41, np.uint16), histogram()
    ids, sums = np.full(k, -7, np.int32), np.zeros(k, np.uint32)
    search = one_list.search_list if compiled else one_list.search_list.py_func
    arguments = Filters(np.array(seen, np.int32), allow, deny), Answers(ids, sums)
    found = search(index.postings, np.uint64(weight), accumulator, cells, *arguments)
    expected = reference.search(
        [items], [0], [weight], k, seen, allow if len(allow) else None, deny if len(deny) else None
    )
    assert list(zip(ids[:found].tolist(), sums[:found].tolist(), strict=True)) == expected
    assert (ids[found:] == -7).all()
    assert not accumulator.any()
    assert not cells.any()


@pytest.mark.parametrize("ids", [[3, 3, 5], [5, 3], [1, 40], [2**24 - 1]])
def test_one_damaged_list_is_left_to_the_accumulator(form, ids):
    postings = np.array([item << 8 | 9 for item in ids], np.uint32)
    accumulator, work = np.zeros(41, np.uint16), np.zeros(base.BUCKETS + 2 * 44, np.uint64)
    found, sums = np.zeros(5, np.int32), np.zeros(5, np.uint32)
    arguments = Filters(np.array([2], np.int32), NO_MASK, NO_MASK), Answers(found, sums)
    assert form.search_list(postings, np.uint64(1), accumulator, work, *arguments) == base.UNSORTED
    assert not accumulator.any()
    assert not work.any()
    lists, one = Lists(np.array([0, len(ids)], np.uint64), postings), np.array([0], np.int32)
    count = form.search_query(lists, SparseQuery(one, one + 1), accumulator, work, *arguments)
    assert sorted(found[:count].tolist()) == sorted({item for item in ids if item < 40})


@settings(max_examples=60, deadline=None)
@given(KEYS, st.integers(1, 220))
def test_order_best(keys, k):
    for order in (select.order_best, select.order_best.py_func):
        array, cells = np.array(keys, np.uint64), histogram()
        found = order(array, np.empty_like(array), cells, k)
        assert array[:found].tolist() == sorted(keys, reverse=True)[:k]
        assert not cells.any()


def test_order_best_of_crowded_buckets(form):
    keys = [*range(5000, 5200), *range(60), 2**56 - 1, 2**55]
    for k in (1, 3, 40, 150, 400):
        array, cells = np.array(keys, np.uint64), histogram()
        found = form.order_best(array, np.empty_like(array), cells, k)
        assert array[:found].tolist() == sorted(keys, reverse=True)[:k]
        assert not cells.any()


@pytest.mark.parametrize(
    ("rows", "weights", "status"),
    [([2], [1], "BAD_ROW"), ([-1], [1], "BAD_ROW"), ([0], [0], "BAD_WEIGHT"), ([0], [-3], "BAD_WEIGHT"),
     ([0, 1], [200, 58], "TOO_WIDE")],
)  # fmt: skip
def test_bad_queries_get_a_status_and_touch_nothing(form, rows, weights, status):
    index = reference.lists_to_index([{0: 1}, {1: 2}], 2)
    assert run_query(form, index, rows, weights, 2) == getattr(base, status)


def test_the_narrow_limit_is_exact(form):
    index = reference.lists_to_index([{0: 255, 1: 1}], 2)
    assert run_query(form, index, [0], [257], 2) == [(0, 65535), (1, 257)]
    assert run_query(form, index, [0], [258], 2) == base.TOO_WIDE
    assert run_query(form, index, [0], [258], 2, np.uint32) == [(0, 65790), (1, 258)]
    top = base.WIDE_LIMIT // 255
    assert run_query(form, index, [0], [top], 2, np.uint32) == [(0, base.WIDE_LIMIT), (1, top)]
    assert run_query(form, index, [0], [top + 1], 2, np.uint32) == base.TOO_WIDE


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_sum_candidates(form, dtype):
    lists = reference.random_lists(5, 6, 40, 30)
    index = reference.lists_to_index(lists, 40)
    accumulator, _ = scratch(index, dtype)
    rows, weights = [0, 1, 1, 4], [3, 1, 1, 9]
    asked = SparseQuery(np.array(rows, np.int32), np.array(weights, np.int32))
    candidates = np.array([0, 39, 5, 5, 40, -1, 7], np.int32)
    sums = np.empty(7, np.uint32)
    status = form.sum_candidates(lists_of(index), asked, accumulator, candidates, sums)
    expected = dict(reference.search(lists, rows, weights, 99))
    assert status == 0
    assert sums.tolist() == [expected.get(int(item), 0) for item in candidates]
    assert not accumulator.any()


def test_search_batch_switches_width_per_query_and_reports_bad_ones(form):
    lists = reference.random_lists(8, 5, 30, 25)
    index = reference.lists_to_index(lists, 30)
    narrow, work = scratch(index, np.uint16)
    wide = np.zeros(31, np.uint32)
    rows, weights = np.array([0, 1, 2, 3, 4], np.int32), np.array([1, 2, 60000, 4, 1], np.int32)
    pointer, seen_pointer = np.array([0, 2, 3, 3, 5]), np.array([0, 1, 1, 1, 2])
    seen = np.array([4, 6], np.int32)
    ids, sums, counts = np.zeros((4, 6), np.int32), np.zeros((4, 6), np.uint32), np.zeros(4, np.int32)
    asked = lists_of(index), SparseQuery(rows, weights), pointer
    arguments = Filters(seen, NO_MASK, NO_MASK), seen_pointer, Answers(ids, sums), counts

    def search() -> int:
        accumulators = Accumulators(fitting.ENTRIES, narrow, wide, work)
        while not fitting.ready(status := form.search_batch(*asked, accumulators, *arguments)):
            pass
        return status

    assert search() == 0
    for b in range(4):
        part = slice(pointer[b], pointer[b + 1])
        hidden = seen[seen_pointer[b] : seen_pointer[b + 1]]
        expected = reference.search(lists, rows[part], weights[part], 6, hidden)
        got = list(zip(ids[b, : counts[b]].tolist(), sums[b, : counts[b]].tolist(), strict=True))
        assert got == expected
    rows[3] = 5
    assert search() == base.BAD_ROW
    rows[3] = 3
    # What a caller in numba's cache meets when the kernels behind have other arguments than when it was compiled.
    other = fitting.ENTRIES.copy()
    other[-1] += np.uint64(1)
    status = form.search_batch(*asked, Accumulators(other, narrow, wide, work), *arguments)
    assert status == fitting.STALE
    with pytest.raises(SparcodeError, match="another version of sparcode"):
        fitting.ready(status)
    assert search() == 0


GUARD = 64


def guarded(size: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return (whole, middle): a zeroed middle of ``size`` entries between two guard stretches of ones."""
    whole = np.ones(size + 2 * GUARD, dtype)
    middle = whole[GUARD : GUARD + size]
    middle[:] = 0
    return whole, middle


def run_damaged(form, indptr, postings, n, longest, dtype, k=20):
    """Search with damaged arrays; assert the guards and the cleanliness of the scratch."""
    rows = np.arange(len(indptr) - 1, dtype=np.int32).repeat(2)
    weights = np.ones(len(rows), np.int32)
    parts = [guarded(n + 1, dtype), guarded(base.BUCKETS + 2 * (n + longest), np.uint64),
             guarded(k, np.int32), guarded(k, np.uint32)]  # fmt: skip
    accumulator, work, ids, sums = (middle for _, middle in parts)
    asked = Lists(indptr, postings), SparseQuery(rows, weights), accumulator
    found = form.search_query(*asked, work, Filters(NONE, NO_MASK, NO_MASK), Answers(ids, sums))
    form.sum_candidates(*asked, np.arange(k, dtype=np.int32), sums)
    for whole, _ in parts:
        assert (whole[:GUARD] == 1).all()
        assert (whole[-GUARD:] == 1).all()
    assert 0 <= found <= k
    assert not accumulator.any()
    assert not work[: base.BUCKETS].any()
    assert (ids[:found] >= 0).all()
    assert (ids[:found] < n).all()
    assert len(set(ids[:found].tolist())) == found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint16, np.uint32]), st.sampled_from([3, 8, 12, 32]))
def test_damaged_postings_never_write_outside(seed, dtype, bits):
    random = np.random.default_rng(seed)
    postings = random.integers(0, 2**bits, 400, dtype=np.uint64).astype(np.uint32)
    indptr = np.sort(random.integers(0, 500, 9)).astype(np.uint64)
    if seed % 2:
        random.shuffle(indptr)
    run_damaged(query, indptr, postings, 30, 5, dtype)


def test_damaged_postings_uncompiled(form):
    random = np.random.default_rng(0)
    for bits in (6, 32):
        postings = random.integers(0, 2**bits, 300, dtype=np.uint64).astype(np.uint32)
        indptr = np.array([0, 100, 50, 2**63, 300, 2**64 - 1], np.uint64)
        run_damaged(form, indptr, postings, 20, 4, np.uint16)
