"""Attributes of items: what kind a column is, what is inverted, saving, and the rows of an earlier run."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.config import DataConfig
from sparcode.data.attribute_columns import compile_attributes, overlaid
from sparcode.data.attributes import TEXTUAL, Attribute, ItemAttributes
from sparcode.data.dataset import load_dataset, open_dataset, save_dataset
from sparcode.data.storage import verify_dataset
from sparcode.data.synthetic import planted_groups
from sparcode.data.tables import Tables
from sparcode.errors import CorruptIndexError
from sparcode.query.attributes import AttributeFilter

DAY = datetime.date(2020, 2, 29)
MICROSECONDS = 1582934400 * 10**6


def by_item(attribute: Attribute, count: int) -> list[Any]:
    """Return the value of every item (of lists and repeats a sorted list), None where it is missing."""
    found: list[list[Any]] = [[] for _ in range(count)]
    for place in range(len(attribute.values)):
        for item in attribute.items[attribute.indptr[place] : attribute.indptr[place + 1]]:
            found[item].append(attribute.value(place))
    missing = set(attribute.missing.tolist())
    if attribute.kind == "list":
        return [None if item in missing else values for item, values in enumerate(found)]
    assert all(len(values) == (item not in missing) for item, values in enumerate(found))
    return [values[0] if values else None for values in found]


def same(one: Attribute, other: Attribute) -> None:
    """Compare two attributes part by part."""
    assert one.kind == other.kind
    assert list(map(one.value, range(len(one.values)))) == list(map(other.value, range(len(other.values))))
    for part in ("indptr", "items", "missing"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
        assert getattr(one, part).dtype == getattr(other, part).dtype


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        ([3, None, 1, 3], "number", [3, None, 1, 3]),
        (pa.array([2**63, 1], pa.uint64()), "number", [float(2**63), 1.0]),
        ([2**60 + 1, 2**60], "number", [2**60 + 1, 2**60]),
        ([0.5, float("nan"), None, float("-inf")], "number", [0.5, None, None, float("-inf")]),
        (pa.array([0.1, 0.5], pa.float32()), "number", [float(np.float32(0.1)), 0.5]),
        ([decimal.Decimal("9.99"), None], "number", [9.99, None]),
        (["12", " 7 ", None], "number", [12, 7, None]),
        (["12", "7.5"], "number", [12.0, 7.5]),
        (["12", "x"], "text", ["12", "x"]),
        ([*["1995"] * 99, "V", None], "number", [*[1995] * 99, None, None]),
        (["123456789012345678", "1"], "text", ["123456789012345678", "1"]),
        (["b", "", None, " a"], "text", ["b", "", None, " a"]),
        (pa.array(["u", "v", "u"]).dictionary_encode(), "text", ["u", "v", "u"]),
        ([True, None, False], "truth", ["true", None, "false"]),
        ([["b", "a", "b"], [], None, [None, " ", " c "]], "list", [["a", "b"], [], None, ["c"]]),
        (pa.array([[2, 1], None], pa.list_(pa.int64(), 2)), "list", [["1", "2"], None]),
        (["x|y", None, "y", ""], "list", [["x", "y"], None, ["y"], []]),
        ([DAY, None], "time", [MICROSECONDS, None]),
        (
            pa.array([datetime.datetime(2020, 2, 29, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))]),
            "time",
            [MICROSECONDS],
        ),
    ],
)
def test_kinds_and_values(column: Any, kind: str, values: list[Any]) -> None:
    attributes = compile_attributes(pa.table({"c": column}))
    attribute = attributes.columns["c"]
    assert attribute.kind == kind
    assert by_item(attribute, len(values)) == values
    known = [attribute.value(place) for place in range(len(attribute.values))]
    assert known == sorted(set(known))
    assert isinstance(attribute.values, pa.Array) == (kind in TEXTUAL)
    attribute.check("c", len(values))


@pytest.mark.parametrize(
    ("name", "column", "reason"),
    [
        ("'a\"=b", [1], "its name cannot stand in a condition"),
        ("c", pa.array([None], pa.int64()), "empty"),
        ("c", [[0.5, 1.5]], "a vector"),
        ("c", ["word " * 20], "long text"),
        ("c", [["word " * 20]], "long text"),
        ("c", [{"x": 1}], "type struct"),
        ("c", [[DAY]], "type list"),
        ("c", [b"x"], "type binary"),
    ],
)
def test_what_cannot_filter_is_named_with_a_reason(name: str, column: Any, reason: str) -> None:
    attributes = compile_attributes(pa.table({name: column}))
    assert attributes.columns == {}
    assert attributes.skipped[name].startswith(reason)


@pytest.mark.parametrize("name", ["a=b", "this and that", "", "(c", "not c", " c ", 'c "'])
def test_a_name_that_needs_quotes_can_filter(name: str) -> None:
    found = AttributeFilter(compile_attributes(pa.table({name: [1, 2]})))
    quote = "'" if '"' in name else '"'
    assert found.where(f"{quote}{name}{quote} in (2, 3)").ids.tolist() == [1]


def test_no_rows_and_no_columns() -> None:
    assert compile_attributes(pa.table({})) == ItemAttributes(0)
    assert compile_attributes(pa.table({"c": pa.array([], pa.int64())})).skipped == {"c": "empty"}


ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3),
        st.none() | st.text("aß日 ", max_size=3),
        st.none() | st.lists(st.sampled_from(["x", "y", "Ünï"]), max_size=3),
    ),
    min_size=1,
    max_size=12,
)


def table_of(rows: list[tuple[Any, Any, Any]]) -> pa.Table:
    number, text, tags = zip(*rows, strict=True)
    types = (pa.int64(), pa.string(), pa.list_(pa.string()))
    columns = [pa.array(column, kind) for column, kind in zip((number, text, tags), types, strict=True)]
    return pa.table(columns, names=["number", "text", "tags"])


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.data())
def test_rows_of_an_earlier_run_stay_where_the_new_table_has_none(old: list, new: list, data: st.DataObject) -> None:
    count = max(len(old), len(new))
    blank = (None, None, None)
    old_rows, new_rows = ([*rows, *[blank] * (count - len(rows))] for rows in (old, new))
    replaced = [data.draw(st.booleans()) or item >= len(old) for item in range(count)]
    found = overlaid(compile_attributes(table_of(old)), compile_attributes(table_of(new_rows)), np.array(replaced))
    together = [n if r else o for o, n, r in zip(old_rows, new_rows, replaced, strict=True)]
    wanted = compile_attributes(table_of(together))
    assert found.count == wanted.count == count
    assert set(found.columns) == set(wanted.columns)
    assert found.skipped == wanted.skipped
    for name in wanted.columns:
        same(found.columns[name], wanted.columns[name])


def test_kinds_that_differ_from_the_earlier_run() -> None:
    old = compile_attributes(pa.table({"a": [1, 2], "b": ["x", "y"], "c": [True, False]}))
    new = compile_attributes(pa.table({"a": ["k", None], "b": [["z"], []], "c": [True, None]}))
    with pytest.warns(UserWarning, match="column 'a' held number values in the earlier run and holds text values now"):
        found = overlaid(old, new, np.array([True, False]))
    assert by_item(found.columns["a"], 2) == ["k", None]
    assert by_item(found.columns["b"], 2) == [["z"], ["y"]]
    assert by_item(found.columns["c"], 2) == ["true", "false"]


@pytest.fixture(scope="module")
def world() -> Tables:
    tables = planted_groups()
    assert tables.items is not None
    colour = ["röd", None] * (tables.items.num_rows // 2)
    return Tables(tables.interactions, tables.items.append_column("colour", pa.array(colour)))


def test_a_dataset_keeps_attributes_by_internal_id(world: Tables, tmp_path: Path) -> None:
    dataset = load_dataset(world, DataConfig(), seed=0)
    save_dataset(dataset, tmp_path / "data")
    opened = open_dataset(tmp_path / "data")
    assert dataset.item_attributes is not None
    assert opened.item_attributes is not None
    assert opened.item_attributes.skipped == dataset.item_attributes.skipped
    assert opened.item_attributes.bytes > 40 * 3 * 4, "three full columns of item ids"
    columns = opened.item_attributes.columns
    assert {name: part.kind for name, part in columns.items()} == {
        "title": "text", "categories": "list", "year": "number", "colour": "text",
    }  # fmt: skip
    for name, attribute in columns.items():
        same(attribute, dataset.item_attributes.columns[name])
    for internal, year in enumerate(by_item(columns["year"], 40)):
        assert year == 1950 + dataset.item_ids.to_external([internal])[0] - 100
    with pytest.raises(ValueError, match="read-only"):
        columns["year"].items[0] = 1


def test_like_keeps_attributes(world: Tables) -> None:
    first = load_dataset(world, DataConfig(), seed=0)
    without = load_dataset(world.interactions, DataConfig(), seed=0, like=first)
    assert first.item_attributes is not None
    assert without.item_attributes is not None
    for name, attribute in first.item_attributes.columns.items():
        same(attribute, without.item_attributes.columns[name])
    items = pa.table({"item_id": [100], "year": [1800]})
    other = load_dataset(Tables(world.interactions, items), DataConfig(), seed=0, like=first)
    assert other.item_attributes is not None
    place = int(first.item_ids.to_internal([100])[0])
    assert by_item(other.item_attributes.columns["year"], 40)[place] == 1800
    assert by_item(other.item_attributes.columns["title"], 40)[place] is None
    assert by_item(other.item_attributes.columns["title"], 40).count(None) == 1


def test_no_table_no_attributes_and_older_runs_open(world: Tables, tmp_path: Path) -> None:
    assert load_dataset(world.interactions, DataConfig(), seed=0).item_attributes is None
    save_dataset(load_dataset(world, DataConfig(), seed=0), tmp_path / "data")
    file = tmp_path / "data" / "dataset.json"
    content = json.loads(file.read_text())
    del content["item_attributes"]
    file.write_text(json.dumps(content))
    assert open_dataset(tmp_path / "data").item_attributes is None


@pytest.mark.parametrize("damage", ["missing", "kind", "columns", "count"])
def test_damage_is_found_when_opened(world: Tables, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "data"
    save_dataset(load_dataset(world, DataConfig(), seed=0), folder)
    content = json.loads((folder / "dataset.json").read_text())
    saved = content["item_attributes"]
    if damage == "missing":
        (folder / "item_attributes.arrow").unlink()
    elif damage == "kind":
        saved["columns"][0]["kind"] = "colour"
    elif damage == "columns":
        saved["columns"].append({"name": "more", "kind": "text"})
    else:
        saved["count"] = 7
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(CorruptIndexError, match="item_attributes.arrow .*train the run again") as caught:
        open_dataset(folder)
    assert "\n" not in str(caught.value)


def test_damage_inside_is_found_by_digest_and_when_used(world: Tables, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    dataset = load_dataset(world, DataConfig(), seed=0)
    save_dataset(dataset, folder)
    attributes = dataset.item_attributes
    assert attributes is not None
    pattern = attributes.columns["year"].items.tobytes()
    file = folder / "item_attributes.arrow"
    content = file.read_bytes()
    assert pattern in content
    file.write_bytes(content.replace(pattern, b"\xff" * len(pattern)))
    with pytest.raises(CorruptIndexError, match="item_attributes.arrow is damaged: its SHA-256"):
        verify_dataset(folder)
    opened = open_dataset(folder).item_attributes
    assert opened is not None
    with pytest.raises(CorruptIndexError, match="attribute 'year' is damaged"):
        opened.columns["year"].check("year", 40)
