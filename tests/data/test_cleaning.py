"""Filtering, duplicates, k-core, times: counts, order and messages."""

from __future__ import annotations

import datetime
import warnings
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.config import DataConfig
from sparcode.data.cleaning import NoTimeWarning, clean
from sparcode.errors import DataError


def _rows(events) -> list[tuple]:
    users, items = events.user_ids.to_pylist(), events.item_ids.to_pylist()
    times = [None] * len(events) if events.times is None else events.times.tolist()
    return [(users[u], items[i], t) for u, i, t in zip(events.users, events.items, times, strict=True)]


def _table(rows: list[tuple]) -> pa.Table:
    return pa.table(dict(zip(("user", "item", "time", "rating"), map(list, zip(*rows, strict=True)), strict=False)))


def test_sorted_by_user_and_time_with_ties_in_file_order() -> None:
    rows = [("b", 9, 2), ("a", 3, 5), ("b", 1, 1), ("a", 2, 5), ("a", 7, 4)]
    events, summary = clean(_table(rows), DataConfig())
    assert _rows(events) == [("a", 7, 4), ("a", 3, 5), ("a", 2, 5), ("b", 1, 1), ("b", 9, 2)]
    assert summary["columns"] == {"user": "user", "item": "item", "time": "time"}
    assert summary["guessed"] == ["item", "time", "user"]


def test_only_exact_duplicates_go() -> None:
    rows = [("a", 1, 5), ("a", 1, 6), ("a", 1, 5), ("b", 1, 5), ("a", 1, 5)]
    events, summary = clean(_table(rows), DataConfig())
    assert _rows(events) == [("a", 1, 5), ("a", 1, 6), ("b", 1, 5)]
    assert summary["dropped"] == {"where": 0, "duplicates": 2}


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.float64()])
def test_the_least_rating_is_kept_itself(kind: pa.DataType) -> None:
    ratings = pa.array([3, 4, 5, None, 4], kind)
    table = pa.table({"user": list("abcda"), "item": range(5), "time": range(5), "rating": ratings})
    events, summary = clean(table, DataConfig(min_rating=4))
    assert _rows(events) == [("a", 4, 4), ("b", 1, 1), ("c", 2, 2)]
    assert summary["dropped"]["min_rating"] == 2


def test_where_and_rating_are_counted() -> None:
    rows = [("a", 1, 1, 5.0), ("a", 2, 2, 1.0), ("b", 1, 3, None), ("c", 1, 4, 5.0)]
    events, summary = clean(_table(rows), DataConfig(where="user!=c", min_rating=2))
    assert _rows(events) == [("a", 1, 1)]
    assert summary["dropped"] == {"where": 1, "min_rating": 2, "duplicates": 0}
    assert summary["rows"] == 4


def _slow_core(rows: list[tuple[int, int, int]], k: int) -> list[tuple[int, int, int]]:
    while True:
        users, items = Counter(r[0] for r in rows), Counter(r[1] for r in rows)
        left = [r for r in rows if users[r[0]] >= k and items[r[1]] >= k]
        if left == rows:
            return rows
        rows = left


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60), st.integers(2, 4))
def test_k_core_equals_slow_reference(pairs: list[tuple[int, int]], k: int) -> None:
    rows = [(user, item, time) for time, (user, item) in enumerate(pairs)]
    expected = sorted(_slow_core(rows, k), key=lambda row: (row[0], row[2]))
    if not expected:
        with pytest.raises(DataError, match="no rows are left after k_core="):
            clean(_table(rows), DataConfig(k_core=k))
        return
    events, summary = clean(_table(rows), DataConfig(k_core=k))
    assert _rows(events) == expected
    assert summary["dropped"]["k_core"] == len(rows) - len(expected)


