"""Transition counts against a literal loop over pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.build.items import transitions as module
from sparcode.build.items.transitions import count_repeats, count_transitions
from sparcode.config import ItemFamilyConfig
from sparcode.types import Sequences


def sequences(rows: list[list[int]]) -> Sequences:
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Sequences(indptr, np.array([item for row in rows for item in row], np.int32), np.empty(0))


def slow(rows: list[list[int]], items: int, config: ItemFamilyConfig) -> list[dict[int, float]]:
    counts = np.zeros((items, items))
    popularity = np.zeros(items)
    for row in rows:
        for i, source in enumerate(row):
            popularity[source] += 1
            for j in range(i + 1, len(row)):
                if j - i <= config.window and row[j] != source:
                    counts[source, row[j]] += 1 / (j - i)
                    counts[row[j], source] += config.reverse / (j - i)
    present = np.maximum(popularity, 1)
    values = counts / present[:, None] ** config.source_power / present[None, :] ** config.target_power
    lists = []
    for row in values.astype(np.float32):
        best = sorted((-value, item) for item, value in enumerate(row) if value > 0)[: config.length]
        lists.append({item: -value for value, item in sorted(best, key=lambda pair: pair[1])})
    return lists


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 7), max_size=12), max_size=8),
    st.integers(1, 4), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 5),
)  # fmt: skip
def test_equals_the_slow_reference(rows, window, reverse, length):
    config = ItemFamilyConfig(window=window, reverse=reverse, length=length)
    found = count_transitions(sequences(rows), 8, config)
    assert found.indptr[-1] == len(found.items) == len(found.values)
    for item, expected in enumerate(slow(rows, 8, config)):
        ids, values = found.row(item)
        assert (np.diff(ids) > 0).all()
        assert len(ids) == len(expected)
        # Equal sums reached in another order may differ in the last bit, so values are compared as a profile.
        assert np.allclose(np.sort(values), np.sort(list(expected.values())), rtol=1e-6)


def slow_repeats(rows: list[list[int]], items: int, config: ItemFamilyConfig) -> list[dict[int, float]]:
    counts, popularity = np.zeros(items), np.zeros(items)
    for row in rows:
        for i, item in enumerate(row):
            popularity[item] += 1
            for j in range(i + 1, len(row)):
                if j - i <= config.window and row[j] == item:
                    counts[item] += (1 + config.reverse) / (j - i)
    values = counts / np.maximum(popularity, 1) ** (config.source_power + config.target_power)
    return [{item: value} if value > 0 else {} for item, value in enumerate(values.tolist())]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6), st.integers(1, 12), st.sampled_from([0.0, 0.3]),
)  # fmt: skip
def test_repeats_equal_a_slow_loop(rows, window, reverse):
    config = ItemFamilyConfig(window=window, reverse=reverse)
    found = count_repeats(sequences(rows), 5, config)
    assert (found.items.dtype, found.values.dtype) == (np.int32, np.float32)
    for item, expected in enumerate(slow_repeats(rows, 5, config)):
        ids, values = found.row(item)
        assert dict(zip(ids.tolist(), values.tolist(), strict=True)) == pytest.approx(expected, rel=1e-6)


def test_written_out_example():
    # 0 1 0 2: 0->1 at distance 1, 1->0 at 1, 0->2 at 3 and at 1, 1->2 at 2; 0->0 counts nothing.
    config = ItemFamilyConfig(reverse=0.0, source_power=0.0, target_power=0.0)
    found = count_transitions(sequences([[0, 1, 0, 2]]), 4, config)
    rows = [dict(zip(*(part.tolist() for part in found.row(item)), strict=True)) for item in range(4)]
    assert rows == [{1: 1.0, 2: pytest.approx(4 / 3)}, {0: 1.0, 2: 0.5}, {}, {}]


def test_ties_keep_the_smaller_id():
    config = ItemFamilyConfig(window=1, length=2)
    found = count_transitions(sequences([[0, 3], [0, 1], [0, 2]]), 4, config)
    assert found.row(0)[0].tolist() == [1, 2]


def test_no_events():
    found = count_transitions(sequences([[], []]), 3)
    assert found.indptr.tolist() == [0, 0, 0, 0]
    assert len(found.items) == 0


def test_kernel_equals_its_python_source(monkeypatch):
    rows = [[0, 1, 2, 1, 3], [3, 2, 0], [4]]
    fast = count_transitions(sequences(rows), 5)
    monkeypatch.setattr(module, "best_transitions", module.best_transitions.py_func)
    for one, other in zip(fast, count_transitions(sequences(rows), 5), strict=True):
        assert np.array_equal(one, other)
