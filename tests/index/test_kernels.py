"""Each kernel against plain Python, compiled and uncompiled, and with damaged postings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.index import kernels
from tests.index import reference

KEYS = st.lists(st.integers(0, 2**56 - 1), unique=True, max_size=200)
NONE = np.zeros(0, np.int32)
NO_MASK = np.zeros(0, np.bool_)
UNCOMPILED = [
    "largest_sum", "accumulate", "accumulate_crossing", "copy_lists", "accumulate_ahead", "add_lists", "clear_lists",
    "promised_sum", "collect", "collect_best", "threshold_bucket", "sort_keys", "sort_run", "insertion_sort",
    "key_range", "bucket_shift", "keep_largest", "split", "order_best", "first_buckets", "eligible", "mark_seen",
    "count_impacts", "search_list", "row_postings", "best_keys", "search_query", "search_batch", "sum_candidates",
    "prefetch_lists",
]  # fmt: skip


@pytest.fixture(params=["compiled", "uncompiled"])
def form(request, monkeypatch):
    """Run a test on the compiled kernels and again on their Python source."""
    if request.param == "uncompiled":
        for name in UNCOMPILED:
            monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    return kernels


def histogram() -> np.ndarray:
    return np.zeros(kernels.BUCKETS, np.uint64)


def scratch(index, dtype):
    room = index.item_count + int(index.lengths().max(initial=0))
    work = np.zeros(kernels.BUCKETS + 2 * room, np.uint64)
    return np.zeros(index.item_count + 1, dtype), work


def run_query(form, index, rows, weights, k, dtype=np.uint16, seen=NONE, allow=NO_MASK, deny=NO_MASK):
    accumulator, work = scratch(index, dtype)
    ids, sums = np.full(k, -7, np.int32), np.zeros(k, np.uint32)
    rows, weights = np.array(rows, np.int32), np.array(weights, np.int32)
    found = form.search_query(
        index.indptr, index.postings, rows, weights, accumulator, work, seen, allow, deny, ids, sums
    )
    assert not accumulator.any(), "scratch must be clean between calls"
    assert not work[: kernels.BUCKETS].any()
    if found < 0:
        return found
    assert (ids[found:] == -7).all()
    return list(zip(ids[:found].tolist(), sums[:found].tolist(), strict=True))


def test_the_kernel_list_above_is_complete():
    dispatchers = {name for name, value in vars(kernels).items() if hasattr(value, "py_func")}
    assert dispatchers == set(UNCOMPILED)


@settings(deadline=None)
@given(KEYS)
def test_sort_keys(keys):
    array, cells = np.array(keys, np.uint64), histogram()
    kernels.sort_keys(array, np.empty_like(array), cells)
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
    kernels.keep_largest(array, need, cells)
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


@pytest.mark.parametrize(
    ("rows", "weights", "status"),
    [([2], [1], "BAD_ROW"), ([-1], [1], "BAD_ROW"), ([0], [0], "BAD_WEIGHT"), ([0], [-3], "BAD_WEIGHT"),
     ([0, 1], [200, 58], "TOO_WIDE")],
)  # fmt: skip
def test_bad_queries_get_a_status_and_touch_nothing(form, rows, weights, status):
    index = reference.lists_to_index([{0: 1}, {1: 2}], 2)
    assert run_query(form, index, rows, weights, 2) == getattr(kernels, status)


def test_the_narrow_limit_is_exact(form):
    index = reference.lists_to_index([{0: 255, 1: 1}], 2)
    assert run_query(form, index, [0], [257], 2) == [(0, 65535), (1, 257)]
    assert run_query(form, index, [0], [258], 2) == kernels.TOO_WIDE
    assert run_query(form, index, [0], [258], 2, np.uint32) == [(0, 65790), (1, 258)]
    top = kernels.WIDE_LIMIT // 255
    assert run_query(form, index, [0], [top], 2, np.uint32) == [(0, kernels.WIDE_LIMIT), (1, top)]
    assert run_query(form, index, [0], [top + 1], 2, np.uint32) == kernels.TOO_WIDE


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_sum_candidates(form, dtype):
    lists = reference.random_lists(5, 6, 40, 30)
    index = reference.lists_to_index(lists, 40)
    accumulator, _ = scratch(index, dtype)
    rows, weights = np.array([0, 1, 1, 4], np.int32), np.array([3, 1, 1, 9], np.int32)
    candidates = np.array([0, 39, 5, 5, 40, -1, 7], np.int32)
    sums = np.empty(7, np.uint32)
    status = form.sum_candidates(index.indptr, index.postings, rows, weights, accumulator, candidates, sums)
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
    arguments = (narrow, wide, work, seen_pointer, seen, NO_MASK, NO_MASK, ids, sums, counts)
    assert form.search_batch(index.indptr, index.postings, rows, weights, pointer, *arguments) == 0
    for b in range(4):
        part = slice(pointer[b], pointer[b + 1])
        hidden = seen[seen_pointer[b] : seen_pointer[b + 1]]
        expected = reference.search(lists, rows[part], weights[part], 6, hidden)
        got = list(zip(ids[b, : counts[b]].tolist(), sums[b, : counts[b]].tolist(), strict=True))
        assert got == expected
    rows[3] = 5
    assert form.search_batch(index.indptr, index.postings, rows, weights, pointer, *arguments) == kernels.BAD_ROW


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
    parts = [guarded(n + 1, dtype), guarded(kernels.BUCKETS + 2 * (n + longest), np.uint64),
             guarded(k, np.int32), guarded(k, np.uint32)]  # fmt: skip
    accumulator, work, ids, sums = (middle for _, middle in parts)
    found = form.search_query(indptr, postings, rows, weights, accumulator, work, NONE, NO_MASK, NO_MASK, ids, sums)
    form.sum_candidates(indptr, postings, rows, weights, accumulator, np.arange(k, dtype=np.int32), sums)
    for whole, _ in parts:
        assert (whole[:GUARD] == 1).all()
        assert (whole[-GUARD:] == 1).all()
    assert 0 <= found <= k
    assert not accumulator.any()
    assert not work[: kernels.BUCKETS].any()
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
    run_damaged(kernels, indptr, postings, 30, 5, dtype)


def test_damaged_postings_uncompiled(form):
    random = np.random.default_rng(0)
    for bits in (6, 32):
        postings = random.integers(0, 2**bits, 300, dtype=np.uint64).astype(np.uint32)
        indptr = np.array([0, 100, 50, 2**63, 300, 2**64 - 1], np.uint64)
        run_damaged(form, indptr, postings, 20, 4, np.uint16)
