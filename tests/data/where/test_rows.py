"""Which rows a condition keeps: types, nulls, errors."""

from __future__ import annotations

import operator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.data.where.rows import rows_where
from sparcode.errors import DataError

TABLE = pa.table(
    {
        "n": [1, 2, None, 4],
        "x": [0.5, 1.5, 2.5, 3.5],
        "flag": [True, False, True, None],
        "name": ["a", "b and c", "a", None],
        "tag": pa.array(["u", "v", "u", "v"]).dictionary_encode(),
        "lists": [[1], [2], [3], [4]],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=2", [0, 1, 0, 0]),
        ("n != 2", [1, 0, 0, 1]),
        ("x>=1.5 and x<3", [0, 1, 1, 0]),
        ("n <= 1.5", [1, 0, 0, 0]),
        ("flag=true", [1, 0, 1, 0]),
        ("flag == No AND n>1", [0, 1, 0, 0]),
        ("name='b and c'", [0, 1, 0, 0]),
        ('name="a" and n>0', [1, 0, 0, 0]),
        ("tag=u", [1, 0, 1, 0]),
        ("n=1 or x>3", [1, 0, 0, 1]),
        ("not n=1", [0, 1, 1, 1]),
        ("not (n=1 or flag=no)", [0, 0, 1, 1]),
        ("n in (1, 4, 7.5)", [1, 0, 0, 1]),
        ("n not in (1, 7)", [0, 1, 0, 1]),
        ("name in ('b and c', d)", [0, 1, 0, 0]),
        ("tag not in (u)", [0, 1, 0, 1]),
        ("flag in (yes, 0)", [1, 1, 1, 0]),
        ("not name in (a) and n>=1", [0, 1, 0, 1]),
    ],
)
def test_rows(text: str, expected: list[int]) -> None:
    assert rows_where(TABLE, text).tolist() == [bool(value) for value in expected]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.integers(-5, 5),
)
def test_same_as_python(values: list[int], sign: str, bound: int) -> None:
    names = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    compare = getattr(operator, names[sign])
    found = rows_where(pa.table({"v": values}), f"v{sign}{bound}")
    assert found.tolist() == [compare(value, bound) for value in values]


@pytest.mark.parametrize("text", ["n=two", "flag=maybe", "lists=1", "n=nan", "n=1_0", "n=0x1", "n in (1, two)"])
def test_wrong_type(text: str) -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        rows_where(TABLE, text)


def test_unknown_column_lists_columns() -> None:
    with pytest.raises(DataError, match=r"no column 'flags' \(did you mean 'flag'\?\); columns found: n, x, flag"):
        rows_where(TABLE, "flags=true")
    with pytest.raises(DataError, match="^where, character 16: no column 'nmae' .did you mean 'name'"):
        rows_where(TABLE, "n=1 or not ( 2=nmae or nmae=2)".replace("2=nmae or ", "  "))
