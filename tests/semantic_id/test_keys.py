"""Keys of SIDs: their order is the order of the codes, in both forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparcode.semantic_id.keys import group, keys, rank_in_group
from sparcode.semantic_id.rows import _hash_rows, mix, row_hashes


@pytest.mark.parametrize("sizes", [(4, 5, 6), (256,) * 8, (2**24,) * 5])
def test_keys_are_ordered_as_codes(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(0, min(size, 300), 500) for size in sizes])
    codes[:50] = codes[50:100]
    expected = sorted(range(500), key=lambda row: (codes[row].tolist(), row))
    assert np.argsort(keys(codes, sizes), kind="stable").tolist() == expected


def test_the_largest_number_fits() -> None:
    sizes = (2**21, 2**21, 2**20)
    top = np.array([[size - 1 for size in sizes]])
    assert keys(top, sizes).dtype == np.int64
    assert keys(top, sizes)[0] == 2**62 - 1
    assert keys(np.empty((3, 0), int), ()).tolist() == [0, 0, 0]


@given(st.lists(st.integers(0, 6), max_size=40))
def test_groups_and_ranks_equal_loops(values: list[int]) -> None:
    key = np.array(values, np.int64)
    assert rank_in_group(key).tolist() == [values[:place].count(value) for place, value in enumerate(values)]
    groups = group(key)
    assert groups.counts.tolist() == [values.count(value) for value in sorted(set(values))]
    for row, number in enumerate(groups.of.tolist()):
        assert row in groups.order[groups.starts[number] : groups.starts[number + 1]]


def test_equal_rows_have_equal_hashes() -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)
    rows[500:] = rows[:500]
    rows[0, 0], rows[500, 0] = 0.0, -0.0
    hashes = row_hashes(rows)
    np.testing.assert_array_equal(hashes[500:], hashes[:500])
    assert len(np.unique(hashes)) == 500
    assert not np.isin(row_hashes(rows, seed=1), hashes).any()


def test_a_column_more_or_swapped_changes_the_hash() -> None:
    row = np.array([[1.0, 2.0]], np.float32)
    others = [row[:, ::-1], np.array([[1.0, 2.0, 0.0]]), np.array([[2.0, 1.0]]), np.array([[1.0, 2.0000002]])]
    assert len({int(row_hashes(np.ascontiguousarray(other, np.float32))[0]) for other in [row, *others]}) == 4


def test_the_kernel_equals_its_plain_form() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, (20, 3), dtype=np.uint32)
    with np.errstate(over="ignore"):
        assert mix.py_func(np.uint64(12345)) == mix(np.uint64(12345))
        np.testing.assert_array_equal(_hash_rows.py_func(words, np.uint64(7)), _hash_rows(words, np.uint64(7)))
