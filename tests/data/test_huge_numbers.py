"""Numbers too large to compute with: missing with a count in tables, refused in a query; what is stored is finite."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparcode.data.features import FeatureLayout
from sparcode.data.ids import IdMap
from sparcode.data.metadata import missing_lines, read_metadata
from sparcode.errors import QueryError

ROWS = 40


def metadata(values: Any, kind: pa.DataType | None = None, layout: FeatureLayout | None = None) -> Any:
    table = pa.table({"item_id": range(ROWS), "x": pa.array(values, kind)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_metadata(table, "item", "item_id", IdMap(list(range(ROWS))), layout=layout)
    if found.features is not None:
        assert np.isfinite(found.features.dense(range(ROWS))).all()
        assert np.isfinite([*found.features.layout.means, *found.features.layout.stds]).all()
    return found


@pytest.mark.parametrize("huge", [1.7e308, -1.7e308, 3.5e38, float(np.finfo(np.float32).max), math.inf, -math.inf])
def test_a_sentinel_is_missing_and_the_rest_of_the_column_is_as_without_it(huge: float) -> None:
    rest = [float(i) for i in range(ROWS - 2)]
    found, without = metadata([huge, *rest, huge]), metadata([None, *rest, None])
    assert found.summary["taken_as_missing"] == {"x": 2}
    assert np.array_equal(found.features.numeric, without.features.numeric)
    (line,) = missing_lines("item", found.summary)
    assert line.startswith("items table: column 'x': 2 values are infinite or too large")
    assert missing_lines("item", without.summary) == []
    again = metadata([huge, *rest, huge], layout=found.features.layout)
    assert again.summary["taken_as_missing"] == {"x": 2}


@pytest.mark.parametrize("huge", [1e25, 1e308, math.inf, -1e16])
@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float64(), 2)])
def test_a_vector_that_overflows_is_missing(huge: float, kind: pa.DataType) -> None:
    found = metadata([[1.0, huge]] + [[0.5, float(i)] for i in range(ROWS - 1)], kind)
    assert found.summary["taken_as_missing"] == {"x": 1}
    assert found.features.vector[:2].tolist() == [[0.0, 0.0], [0.5, 0.0]]
    every = metadata([[1.0, huge]] * ROWS, kind)
    assert every.features is None
    assert every.summary["ignored"] == {"x": "no vector with a finite number but 0"}


@pytest.mark.parametrize("values", [[math.nan] * ROWS, [1e308] * ROWS, [math.inf] * ROWS])
def test_columns_without_a_number_are_no_features(values: list[float]) -> None:
    assert metadata(values).summary["ignored"] == {"x": "no finite number"}


@pytest.mark.parametrize("start", [0.0, 1e9, 1e15, -1e15, 1e-30, 1e30])
def test_small_differences_of_large_numbers_stay_apart(start: float) -> None:
    step = max(1.0, abs(start) * 1e-14)
    found = metadata([start + i * step for i in range(ROWS)])
    expected = (np.arange(ROWS) - (ROWS - 1) / 2) / np.arange(ROWS).std()
    assert np.allclose(found.features.numeric[:, 0], expected, atol=0.1)
    assert np.allclose(
        FeatureLayout.from_json(found.features.layout.to_json()).means, found.features.layout.means, rtol=0
    )


LAYOUT = FeatureLayout(["g=F"], ["age"], np.array([30.0]), np.array([1e-30], np.float32), ["v"], [2])


@pytest.mark.parametrize(
    "age", [1e300, -1e300, 3.4e38, 10**400, math.inf, "inf", "1e400", "nan", "abc", "", True, [1], {}, "9" * 9999]
)
def test_a_query_with_a_number_beyond_use_is_refused(age: Any) -> None:
    with pytest.raises(QueryError, match="feature 'age' must be a number, found") as caught:
        LAYOUT.encode_json({"age": age})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("age", [1e30, -1e30, "31", 31, np.float32(2), -0.0, None, math.nan, np.float32("nan")])
def test_a_query_row_is_finite(age: Any) -> None:
    row = LAYOUT.encode_json({"age": age})
    assert np.isfinite(row).all()
    assert abs(row).max() <= 1e6
    assert age not in (None,) or not row.any()


@pytest.mark.parametrize(
    "vector", [[1e300, 0], [1e16, 0], [10**400, 0], [math.nan, 0], ["a", 0], [1], None, 3, [[1, 2]]]
)
def test_a_query_vector_beyond_use_is_refused(vector: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(QueryError, match="list of 2 finite numbers"):
            LAYOUT.encode_json({"v": vector})


def test_long_names_and_values_are_cut() -> None:
    for query in ({"g": "x" * 100_000}, {"y" * 100_000: 1}):
        with pytest.raises(QueryError) as caught:
            LAYOUT.encode_json(query)
        assert len(str(caught.value)) < 300
