"""Content-kNN: wide content against a dense reference, cold items, and content that says nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sparcode.data.features import FeatureLayout, Features
from sparcode.retrievers import content_knn as module
from sparcode.retrievers.content_knn import ContentKnn
from tests.retrievers.contract import content_features
from tests.worlds import queries_of, random_sequences

N, WORDS, WIDTH = 50, 17, 6


def random_features(seed: int = 0, words: int = WORDS, width: int = WIDTH) -> Features:
    """Return items with 0..5 categories and a vector; every fifth vector is zero."""
    random = np.random.default_rng(seed)
    rows = [np.sort(random.choice(words, random.integers(0, min(words, 5) + 1), replace=False)) for _ in range(N)]
    vector = random.normal(size=(N, width)).astype(np.float32)
    vector[::5] = 0.0
    names, widths = (["text"], [width]) if width else ([], [])
    layout = FeatureLayout([f"tag={word}" for word in range(words)], [], vector_names=names, vector_widths=widths)
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Features(
        layout, indptr, np.concatenate(rows).astype(np.int32), np.zeros((N, 0), np.float32), vector if width else None
    )


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Return rows of length 1; zero rows stay zero."""
    return matrix / np.where((norms := np.linalg.norm(matrix, axis=1, keepdims=True)) > 0, norms, 1.0)


def dense_content(features: Features) -> np.ndarray:
    """Return the unit content of all items as one dense matrix, float64."""
    present = np.zeros((N, len(features.vocabulary)))
    for item in range(N):
        for word in features.categories_items[features.categories_indptr[item] : features.categories_indptr[item + 1]]:
            present[item, word] = 1.0
    rarity = np.log(N / np.maximum(present.sum(axis=0), 1))
    given = np.zeros((N, 0)) if features.vector is None else features.vector.astype(np.float64)
    return unit_rows(np.hstack([unit_rows(present * rarity), unit_rows(given)]))


@pytest.mark.parametrize(("words", "width"), [(WORDS, WIDTH), (WORDS, 0), (0, WIDTH)])
def test_scores_equal_the_dense_reference(words: int, width: int) -> None:
    features = random_features(1, words, width)
    content = dense_content(features)
    rows = random_sequences(np.random.default_rng(2), 30, 40, N)
    queries = queries_of([rows.row(row).tolist() for row in range(30)])
    scores = ContentKnn(features).scores(queries)
    for row in range(30):
        weighted = [0.9**age * content[item] for age, item in enumerate(rows.row(row)[::-1][:20])]
        query = unit_rows(np.sum(weighted, axis=0, keepdims=True))[0] if weighted else np.zeros(content.shape[1])
        expected = content @ query if query.any() else np.full(N, -np.inf)
        expected[~content.any(axis=1)] = -np.inf
        np.testing.assert_allclose(scores[row], expected, atol=1e-6)


def test_an_item_nobody_bought_is_found_by_its_content() -> None:
    features = random_features()
    twin, cold = 7, N - 1
    assert features.vector is not None
    features.vector[cold] = features.vector[twin]
    rows = [features.categories_items[a:b] for a, b in itertools.pairwise(features.categories_indptr)]
    rows[cold] = rows[twin]
    same = replace(
        features,
        categories_indptr=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        categories_items=np.concatenate(rows).astype(np.int32),
    )
    hits = ContentKnn(same).retrieve(queries_of([[twin]]), 1)
    assert hits.ids[0, 0] == cold
    assert hits.scores[0, 0] == pytest.approx(1.0, abs=1e-6)


def test_items_without_content_only_fill() -> None:
    retriever = ContentKnn(content_features())
    assert np.flatnonzero(~retriever.has_content).tolist() == [7, 10]
    hits = retriever.retrieve(queries_of([[0], [7, 10], []]), 12)
    assert hits.ids[0, -3:].tolist() == [7, 10, -1]
    assert hits.filled[0, 9:11].all()
    assert hits.filled[1, :10].all()
    assert hits.filled[2].all()


def test_a_category_of_every_item_says_nothing() -> None:
    layout = FeatureLayout(["kind=film", "genre=war"])
    features = Features(
        layout, np.array([0, 1, 3, 5]), np.array([0, 0, 1, 0, 1], np.int32), np.zeros((3, 0), np.float32)
    )
    retriever = ContentKnn(features)
    assert retriever.has_content.tolist() == [False, True, True]
    np.testing.assert_allclose(retriever.scores(queries_of([[1]]))[0], [-np.inf, 1.0, 1.0], atol=1e-6)
    assert retriever.bytes > 0


def test_read_only_arrays_are_fine() -> None:
    features = random_features()
    for array in (features.categories_indptr, features.categories_items, features.vector):
        assert array is not None
        array.flags.writeable = False
    assert (ContentKnn(features).retrieve(queries_of([[1, 2]]), 5).ids >= 0).all()


def test_kernel_in_plain_python() -> None:
    features = random_features()
    random = np.random.default_rng(5)
    values = random.random(len(features.categories_items)).astype(np.float32)
    queries = random.random((4, WORDS)).astype(np.float32)
    arguments = (features.categories_indptr, features.categories_items, values, queries)
    compiled, plain = np.ones((4, N), np.float32), np.ones((4, N), np.float32)
    module._add_word_scores(*arguments, compiled)
    module._add_word_scores.py_func(*arguments, plain)
    np.testing.assert_allclose(compiled, plain, rtol=1e-6)
