"""Tables beside the interactions: which rows join, and what is said when hardly any does."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from sparcode.data.ids import IdMap
from sparcode.data.joins import align, mismatch
from sparcode.data.tables import read_file

IDS = IdMap(list(range(1, 61)), kind="item")


@pytest.mark.parametrize(
    ("spell", "cause"),
    [
        ("{}.0", "'.0'"),
        (" {}", "blanks"),
        ("{} ", "blanks"),
        ("{:03}", "leading zeros"),
        ('"{}"', "quotes"),
        ("00{}.0 ", "blanks, quotes, leading zeros"),
        ("item {}", None),
    ],
)
def test_a_table_that_joins_nothing_is_named_with_its_cause(spell: str, cause: str | None) -> None:
    text = [spell.format(value) for value in range(1, 61)]
    said = mismatch(pa.table({"item_id": text}), "item_id", IDS)
    assert said is not None
    assert said.startswith("items table: none of the 60 items with events has a row in it")
    assert repr(text[0]) in said
    assert (cause in said) if cause else "spelled" not in said
    other = mismatch(pa.table({"item_id": list(range(1, 61))}), "item_id", IdMap(text, kind="item"))
    assert other is not None, "and the other way round"
    assert (cause in other) if cause else "spelled" not in other


def test_letters_in_two_cases() -> None:
    said = mismatch(pa.table({"u": ["ANN", "BOB"]}), "u", IdMap(["ann", "bob"], kind="user"))
    assert said is not None
    assert "users table: none of the 2 users" in said
    assert "upper and lower case" in said


def test_few_rows_are_few_and_a_tenth_is_enough() -> None:
    few = pa.table({"item_id": [1, 2, 3, 4, 5, 900]})
    said = mismatch(few, "item_id", IDS)
    assert said is not None
    assert "only 5 of the 60 items with events have a row" in said
    assert "spelled" not in said
    assert mismatch(few, "item_id", IDS, respelled=True) is None
    assert mismatch(pa.table({"item_id": [1, 2, 3, 4, 5, 6]}), "item_id", IDS) is None
    assert mismatch(pa.table({"item_id": pa.array([None], pa.int64())}), "item_id", IDS) is not None


def test_rows_of_types_that_arrow_cannot_pick_from_are_aligned_too() -> None:
    columns = {
        "id": pa.array([3, 1]),
        "view": pa.array(["three", "one"], pa.string_view()),
        "bytes": pa.array([b"3", b"1"], pa.binary_view()),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["c", "a"])),
        "extension": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1], pa.int8())),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, counts = align(pa.table(columns), "id", IdMap([1, 2, 3]))
    assert table["view"].to_pylist() == ["one", None, "three"]
    assert table["runs"].to_pylist() == ["a", None, "c"]
    assert table["bytes"].to_pylist() == [b"1", None, b"3"]
    assert table["extension"].to_pylist() == [1, None, 0]
    assert counts == {"rows": 2, "unknown_ids": 0, "repeated_ids": 0, "without_row": 1}


def test_ids_that_a_file_spells_as_floats_are_read_as_integers_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,kind\n,x\n1.0,a\n2.0,b\n")
    with pytest.warns(UserWarning, match=r"items.csv: the ids in column 'item_id' are spelled as floats \('1.0'\)"):
        table = read_file(tmp_path / "items.csv")
    assert table["item_id"].to_pylist() == [None, 1, 2]