def test_without_time_file_order_counts() -> None:
    table = pa.table({"user": [2, 1, 2], "item": [5, 6, 5]})
    with pytest.warns(NoTimeWarning, match="order of the rows"):
        events, _ = clean(table, DataConfig())
    assert _rows(events) == [(1, 6, None), (2, 5, None), (2, 5, None)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "no time"), (float("nan"), "no time"), (-1.0, "the time -1"), (float("inf"), "the time inf")],
)
def test_bad_time_names_row_and_other_columns(value: float | None, text: str) -> None:
    table = pa.table(
        {
            "user": [1, 1, 2],
            "item": [1, 2, 3],
            "timestamp": [1.0, value, 2.0],
            "position": [0, 1, 0],
            "half": [1, None, 2],
            "rating": [1, 1, 1],
        }
    )
    message = rf"row 2 has {text} in column 'timestamp' \(1 such.*columns={{'time': 'position'}}.*serve: position\)"
    with pytest.raises(DataError, match=message):
        clean(table, DataConfig())
    kept, _ = clean(table, DataConfig(where="user=2"))
    assert len(kept) == 1
    fine, _ = clean(table, DataConfig(columns={"time": "position"}))
    assert len(fine) == 3


def test_null_ids_name_the_original_row() -> None:
    table = pa.table({"user": ["a", "b", None], "item": [1, 2, 3], "time": [1, 2, 3]})
    with pytest.raises(DataError, match=r"row 3 has no user id.*\(in text files an empty field is none"):
        clean(table, DataConfig(where="time>1"))


def test_columns_that_nothing_reads_are_named() -> None:
    rows = {
        "user": ["a", "a"],
        "item": [1, 2],
        "time": [1, 2],
        "event": ["x", "y"],
        "price": [1, 2],
        "split": ["train"] * 2,
    }
    table = pa.table(rows)
    assert clean(table, DataConfig())[1]["ignored"] == ["event", "price", "split"]
    assert clean(table, DataConfig(where="event=x"))[1]["ignored"] == ["price", "split"]
    assert clean(table, DataConfig(split_by="column"))[1]["ignored"] == ["event", "price"]


def test_a_split_by_time_names_a_column_that_could_serve() -> None:
    table = pa.table({"user": [1, 1], "item": [1, 2], "n": [1, 2], "seen_on": [datetime.date(2013, 4, 3)] * 2})
    with pytest.raises(DataError, match="no time column found; write .*seen_on.*that could serve: seen_on") as caught:
        clean(table, DataConfig(split_by="time"))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no time column found; write .*NAME"):
        clean(table.drop_columns("seen_on"), DataConfig(split_by="time"))


def test_dates_and_texts_are_times() -> None:
    day = datetime.datetime(2013, 4, 3, tzinfo=datetime.UTC)
    seconds = day.timestamp()
    columns = [
        pa.array([datetime.date(2013, 4, 3)]),
        pa.array([day.replace(tzinfo=None)], pa.timestamp("ns")),
        pa.array([day], pa.timestamp("s", tz="UTC")),
        pa.array(["2013-04-03"]),
        pa.array(["2013-04-03T00:00:00Z"]),
        pa.array(["2013-04-03T02:00:00+02:00"]),
        pa.array([str(int(seconds))]),
    ]
    for column in columns:
        events, _ = clean(pa.table({"user": [1], "item": [1], "time": column}), DataConfig())
        assert events.times.tolist() == [seconds], column.type
    with pytest.raises(DataError, match="row 2: 'soon' is no number and no ISO date"):
        clean(pa.table({"user": [1, 1], "item": [1, 2], "time": ["2013-04-03", "soon"]}), DataConfig())


def test_wrong_types_and_nothing_left() -> None:
    with pytest.raises(DataError, match="'rating' must hold numbers"):
        clean(_table([("a", 1, 1, "good")]), DataConfig(min_rating=1))
    with pytest.raises(DataError, match="no rows are left after where"):
        clean(_table([("a", 1, 1, 1)]), DataConfig(where="item=2"))
    with pytest.raises(DataError, match="no rows are left after min_rating="):
        clean(_table([("a", 1, 1, 1)]), DataConfig(min_rating=3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean(_table([("a", 1, 1, "good")]), DataConfig())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0, 7.0, 1e300])), min_size=1)
)
def test_order_and_duplicates_equal_slow_reference(rows: list[tuple]) -> None:
    expected = sorted(dict.fromkeys(rows), key=lambda row: (row[0], row[2]))
    for times in (1, 2):
        doubled = [(user, item, time * times) for user, item, time in rows]
        events, summary = clean(_table(doubled), DataConfig())
        assert _rows(events) == [(user, item, time * times) for user, item, time in expected]
        assert summary["dropped"]["duplicates"] == len(rows) - len(expected)
