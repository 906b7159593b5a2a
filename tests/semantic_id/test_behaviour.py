"""Vectors from histories: equal to slow references, close where users walk, the same from one seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import DataError
from sparcode.semantic_id import behaviour
from sparcode.semantic_id.behaviour import (
    BehaviourOptions,
    Pairs,
    count_pairs,
    factorised,
    item_vectors,
    positive_information,
)
from sparcode.types import Sequences


def sequences(rows: list[list[int]]) -> Sequences:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sequences(indptr, np.array([item for row in rows for item in row], np.int32), np.zeros(0))


def groups(users: int = 300, seed: int = 0) -> Sequences:
    """Users who stay within one of four groups of ten items."""
    random = np.random.default_rng(seed)
    return sequences([(random.integers(4) * 10 + random.integers(0, 10, 8)).tolist() for _ in range(users)])


def dense(pairs: Pairs) -> np.ndarray:
    count = len(pairs.indptr) - 1
    matrix = np.zeros((count, count))
    matrix[pairs.rows, pairs.columns] = pairs.values
    return matrix


def within_and_across(vectors: np.ndarray) -> tuple[float, float]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine, group = unit @ unit.T, np.arange(len(unit)) // 10
    same = (group[:, None] == group[None, :]) & ~np.eye(len(unit), dtype=bool)
    return float(cosine[same].mean()), float(cosine[group[:, None] != group[None, :]].mean())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=7), max_size=5), st.integers(1, 4))
def test_counts_against_two_loops(rows: list[list[int]], window: int) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for row in rows:
        for one in range(len(row)):
            for other in range(len(row)):
                if row[one] != row[other] and abs(one - other) <= window:
                    expected[row[one], row[other]] += 1
    pairs = count_pairs(sequences(rows), 6, window)
    found = dict(zip(zip(pairs.rows.tolist(), pairs.columns.tolist(), strict=True), pairs.values, strict=True))
    assert found == dict(expected)


def test_information_against_the_formula() -> None:
    pairs = count_pairs(groups(20), 40, 3)
    counts = dense(pairs)
    totals = counts.sum(axis=1)
    smooth = totals**0.75 * totals.sum() / (totals**0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(counts * totals.sum() / np.outer(totals, smooth))
        expected = np.nan_to_num(np.maximum((one + one.T) / 2, 0), neginf=0)
    assert np.allclose(dense(positive_information(pairs)), expected)


def test_factors_against_numpy() -> None:
    matrix = positive_information(count_pairs(groups(60), 40, 3))
    vectors = factorised(matrix, 5, 0).astype(np.float64)
    left, values, _ = np.linalg.svd(dense(matrix))
    assert np.allclose((vectors**2).sum(axis=0), values[:5], rtol=1e-3)
    expected = left[:, :5] * np.sqrt(values[:5])
    assert np.allclose(vectors @ vectors.T, expected @ expected.T, atol=2e-2 * values[0])


@pytest.mark.parametrize("method", behaviour.METHODS)
def test_items_of_one_group_are_close(method: behaviour.Method) -> None:
    options = BehaviourOptions(width=8, epochs=15, learning_rate=0.1)
    vectors = item_vectors(groups(), 40, method, options)
    assert vectors.dtype == np.float32
    within, across = within_and_across(vectors)
    assert within > across + 0.4


@pytest.mark.parametrize("method", behaviour.METHODS)
def test_one_seed_gives_the_same_bytes(method: behaviour.Method) -> None:
    options = BehaviourOptions(width=6, epochs=2)
    one, two = (item_vectors(groups(50), 40, method, options, seed=3) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert item_vectors(groups(50), 40, method, options, seed=4).tobytes() != one.tobytes() or method == "counts"


@pytest.mark.parametrize("method", behaviour.METHODS)
def test_items_nobody_met_have_zeros(method: behaviour.Method) -> None:
    vectors = item_vectors(sequences([[0, 1, 0, 1], [3], [1, 2], []]), 5, method, BehaviourOptions(width=4, epochs=3))
    assert not vectors[3:].any()
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-6)


def test_histories_without_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="behaviour says nothing"):
        item_vectors(sequences([[1], [2, 2]]), 3)
    with pytest.raises(DataError, match="unknown method 'x'"):
        item_vectors(sequences([[1, 2]]), 3, "x")  # type: ignore[arg-type]


def test_kernels_in_plain_python() -> None:
    data = sequences([[0, 1, 2, 1], [3, 0]])
    matrix = positive_information(count_pairs(data, 4, 2))
    basis = np.arange(8.0).reshape(4, 2)
    out = np.zeros((4, 2))
    behaviour.sparse_product.py_func(matrix.indptr, matrix.columns, matrix.values, basis, out)
    assert np.allclose(out, behaviour.multiply(matrix, basis))
    results, walk = [], behaviour.Walk(data.indptr, data.items, np.array([1, 0]))
    for kernel in (behaviour.skip_gram_epoch, behaviour.skip_gram_epoch.py_func):
        random = np.random.default_rng(0)
        vectors, contexts = random.normal(size=(2, 4, 3)).astype(np.float32)
        noise = random.integers(0, 4, 1 << 20).astype(np.int32)
        state = np.array([12345], np.uint64)
        with np.errstate(over="ignore"):
            kernel(walk, vectors, contexts, noise, state, behaviour.Steps(2, 2, 0.1, 0.05))
        results.append((vectors, contexts, state))
    for one, two in zip(*results, strict=True):
        assert np.allclose(one, two, atol=1e-5)
