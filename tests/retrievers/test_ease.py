"""EASE beyond the contract: the matrix itself, tiles, and what is refused."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from sparcode.errors import ConfigError, MissingExtraError
from sparcode.retrievers import ease as module
from sparcode.retrievers.ease import ease, gram_matrix
from sparcode.types import Sequences
from tests.retrievers.contract import EASE_TRAIN, ITEMS, ease_matrix
from tests.worlds import queries_of, random_sequences, sequences_of


def literal_ease(train: Sequences, item_count: int, regularisation: float) -> np.ndarray:
    """Steck's formula in float64, entry by entry."""
    x = np.zeros((len(train), item_count))
    for user in range(len(train)):
        for item in train.row(user):
            x[user, item] = 1.0
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(item_count))
    b = np.zeros((item_count, item_count))
    for i in range(item_count):
        for j in range(item_count):
            if i != j:
                b[i, j] = -p[i, j] / p[j, j]
    return b


def test_weights_are_those_of_exact_fractions() -> None:
    weights = ease(EASE_TRAIN, ITEMS, regularisation=0.25).weights
    expected = [[float(value) for value in row] for row in ease_matrix(Fraction(1, 4))]
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize("tile", [1, 7, 40, 1024])
def test_tiles_do_not_matter(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TILE", tile)
    train = random_sequences(np.random.default_rng(3), 90, 12, 40)
    retriever = ease(train, 40, regularisation=5.0)
    np.testing.assert_allclose(retriever.weights, literal_ease(train, 40, 5.0), atol=1e-6)
    assert retriever.bytes == 4 * 40 * 40


def test_scores_add_up_the_rows_of_distinct_items() -> None:
    train = random_sequences(np.random.default_rng(4), 60, 10, 20)
    histories = [[3, 1, 3, 3], [], [19], list(range(20))]
    scores = ease(train, 20, regularisation=2.0).scores(queries_of(histories))
    weights = literal_ease(train, 20, 2.0)
    for row, history in enumerate(histories):
        expected = sum(weights[item] for item in set(history)) if history else np.full(20, -np.inf)
        np.testing.assert_allclose(scores[row], expected, atol=1e-5)


def test_the_matrix_is_worked_on_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[np.ndarray] = []

    def recorded(train: Sequences, item_count: int) -> np.ndarray:
        made.append(gram_matrix(train, item_count))
        return made[-1]

    monkeypatch.setattr(module, "gram_matrix", recorded)
    assert ease(EASE_TRAIN, ITEMS, regularisation=1.0).weights is made[0]


def test_pair_kernel_in_plain_python() -> None:
    indptr, items = np.array([0, 3, 3, 5]), np.array([0, 2, 3, 2, 3])
    compiled, plain = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    module._count_pairs(indptr, items, compiled)
    module._count_pairs.py_func(indptr, items, plain)
    assert np.array_equal(compiled, plain)
    assert plain.tolist() == [[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 2, 2], [0, 0, 0, 2]]


def test_too_many_items_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match=r"10,000,000 items found, at most 25,000 .*baselines\.ease_most_items"):
        ease(EASE_TRAIN, 10_000_000)


def test_a_matrix_float32_cannot_invert_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"baselines\.ease_regularisation is 1e-12, too small"):
        ease(sequences_of([[0, 1]]), 2, regularisation=1e-12)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.linalg", None)
    with pytest.raises(MissingExtraError, match=r"sparcode\[train\]"):
        ease(EASE_TRAIN, ITEMS)
