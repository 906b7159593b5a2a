"""Conditions on items against plain Python, and against the same language on rows of a table."""

from __future__ import annotations

import datetime
import operator
import threading
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.data.attribute_columns import compile_attributes
from sparcode.data.attributes import Attribute, ItemAttributes
from sparcode.data.rows import rows_where
from sparcode.errors import CorruptIndexError, QueryError
from sparcode.query.attributes import AttributeFilter

SIGNS = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
WORDS = st.text("aßZ日- ", max_size=3) | st.sampled_from(["Comedy", "this and that", "it's"])
TAGS = st.sampled_from(["Comedy", "Ünï code", "x and y", "日本"])
DAYS = st.dates(datetime.date(1999, 12, 30), datetime.date(2000, 1, 2))
CELLS: dict[str, tuple[pa.DataType, st.SearchStrategy]] = {
    "whole": (pa.int64(), st.integers(-4, 4)),
    "real": (pa.float64(), st.integers(-4, 4).map(lambda value: value / 2) | st.just(float("inf"))),
    "name": (pa.string(), WORDS),
    "flag": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), DAYS),
    "tags": (pa.list_(pa.string()), st.lists(TAGS, max_size=3)),
}
BOUNDS = {**{name: cell for name, (_, cell) in CELLS.items()}, "tags": TAGS}
BOUNDS["whole"] = BOUNDS["whole"] | st.sampled_from([0.5, -1.5, 10**30, float("-inf")])


@st.composite
def catalogues(draw: st.DrawFn) -> pa.Table:
    """Columns of every kind with missing values; the first row is complete."""
    count = draw(st.integers(1, 12))
    columns = {}
    for name, (kind, cell) in CELLS.items():
        cells = [draw(cell), *(draw(st.none() | cell) for _ in range(count - 1))]
        columns[name] = pa.array(cells, kind)
    return pa.table(columns)


@st.composite
def terms(draw: st.DrawFn) -> tuple[str, str, Any]:
    name = draw(st.sampled_from(list(CELLS)))
    signs = ["=", "==", "!="] if name == "tags" else list(SIGNS)
    return name, draw(st.sampled_from(signs)), draw(BOUNDS[name])


def spelled(name: str, sign: str, bound: Any) -> str:
    text = str(bound).lower() if isinstance(bound, bool) else str(bound)
    return f'{name}{sign}"{text}"' if name in ("name", "tags") else f"{name} {sign} {text}"


def holds(value: Any, sign: str, bound: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, list):
        return (bound in value) == (sign != "!=")
    return SIGNS[sign](value, bound)


