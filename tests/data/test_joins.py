"""Tables beside the interactions: which rows join, and what is said when hardly any does."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode.data.attribute_columns import read_attributes
from sparcode.data.ids import IdMap
from sparcode.data.joins import align, mismatch
from sparcode.data.metadata import read_metadata
from sparcode.data.plain_types import plain_table
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


def test_long_text_is_cut_and_nothing_else() -> None:
    words = "word " * 100
    columns = {
        "id": [3, 9, 1, 2],
        "long": [f"{words}{place}" for place in range(3)] + [None],
        "one_long": ["a", "b", "c" * 500, None],
        "piped": [f"{words}|{words}"] * 4,
        "title": [words] * 4,
        "number": [1, 2, 3, 4],
    }
    table = pa.table({name: pa.chunked_array([values[:3], values[3:]]) for name, values in columns.items()})
    plain, counts = align(plain_table(table), "id", IdMap([1, 2, 3, 4]))
    cut, counts_of_cut = align(plain_table(table), "id", IdMap([1, 2, 3, 4]), longest=70, whole=["title"])
    assert counts == counts_of_cut
    assert plain["id"].to_pylist() == [1, 2, 3, None]
    assert plain["one_long"].to_pylist() == ["c" * 500, None, "a", None]
    assert cut.drop_columns(["long"]).equals(plain.drop_columns(["long"]))
    assert cut["long"].to_pylist() == [None if text is None else text[:70] for text in plain["long"].to_pylist()]


@pytest.mark.parametrize("text_width", [0, 4])
def test_cutting_long_text_changes_nothing_that_is_made_of_it(text_width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{word}" for word in rng.integers(0, 40, size)) for size in rng.integers(5, 900, 80)]
    columns = {"item_id": np.arange(80), "title": texts, "about": texts[::-1], "kind": ["a", "b"] * 40}
    table = plain_table(pa.table(columns))
    ids = IdMap(np.arange(80)[::-1])
    read = functools.partial(read_metadata, table, "item", "item_id", ids, title=True, text_width=text_width)
    found, attributes = read(), read_attributes(table, "item_id", ids)
    monkeypatch.setattr("sparcode.data.joins._cut", lambda column, longest: column)
    whole, whole_attributes = read(), read_attributes(table, "item_id", ids)
    assert found.summary == whole.summary
    assert found.titles.to_pylist() == whole.titles.to_pylist() == texts[::-1]
    assert np.array_equal(found.features.dense(range(80)), whole.features.dense(range(80)))
    assert attributes.to_json() == whole_attributes.to_json()
