"""Conditions on items against plain Python, and against the same language on rows of a table."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pyarrow as pa
import pytest

from sparcode.data.attribute_columns import compile_attributes
from sparcode.data.attributes import Attribute, ItemAttributes
from sparcode.errors import CorruptIndexError, QueryError
from sparcode.query.attributes import AttributeFilter

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
        ("genres in (Comedy, ' Drama ')", [1, 1, 0, 0]),
        ("genres not in (Comedy)", [0, 1, 1, 0]),
        ("not genres=Comedy", [0, 1, 1, 1]),
        ("not (year<1995 or year>=1995)", [0, 0, 1, 0]),
        ("year in (1990, 2001.0) and not code in (zz)", [1, 0, 0, 0]),
        ("live=1 and (code=m or seen>1990-01-01)", [0, 0, 0, 0]),
    ],
)
def test_examples(filters: AttributeFilter, condition: str, expected: list[int]) -> None:
    assert filters.where(condition).mask.astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "expected COLUMN"),
        ("genres", "found the end at character 7, expected = != < <= > >= or in"),
        ("genres=Comedy or (year=1990", "found the end at character 28, expected 'and', 'or' or"),
        ("genre=Comedy", r"no column 'genre' \(did you mean 'genres'\?\); columns found: genres, year, price"),
        ("nothing=1", "no column 'nothing'; columns found: genres"),
        ("genres<Comedy", "column 'genres' holds lists, which know =, !=, in and not in only, not <"),
        ("year=soon", "column 'year' is a number, and 'soon' cannot be compared with it"),
        ("live=1 or year in (1990, soon)", "where, character 11: column 'year' is a number, and 'soon' cannot"),
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
        ("not code in (k, K, m)", [0, 1, 0, 1], "k"),
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


def test_an_or_inside_a_value_is_answered_with_the_list(filters: AttributeFilter) -> None:
    with pytest.warns(UserWarning, match=r"one of several is written genres in \(Film Noir, Documentary\)$"):
        assert filters.where("genres=Film Noir or Documentary").count == 0


def test_of_many_unknown_values_some_are_looked_up(filters: AttributeFilter) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert filters.where(f"code in ({', '.join(['K'] + ['ZZ'] * 500)})").count == 0
    assert len(caught) == 5


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