@settings(max_examples=200, deadline=None)
@given(catalogues(), st.lists(terms(), min_size=1, max_size=3))
def test_conditions_equal_python(table: pa.Table, parts: list[tuple[str, str, Any]]) -> None:
    chosen = AttributeFilter(compile_attributes(table))
    condition = " and ".join(spelled(*part) for part in parts)
    rows = table.to_pylist()
    wanted = [all(holds(row[name], sign, bound) for name, sign, bound in parts) for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = chosen.where(condition)
    assert found.mask.tolist() == wanted
    assert found.mask.dtype == np.bool_
    assert found.count == sum(wanted)
    assert found.ids.tolist() == np.flatnonzero(wanted).tolist()
    if all(name != "tags" for name, _, _ in parts):
        assert rows_where(table, condition).tolist() == wanted, "training reads the same language"


TABLE = pa.table(
    {
        "genres": [["Comedy", "Drama"], ["Drama"], [], None],
        "year": [1990, 1995, None, 2001],
        "price": pa.array([0.1, 9.99, None, 3.0], pa.float32()),
        "seen": pa.array([0, 3_600_000_000, None, 10**12], pa.timestamp("us", "UTC")),
        "live": [True, True, None, True],
        "code": ["k", "K2", "m", "zz"],
        "story": ["word " * 30] * 4,
    }
)


@pytest.fixture(scope="module")
def filters() -> AttributeFilter:
    return AttributeFilter(compile_attributes(TABLE))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("genres=Drama", [1, 1, 0, 0]),
        ("genres != Comedy", [0, 1, 1, 0]),
        ("genres='Comedy' and genres=\" Drama \"", [1, 0, 0, 0]),
        ("genres=Drama AND year>1990", [0, 1, 0, 0]),
        ("year=1900", [0, 0, 0, 0]),
        ("year!=1900", [1, 1, 0, 1]),
        ("price=0.1", [1, 0, 0, 0]),
        ("price<=9.99", [1, 1, 0, 1]),
        ("seen>=1970-01-01T01:00:00", [0, 1, 0, 1]),
        ("seen < 1970-01-01 02:00:00+01:00", [1, 0, 0, 0]),
        ("live=no", [0, 0, 0, 0]),
        ("live!=FALSE", [1, 1, 0, 1]),
        ("code>=m", [0, 0, 1, 1]),
        ("code<k", [0, 1, 0, 0]),
    ],
)
def test_examples(filters: AttributeFilter, condition: str, expected: list[int]) -> None:
    assert filters.where(condition).mask.astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "expected COLUMN"),
        ("genres", "expected COLUMN"),
        ("genres=Comedy or year=1990", "expected COLUMN"),
        ("genre=Comedy", r"no column 'genre' \(did you mean 'genres'\?\); columns found: genres, year, price"),
        ("nothing=1", "no column 'nothing'; columns found: genres"),
        ("genres<Comedy", "column 'genres' holds lists, which know = and != only, not <"),
        ("year=soon", "column 'year' is a number, and 'soon' cannot be compared with it"),
        ("year=nan", "column 'year' is a number, and 'nan' cannot be compared with it"),
        ("price<1e", "column 'price' is a number"),
        ("seen>1995", "column 'seen' is a time, and '1995' cannot be compared with it"),
        ("live=maybe", "column 'live' is true or false, and 'maybe' cannot be compared with it"),
        ("story=word", r"column 'story' cannot filter \(long text\); columns that can: genres, year"),
    ],
)
def test_bad_conditions_are_one_line(filters: AttributeFilter, condition: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        filters.where(condition)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("where")


@pytest.mark.parametrize(
    ("condition", "expected", "near"),
    [
        ("genres=Comdey", [0, 0, 0, 0], "Comedy"),
        ("genres!=comedy", [1, 1, 1, 0], "Comedy"),
        ("code=QQQQ", [0, 0, 0, 0], None),
        ("code=K", [0, 0, 0, 0], "k"),
        ("code=" + "q" * 1000, [0, 0, 0, 0], None),
    ],
)
def test_a_value_that_no_item_has_is_an_empty_answer_and_a_slip_is_named(
    filters: AttributeFilter, condition: str, expected: list[int], near: str | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert filters.where(condition).mask.astype(int).tolist() == expected
    said = [str(warning.message) for warning in caught]
    assert len(said) == (near is not None)
    assert all(line.endswith(f"did you mean {near!r}?") for line in said)


def test_no_columns_at_all() -> None:
    with pytest.raises(QueryError, match="columns found: none"):
        AttributeFilter(ItemAttributes(3)).where("a=1")


def test_recent_conditions_are_kept_and_the_oldest_given_up() -> None:
    filters = AttributeFilter(compile_attributes(TABLE), entries=2)
    first = filters.where("year>1990")
    assert filters.where("year>1990") is first
    second = filters.where("year>1991")
    assert filters.where("year>1990") is first, "asked for again: the other one is now the oldest"
    filters.where("year>1992")
    assert filters.where("year>1990") is first
    assert filters.where("year>1991") is not second
    assert AttributeFilter(ItemAttributes(10**9)).entries == 4
    assert AttributeFilter(ItemAttributes(10)).entries == 64


def test_threads_may_share_it() -> None:
    filters = AttributeFilter(compile_attributes(TABLE), entries=3)
    found: list[bool] = []

    def ask(shift: int) -> None:
        for turn in range(60):
            year = 1985 + (turn + shift) % 20
            wanted = [value is not None and value > year for value in TABLE["year"].to_pylist()]
            found.append(filters.where(f"year>{year}").mask.tolist() == wanted)

    threads = [threading.Thread(target=ask, args=(shift,)) for shift in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 240
    assert all(found)


@pytest.mark.parametrize("part", ["items", "missing", "indptr", "falling"])
def test_damaged_ids_never_reach_a_mask(part: str) -> None:
    parts = {"indptr": [0, 1, 2], "items": [0, 1], "missing": [2]}
    parts["indptr" if part == "falling" else part] = [0, 2, 1] if part == "falling" else [-1, 5, 2]
    numbers = [np.array(parts[name], np.int64) for name in ("indptr", "items", "missing")]
    attributes = ItemAttributes(3, {"year": Attribute("number", np.array([1, 2]), *numbers)})
    with pytest.raises(CorruptIndexError, match="attribute 'year' is damaged"):
        AttributeFilter(attributes).where("year=1")
