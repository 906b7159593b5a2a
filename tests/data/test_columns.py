"""Guessing columns by name, and what is said when that is impossible."""

from __future__ import annotations

import pytest

from sparcode.data.columns import find_columns, find_id_column, is_row_number
from sparcode.errors import DataError


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["userId", "movieId", "rating", "timestamp"], ["userId", "movieId", "timestamp", "rating"]),
        (["uid", "asin", "overall", "unixReviewTime"], ["uid", "asin", "unixReviewTime", "overall"]),
        (["session_id", "item_id"], ["session_id", "item_id"]),
        (["USER ID", "Product_ID", "date", "split"], ["USER ID", "Product_ID", "date", "split"]),
        (["user_id", "session_id", "asin", "parent_asin"], ["user_id", "parent_asin"]),
    ],
)
def test_guess(names: list[str], expected: list[str]) -> None:
    assert list(find_columns(names, {}).values()) == expected


def test_given_columns_win() -> None:
    found = find_columns(["user_id", "item_id", "timestamp", "position"], {"time": "position"})
    assert found == {"user": "user_id", "item": "item_id", "time": "position"}


def test_missing_and_ambiguous() -> None:
    with pytest.raises(
        DataError, match=r"no item column found; write columns={'item': 'NAME'} \(columns found: user, x\)"
    ):
        find_columns(["user", "x"], {})
    with pytest.raises(DataError, match="ambiguous user column: 'user' and 'user_id'.*columns={'user': 'user'}"):
        find_columns(["user", "user_id", "item"], {})
    with pytest.raises(DataError, match="ambiguous time column"):
        find_columns(["user", "item", "time", "timestamp"], {})
    assert "rating" not in find_columns(["user", "item", "score", "stars"], {})
    with pytest.raises(DataError, match="ambiguous rating"):
        find_columns(["user", "item", "score", "stars"], {}, ["rating"])
    with pytest.raises(DataError, match="add a header line"):
        find_columns(["196", "242", "3", "881250949"], {})
    with pytest.raises(DataError, match="no split column"):
        find_columns(["user", "item"], {}, ["split"])


def test_numbers_of_rows_have_no_role() -> None:
    numbers = ["Unnamed: 0", "Unnamed: 0.1", "__index_level_0__", "index", "level_0", ""]
    assert all(map(is_row_number, numbers))
    assert not any(map(is_row_number, ["item_index", "indexed", "position", "unnamed", "user_id"]))
    assert find_columns(["user", "item", *numbers], {}) == {"user": "user", "item": "item"}
    assert find_columns(["user", "item", "index"], {"time": "index"})["time"] == "index"


def test_a_missing_column_names_those_that_could_serve() -> None:
    with pytest.raises(DataError, match=r"no time column found; write .*when.* \(columns that could serve: when"):
        find_columns(["user", "item", "when"], {}, ["time"], lambda role: ["when"])
    with pytest.raises(DataError, match=r"columns found: user, c0, c1, .*c18, \.\.\. \(51 in all\)"):
        find_columns(["user", *(f"c{n}" for n in range(50))], {})
    with pytest.raises(DataError, match="add a header line"):
        find_columns(["u1", "b7", "2013-04-03"], {})


def test_given_columns_are_checked() -> None:
    names = ["user_id", "item_id", "when"]
    with pytest.raises(DataError, match="did you mean 'when'"):
        find_columns(names, {"time": "wehn"})
    with pytest.raises(DataError, match="unknown role 'users'"):
        find_columns(names, {"users": "user_id"})
    with pytest.raises(DataError, match="its own column"):
        find_columns(names, {"user": "when", "item": "when"})


def test_id_column_of_metadata() -> None:
    assert find_id_column(["sku", "asin"], "item", "asin") == "asin"
    assert find_id_column(["movie_id", "title"], "item", "item_id") == "movie_id"
    with pytest.raises(DataError, match="items table has no column 'item_id'"):
        find_id_column(["name"], "item", "item_id")
