"""Which columns become features, their encoding, and JSON queries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sparcode.data.features import Features, with_user_features
from sparcode.data.ids import IdMap
from sparcode.data.metadata import category_values, encode, encode_like, numbers, read_metadata, vectors
from sparcode.data.views import view
from sparcode.errors import QueryError
from sparcode.types import EvaluationSet, Queries

ROWS = 40


def _table() -> pa.Table:
    place = np.arange(ROWS)
    return pa.table(
        {
            "genres": [["Drama"], ["Action", "Drama", "Drama"], None, []] * 10,
            "tags": ["x|y", "y", "z", None] * 10,
            "brand": pa.array(["HP", "Canon"] * 20).dictionary_encode(),
            "code": pa.array(place % 3, pa.int16()),
            "flag": [True, False] * 20,
            "price": [1.0, float("nan"), None, float("inf")] * 5 + [3.0] * 20,
            "year": [str(1950 + index) for index in range(ROWS - 1)] + [None],
            "vector": [[0.5, 1.0], None] * 20,
            "ragged": [[0.5, 1.0], [1.0]] * 20,
            "raw_id": [f"r{index}" for index in range(ROWS)],
            "text": ["a long description that goes on and on and on, about nothing in particular"] * ROWS,
            "names": [f"name {index}" for index in range(ROWS)],
            "constant": [1.5] * ROWS,
            "nothing": pa.nulls(ROWS),
            "a=b": ["x"] * ROWS,
        }
    )


@pytest.fixture(scope="module")
def features() -> Features:
    found, _, _ = encode(_table())
    assert found is not None
    return found


def test_numbers_spelled_with_blanks_around() -> None:
    assert numbers(pa.array([" 7", "8.5 ", None, "x"])).tolist()[:2] == [7.0, 8.5]


def test_choice_of_columns(features: Features) -> None:
    layout = features.layout
    assert layout.category_names == ["genres", "tags", "brand", "code", "flag"]
    assert layout.numeric_names == ["price", "year"]
    assert (layout.vector_names, layout.vector_widths) == (["vector"], [2])
    assert features.vocabulary[:5] == ["genres=Action", "genres=Drama", "tags=x", "tags=y", "tags=z"]
    assert features.vocabulary[-2:] == ["flag=false", "flag=true"]
    ignored = encode(_table())[1]
    assert set(ignored) == {"ragged", "raw_id", "text", "names", "constant", "nothing", "a=b"}
    assert ignored["text"] == "long text"


def test_encoding(features: Features) -> None:
    assert features.categories(1) == ["genres=Action", "genres=Drama", "tags=y", "brand=Canon", "code=1", "flag=false"]
    assert features.categories_indptr.dtype == np.int64
    assert features.categories_items.dtype == np.int32
    price = features.numeric[:, 0]
    assert np.allclose(price[[1, 2, 3]], 0)
    assert price[0] < 0 < price[-1]
    year = features.numeric[:-1, 1]
    assert abs(year.mean()) < 1e-5
    assert abs(year.std() - 1) < 1e-5
    assert features.vector is not None
    assert features.vector[:2].tolist() == [[0.5, 1.0], [0.0, 0.0]]


def test_dense_equals_slow_reference(features: Features) -> None:
    rows = [3, 0, 1, 1]
    dense = features.dense(rows)
    assert dense.shape == (4, features.width)
    assert dense.dtype == np.float32
    for place, row in enumerate(rows):
        words = features.categories(row)
        expected = np.zeros(features.width)
        for word in words:
            column = word.partition("=")[0]
            expected[features.vocabulary.index(word)] = 1 / sum(w.startswith(column + "=") for w in words)
        start = len(features.vocabulary)
        expected[start : start + 2] = features.numeric[row]
        expected[start + 2 :] = features.vector[row] if features.vector is not None else 0
        assert np.allclose(dense[place], expected)
    assert features.dense([]).shape == (0, features.width)


def test_json_query_equals_row(features: Features) -> None:
    asked = {"genres": ["Action", "Drama"], "tags": "y", "brand": "Canon", "code": 1.0, "flag": False, "year": 1951}
    assert np.allclose(features.encode_json(asked | {"vector": [0, 0]}), features.dense([1])[0], atol=1e-6)
    assert not features.encode_json({"price": None, "genres": None}).any()
    assert np.allclose(features.encode_json({"year": "1951"}), features.encode_json({"year": 1951}))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"genre": "Drama"}, "unknown feature 'genre' .did you mean 'genres'"),
        ({"genres": "Dramma"}, "no value 'Dramma'; known values: Drama"),
        ({"flag": 3}, "known values: false, true"),
        ({"year": "old"}, "must be a number, found 'old'"),
        ({"vector": [1]}, "list of 2 finite numbers"),
        ({"vector": [1, "x"]}, "list of 2 finite numbers"),
        ({"vector": [1, float("nan")]}, "list of 2 finite numbers"),
    ],
)
def test_json_query_errors(features: Features, query: dict, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        features.encode_json(query)


def test_take_and_stack(features: Features) -> None:
    rows = np.array([5, 1, 1])
    taken = features.take(rows)
    assert np.array_equal(taken.dense(np.arange(3)), features.dense(rows))
    both = taken.stacked(features)
    assert np.array_equal(both.dense(np.arange(3, 3 + ROWS)), features.dense(np.arange(ROWS)))


def test_encode_like_counts_new_values(features: Features) -> None:
    table = pa.table({"brand": ["HP", "Apple"], "year": [1951.0, 2000.0], "vector": [[1.0], [2.0]], "other": [1, 2]})
    found, ignored, unknown = encode_like(table, features.layout)
    assert unknown == 1
    assert ignored == {"other": "not a feature of the earlier run"}
    assert found.categories(0) == ["brand=HP"]
    assert found.categories(1) == []
    assert np.allclose(found.numeric[0, 1], features.numeric[1, 1])
    assert found.width == features.width
    assert found.vector is not None
    assert not found.vector.any()


def test_rare_values_of_many_are_left_out() -> None:
    values = [f"brand {index // 2 if index < 300 else index}" for index in range(400)]
    found, ignored, _ = encode(pa.table({"brand": [[value] for value in values]}))
    assert found is not None
    assert len(found.vocabulary) == 150
    assert ignored == {}
    assert encode(pa.table({"tags": [[f"t{index}"] for index in range(200)]})) == (
        None,
        {"tags": "every value occurs once"},
        None,
    )


def test_column_helpers() -> None:
    rows, values = category_values(pa.array(["a|b", None, " c "]))
    assert (rows.tolist(), values) == ([0, 0, 2], ["a", "b", "c"])
    assert np.array_equal(numbers(pa.array(["1", "x", None])), [1, np.nan, np.nan], equal_nan=True)
    assert np.isnan(numbers(pa.array([[1]]))).all()
    assert vectors(pa.array([[1.0], [1.0, 2.0]])) is None
    assert vectors(pa.array(["a"])) is None


def test_titles_of_token_sequences() -> None:
    table = pa.table({"item_id": [2, 1], "movie_title": [["Toy", "Story"], None]})
    found = read_metadata(table, "item", "item_id", IdMap([1, 2]), title=True)
    assert found.titles is not None
    assert found.titles.to_pylist() == ["", "Toy Story"]
    assert found.features is None
    assert found.summary["title"] == "movie_title"


def test_features_of_evaluation_users(features: Features) -> None:
    pointers = np.arange(3, dtype=np.int64)
    items = np.array([0, 1], dtype=np.int32)
    held = EvaluationSet(np.array([7, 2], dtype=np.int32), Queries(pointers, items), pointers, items)
    found = with_user_features(held, features).queries.user_features
    assert found is not None
    assert np.array_equal(found, features.dense([7, 2]))


def test_view_shares_memory_and_minds_offsets() -> None:
    array = pa.array(np.arange(9, dtype=np.int32))
    assert view(array[3:6]).tolist() == [3, 4, 5]
    assert view(array).ctypes.data == array.buffers()[1].address
    assert view(array[:0]).dtype == np.int32
