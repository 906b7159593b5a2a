"""The nearest codeword: exact on ties, duplicates, extreme values, tiles and batches."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.quantize import beam, exact
from tests.quantize.literal import gap, nearest_word

RNG = np.random.default_rng(4)


def nearest(vectors: np.ndarray, book: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assignment, distances = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float64)
    exact.nearest(vectors, book, assignment, distances)
    return assignment, distances


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 90), st.sampled_from([1e-30, 1.0, 1e19, 1e30]))
def test_equals_loops_on_numbers_full_of_ties(seed, width, words, scale):
    rng = np.random.default_rng(seed)
    vectors = (rng.integers(-1, 2, (9, width)) * scale).astype("f")
    book = (rng.integers(-1, 2, (words, width)) * scale).astype("f")
    assignment, distances = nearest(vectors, book)
    assert assignment.tolist() == [nearest_word(x, book) for x in vectors]
    assert distances.tolist() == [gap(x, book[k]) for x, k in zip(vectors, assignment, strict=True)]


@pytest.mark.parametrize("tile", [1, 7, 64, 1024])
def test_tiles_and_batches_change_nothing(monkeypatch, tile):
    vectors, book = RNG.normal(size=(200, 24)).astype("f"), RNG.normal(size=(100, 24)).astype("f")
    whole = nearest(vectors, book)
    monkeypatch.setattr(exact, "TILE_WORDS", tile)
    monkeypatch.setattr(exact, "PRODUCT_VALUES", 1)
    for batch in (1, 3, 200):
        parts = [nearest(vectors[low : low + batch], book) for low in range(0, 200, batch)]
        assert np.array_equal(whole[0], np.concatenate([part[0] for part in parts]))
        assert np.array_equal(whole[1], np.concatenate([part[1] for part in parts]))


@pytest.mark.parametrize("copies", [2, exact.KEPT, exact.KEPT + 1, 60])
def test_of_equal_words_the_first_is_taken(monkeypatch, copies):
    monkeypatch.setattr(exact, "TILE_WORDS", 8)
    book = np.concatenate([RNG.normal(size=(5, 6)), np.repeat(RNG.normal(size=(1, 6)), copies, axis=0)]).astype("f")
    assert nearest(book[-2:].copy(), book)[0].tolist() == [5, 5]


def test_better_words_push_out_what_was_kept(monkeypatch):
    """Words come in descending distance, so that the kept ones fill up again and again."""
    monkeypatch.setattr(exact, "TILE_WORDS", 3)
    book = np.linspace(2.0, 1.0, 90, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    near = 1 + np.float32(1e-7) * np.arange(40, 0, -1, dtype=np.float32)
    book = np.concatenate([book, near[:, None] * np.ones((1, 3), np.float32)])
    vectors = np.zeros((2, 3), np.float32)
    assert nearest(vectors, book)[0].tolist() == [nearest_word(x, book) for x in vectors]


def literal_half_distances(row: np.ndarray, halves: np.ndarray) -> np.float32:
    row[:] = halves - row
    return row.min()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=70), st.floats(width=32, allow_nan=False))
def test_least_and_count_equal_numpy(numbers, bar):
    row = np.array(numbers, np.float32)
    assert exact.least_of(row) == row.min() == exact.to_half_distances(-row, np.zeros_like(row))
    assert exact.count_upto(row, np.float32(bar)) == ((row <= bar).sum(), np.flatnonzero(row <= bar).sum())


@pytest.mark.parametrize("tile", [7, 1024])
def test_kernels_equal_their_python_source(monkeypatch, tile):
    monkeypatch.setattr(exact, "TILE_WORDS", tile)
    rows, book = RNG.integers(-1, 2, (6, 5)).astype("f"), RNG.integers(-1, 2, (30, 5)).astype("f")
    fast = nearest(rows, book)
    for name in ("sieve", "settle", "slacks", "squared_gap", "length_of", "keep", "count_upto", "pick", "nearest_upto",
                 "nearest_of_all", "nearest_of_some"):  # fmt: skip
        monkeypatch.setattr(exact, name, getattr(exact, name).py_func)
    monkeypatch.setattr(exact, "to_half_distances", literal_half_distances)
    slow = nearest(rows, book)
    assert np.array_equal(fast[0], slow[0])
    assert np.array_equal(fast[1], slow[1])


@pytest.mark.parametrize("table", [0, 4096])
def test_search_kernels_equal_their_python_source(monkeypatch, table):
    monkeypatch.setattr(beam, "TABLE_WORDS", table)
    rows = RNG.normal(size=(5, 6)).astype("f")
    books = [RNG.integers(-1, 2, (20, 6)).astype("f") for _ in range(3)]
    stack = beam.stack_of(books)
    fast, slow = np.empty((5, 3), np.int32), np.empty((5, 3), np.int32)
    beam.search(rows, stack, 4, fast)
    for name in (
        "extend",
        "residuals",
        "fill_values",
        "bound_of",
        "next_minimum",
        "sort_few",
        "list_upto",
        "measured",
        "choose",
        "climb",
        "contenders",
        "fill_minima",
        "fill_lengths",
    ):
        monkeypatch.setattr(beam, name, getattr(beam, name).py_func)
    beam.search(rows, stack, 4, slow)
    assert np.array_equal(fast, slow)
    assert np.array_equal(beam.as_float.py_func(np.int32(-7)), beam.as_float(np.int32(-7)), equal_nan=True)
    costs = np.empty((5, 20), np.float32), np.empty((5, 20), np.float32)
    for kernel, out in zip((beam.last_gaps, beam.last_gaps.py_func), costs, strict=True):
        kernel(rows, fast, stack.words, stack.starts, out)
    assert np.array_equal(*costs)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 40), st.sampled_from([0.0, 0.1, 3.0]))
def test_contenders_are_all_that_may_be_among_the_least(seed, count, keep, slack):
    rng = np.random.default_rng(seed)
    values = rng.choice([rng.normal(size=count), rng.integers(-3, 3, count)]).astype("f")
    keep = min(keep, count)
    minima = np.empty(max(count // beam.COLUMN, min(count, 64)), np.int32)
    found = np.empty(count, np.int32)
    many = beam.contenders(values, np.float32(slack), minima, np.empty(keep, np.float32), found)
    assert found[:many].tolist() == np.flatnonzero(values <= np.sort(values)[keep - 1] + np.float32(slack)).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_stay_inside_the_arrays(bad):
    rows, book = RNG.normal(size=(4, 6)).astype("f"), RNG.normal(size=(40, 6)).astype("f")
    rows[2, 3] = bad
    clean = nearest(rows[:2], book)[0]
    assignment = nearest(rows, book)[0]
    assert np.array_equal(assignment[:2], clean)
    assert 0 <= assignment[2] < 40
    codes = np.empty((4, 2), np.int32)
    beam.search(rows, beam.stack_of([book, book]), 3, codes)
    assert (codes >= 0).all()
    assert (codes < 40).all()


@pytest.mark.parametrize("words", [512, 3000])
def test_memory_does_not_hold_all_distances(words):
    rows, book = RNG.normal(size=(8000, 32)).astype("f"), RNG.normal(size=(words, 32)).astype("f")
    assignment = np.empty(len(rows), np.int32)
    exact.nearest(rows[:10], book, assignment[:10])
    tracemalloc.start()
    exact.nearest(rows, book, assignment)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * (2 * exact.PRODUCT_VALUES + 8 * book.size)
    assert peak < 0.5 * 4 * len(rows) * words


def test_read_only_and_mapped_arrays_are_read(tmp_path):
    rows, book = RNG.normal(size=(50, 6)).astype("f"), RNG.normal(size=(9, 6)).astype("f")
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    book.setflags(write=False)
    assert np.array_equal(nearest(mapped, book)[0], nearest(rows, book.copy())[0])
