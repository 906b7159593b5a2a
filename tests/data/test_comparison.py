"""Written values beside columns of every type: one rule for rows, rating thresholds and attributes of items."""

from __future__ import annotations

import operator
import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.config import DataConfig
from sparcode.data.attribute_columns import compile_attributes, overlaid
from sparcode.data.dataset import load_dataset
from sparcode.data.where.rows import rows_where
from sparcode.errors import DataError
from sparcode.query.attributes import AttributeFilter

SIGNS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def both(column: pa.Array, sign: str, text: str) -> list[bool]:
    """Return which rows hold, after checking that attributes of items say the same."""
    table = pa.table({"x": column})
    rows = rows_where(table, f"x{sign}{text}").tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert AttributeFilter(compile_attributes(table)).where(f"x{sign}{text}").mask.tolist() == rows
    return rows


FLOATS = [0.1, 0.3, 0.6, 0.7, 0.9, None, float("nan"), float("inf"), -float("inf"), -0.0]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_a_decimal_is_what_the_column_prints(kind: pa.DataType) -> None:
    column = pa.array(
        [None if value is None else np.float64(value).astype(kind.to_pandas_dtype()) for value in FLOATS], kind
    )
    assert both(column, "=", "0.7") == [False] * 3 + [True] + [False] * 6
    assert both(column, ">=", "0.7") == [False, False, False, True, True, False, False, True, False, False]
    assert both(column, "!=", "0.7") == [True, True, True, False, True, False, False, True, True, True]
    assert both(column, "<", "0.3") == [True] + [False] * 7 + [True, True]
    assert both(column, ">", "1e300") == [False] * 7 + [True, False, False]
    assert both(column, "<", "-1e300") == [False] * 8 + [True, False]
    assert both(column, "=", "inf") == [False] * 7 + [True, False, False]
    assert both(column, "=", "0") == [False] * 9 + [True]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_rating_threshold_is_what_the_column_prints(kind: str) -> None:
    values = np.resize([0.1, 0.3, 0.6, 0.7, 0.9], 40)
    events = {"user": np.repeat(np.arange(4), 10), "item": np.arange(40), "time": np.arange(40)}
    for rating in (pa.array(values.astype(kind)), pa.array(values.astype(kind)).dictionary_encode()):
        if kind == "float16" and pa.types.is_dictionary(rating.type):
            continue
        found = load_dataset(pa.table(events | {"rating": rating}), DataConfig(min_rating=0.7), seed=0)
        assert len(found.serving.items) == 16


def test_a_rating_threshold_beside_decimals() -> None:
    column = pa.array([Decimal("0.70"), Decimal("0.69"), Decimal("0.71")] * 4, pa.decimal128(5, 2))
    events = {"user": [1] * 12, "item": range(12), "time": range(12), "rating": column}
    assert len(load_dataset(pa.table(events), DataConfig(min_rating=0.7), seed=0).serving.items) == 8


INTEGERS = [0, 3, 4, 5, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), -4]
WRITTEN = ["3.5", "4", "4.0", "9007199254740992.5", "9007199254740993", "9223372036854775807", "9223372036854775807.5"]
WRITTEN += [
    "9223372036854775808",
    "1e18",
    "1e400",
    "-1e400",
    "-9223372036854775808",
    "-9223372036854775809",
    "-3.5",
    "+4",
]
WRITTEN += ["18446744073709551615", "18446744073709551616", ".5", "5.", "0.000000000000000000000000000000000001"]


@pytest.mark.parametrize("text", WRITTEN)
@pytest.mark.parametrize("sign", SIGNS)
def test_integers_are_exact_at_any_size(sign: str, text: str) -> None:
    for kind, values in (
        (pa.int64(), INTEGERS),
        (pa.uint64(), [0, 4, 2**53 + 1, 2**63, 2**64 - 1, 2**64 - 2]),
        (pa.uint64(), [0, 4, 2**53 + 1]),
        (pa.int8(), [-128, 4, 3, 127]),
        (pa.decimal128(30, 0), [3, 4, 2**53 + 1]),
    ):
        exact = [Decimal(value) for value in values] if pa.types.is_decimal(kind) else values
        wanted = [SIGNS[sign](value, Fraction(text)) for value in values]
        assert both(pa.array([*exact, None], kind), sign, text) == [*wanted, False]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.decimals(-99, 99, places=2), min_size=1, max_size=9), st.sampled_from(sorted(SIGNS)), st.data())
def test_decimals_are_what_they_print(values: list[Decimal], sign: str, data: st.DataObject) -> None:
    bound = data.draw(st.sampled_from(values) | st.decimals(-99, 99, places=3))
    wanted = [SIGNS[sign](value, bound) for value in values]
    assert both(pa.array(values, pa.decimal128(6, 2)), sign, str(bound)) == wanted


MOMENTS = [datetime(2019, 12, 31, 23, 59, 59), datetime(2020, 1, 1), datetime(2020, 1, 1, 12), None]


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"), pa.date32(), pa.date64()],
)
def test_dates_and_times(kind: pa.DataType) -> None:
    values = [m and (date(m.year, m.month, m.day) if pa.types.is_date(kind) else m) for m in MOMENTS]
    assert both(pa.array(values, kind), ">=", "2020-01-01") == [False, True, True, False]
    assert both(pa.array(values, kind), "<", "2020-01-01T00:00:00") == [True, False, False, False]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_a_zone_are_moments(unit: str) -> None:
    column = pa.array([m and m.replace(tzinfo=UTC) for m in MOMENTS], pa.timestamp(unit, "Europe/Berlin"))
    assert both(column, ">=", "2020-01-01") == [False, True, True, False]
    assert both(column, ">=", "2020-01-01T01:00:00+01:00") == [False, True, True, False]
    assert both(column, "=", "2020-01-01 12:00") == [False, False, True, False]


def test_truth_text_and_nothing() -> None:
    assert both(pa.array([True, False, None]), "=", "yes") == [True, False, False]
    assert both(pa.array(["1", "02", "10", "9"] * 3), ">=", "9.5") == [False, False, True, False] * 3
    assert both(pa.array(["a", "B", None]), "=", "B") == [False, True, False]
    assert rows_where(pa.table({"x": pa.nulls(2)}), "x=1").tolist() == [False, False]
    mostly = pa.array([*map(str, range(99)), "unknown"])
    assert rows_where(pa.table({"x": mostly}), "x!=unknown").sum() == 99
    for text in ("nan", "soon", "1_0", "0x1", "1e", "", "1" * 2000, "1e99999"):
        with pytest.raises(DataError, match="cannot be compared"):
            rows_where(pa.table({"x": [1.0]}), f'x="{text}"')


def test_numbers_of_an_earlier_run_keep_what_they_print() -> None:
    def attributes(values: Any, kind: pa.DataType) -> Any:
        return compile_attributes(pa.table({"x": pa.array(values, kind)}))

    old = attributes(np.float16([0.7, 0.1]), pa.float16())
    joined = overlaid(old, attributes([0.3, 0.7], pa.float32()), np.array([False, True]))
    assert AttributeFilter(joined).where("x=0.7").mask.tolist() == [True, True]
    old = attributes([2**53 + 1, 5], pa.int64())
    joined = overlaid(old, attributes([0, 2**64 - 1], pa.uint64()), np.array([False, True]))
    assert AttributeFilter(joined).where("x=9007199254740993").mask.tolist() == [True, False]
    assert AttributeFilter(joined).where("x=18446744073709551615").mask.tolist() == [False, True]
