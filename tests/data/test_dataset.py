"""load_dataset end to end: ids, popularity order, splits, `like`, saving and opening."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode.config import DataConfig
from sparcode.data.dataset import Dataset, id_hashes, load_dataset, open_dataset, save_dataset
from sparcode.data.features import Features
from sparcode.data.synthetic import planted_groups, planted_successors, write_world
from sparcode.data.tables import Tables
from sparcode.errors import CorruptIndexError, DataError


@pytest.fixture(scope="module")
def world() -> Dataset:
    return load_dataset(planted_groups(), DataConfig(), seed=0)


def _same_sequences(a, b) -> None:
    assert np.array_equal(a.indptr, b.indptr)
    assert np.array_equal(a.items, b.items)
    assert np.array_equal(a.times, b.times)


def _same_held(a, b) -> None:
    assert np.array_equal(a.users, b.users)
    assert np.array_equal(a.queries.indptr, b.queries.indptr)
    assert np.array_equal(a.queries.items, b.queries.items)
    assert np.array_equal(a.queries.times, b.queries.times)
    assert np.array_equal(a.target_indptr, b.target_indptr)
    assert np.array_equal(a.target_items, b.target_items)


def _same_features(a: Features, b: Features) -> None:
    assert a.layout.to_json() == b.layout.to_json()
    rows = np.arange(len(a))
    assert len(a) == len(b)
    assert np.array_equal(a.dense(rows), b.dense(rows))


def test_shapes_types_and_counts(world: Dataset) -> None:
    assert (world.user_count, world.item_count) == (60, 40)
    assert world.train.items.dtype == np.int32
    assert world.train.indptr.dtype == np.int64
    assert world.serving.times.dtype == np.float64
    assert len(world.train) == len(world.serving) == 60
    assert world.validation is not None
    assert world.test is not None
    assert world.test.users.dtype == np.int32
    assert world.summary["train_events"] == len(world.train.items)
    assert len(world.serving.items) == world.summary["events"] == len(world.train.items) + 120
    json.dumps(world.summary)


def test_serving_is_train_then_validation_then_test(world: Dataset) -> None:
    assert world.validation is not None
    assert world.test is not None
    for user in range(60):
        whole = world.serving.row(user).tolist()
        assert world.train.row(user).tolist() == whole[:-2] == world.validation.queries.history(user).tolist()
        assert world.validation.targets(user).tolist() == whole[-2:-1]
        assert world.test.queries.history(user).tolist() == whole[:-1]
        assert world.test.targets(user).tolist() == whole[-1:]


def test_internal_ids_are_popularity_order(world: Dataset) -> None:
    popularity = np.bincount(world.train.items, minlength=world.item_count)
    assert np.array_equal(popularity, world.popularity)
    hashes = id_hashes(world.item_ids.external, 0)
    order = np.lexsort((hashes, -popularity))
    assert np.array_equal(order, np.arange(world.item_count))
    assert world.user_ids.to_external(range(3)) == ["u000", "u001", "u002"]


def test_ids_do_not_depend_on_row_order_and_ties_depend_on_seed() -> None:
    table = pa.table({"user": np.arange(50), "item": np.arange(50) * 7, "time": np.arange(50)})
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(50)))
    first = load_dataset(table, DataConfig(), seed=0)
    assert first.item_ids.external == load_dataset(shuffled, DataConfig(), seed=0).item_ids.external
    other = load_dataset(table, DataConfig(), seed=1)
    assert first.item_ids.external != other.item_ids.external
    assert first.validation is None
    assert first.test is None
    assert first.summary["split"] == {"by": "leave-last-out", "users_with_under_3_events": 50}


def test_same_data_in_any_form(tmp_path: Path) -> None:
    from pyarrow import csv

    tables = planted_groups()
    folder = write_world(tables, tmp_path / "world")
    csv.write_csv(tables.interactions, tmp_path / "a.csv")
    expected = load_dataset(folder, DataConfig(), seed=0)
    found = load_dataset(tmp_path / "a.csv", DataConfig(), seed=0)
    assert found.item_ids.external == expected.item_ids.external
    _same_sequences(found.train, expected.train)
    assert found.item_features is None
    assert expected.item_features is not None


def test_metadata_joins_by_id(world: Dataset) -> None:
    assert world.titles is not None
    for internal, external in enumerate(world.item_ids.to_external(range(40))):
        assert world.titles[internal] == f"Item {external - 100}"
        assert world.item_features is not None
        assert world.item_features.categories(internal) == [f"categories=group {(external - 100) % 4}"]
    assert world.titles[:2] == list(world.titles)[:2]
    assert world.user_features is not None
    assert world.user_features.vocabulary == ["gender=F", "gender=M"]
    assert world.summary["items_table"]["without_row"] == 0


def test_unknown_rows_are_ignored_and_counted() -> None:
    tables = planted_groups(users=10, items=8, groups=2)
    items = pa.table({"item_id": [100, 100, 999], "title": ["first", "second", "unknown"]})
    found = load_dataset(Tables(tables.interactions, items), DataConfig(catalogue_items=False), seed=0)
    assert found.titles is not None
    assert sorted(set(found.titles)) == ["", "first"]
    counts = found.summary["items_table"]
    assert (counts["unknown_ids"], counts["repeated_ids"], counts["without_row"]) == (1, 1, found.item_count - 1)


def test_save_and_open(world: Dataset, tmp_path: Path) -> None:
    save_dataset(world, tmp_path / "data")
    opened = open_dataset(tmp_path / "data")
    assert opened.item_ids.external == world.item_ids.external
    assert opened.user_ids.external == world.user_ids.external
    _same_sequences(opened.train, world.train)
    _same_sequences(opened.serving, world.serving)
    _same_held(opened.validation, world.validation)
    _same_held(opened.test, world.test)
    assert list(opened.titles or []) == list(world.titles or [])
    assert opened.item_features is not None
    assert opened.user_features is not None
    _same_features(opened.item_features, world.item_features)
    _same_features(opened.user_features, world.user_features)
    assert np.array_equal(opened.popularity, world.popularity)
    assert opened.summary == world.summary
    with pytest.raises(ValueError, match="read-only"):
        opened.train.items[0] = 1


def test_saving_again_replaces_and_is_deterministic(world: Dataset, tmp_path: Path) -> None:
    save_dataset(world, tmp_path / "data")
    before = {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    save_dataset(world, tmp_path / "data")
    assert {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_failed_save_leaves_the_earlier_one(world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparcode.data import storage

    save_dataset(world, tmp_path / "data")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        save_dataset(world, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert open_dataset(tmp_path / "data").item_count == 40


def test_no_times_no_metadata_survive_saving(tmp_path: Path) -> None:
    table = planted_successors().interactions.drop_columns(["timestamp"])
    with pytest.warns(UserWarning, match="order of the rows"):
        plain = load_dataset(table, DataConfig(split_by="none"), seed=0)
    assert plain.summary["warnings"] == ["no time column: the order of the rows is taken as time"]
    save_dataset(plain, tmp_path / "data")
    opened = open_dataset(tmp_path / "data")
    _same_sequences(opened.train, plain.train)
    assert (opened.validation, opened.test, opened.titles, opened.item_features) == (None, None, None, None)


@pytest.mark.parametrize("damage", ["missing", "truncated", "json", "format", "ids", "header"])
def test_damage_is_found(world: Dataset, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "data"
    save_dataset(world, folder)
    file = folder / "serving.arrow"
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "header":
        file.write_bytes(b"\0" * file.stat().st_size)
    elif damage == "ids":
        raw = file.read_bytes()
        items = world.serving.items.tobytes()
        assert raw.count(items) == 1
        file.write_bytes(raw.replace(items, b"\xff\xff\xff\x7f" + items[4:]))
    elif damage == "json":
        (folder / "dataset.json").write_text("{")
    else:
        text = (folder / "dataset.json").read_text()
        (folder / "dataset.json").write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(CorruptIndexError) as caught:
        open_dataset(folder)
    assert "\n" not in str(caught.value)


def test_like_keeps_ids_and_appends(world: Dataset) -> None:
    tables = planted_groups()
    extra = pa.table(
        {"user_id": ["a new user"] * 2, "item_id": [7777, 100], "timestamp": [2_000_000_000, 2_000_000_001]}
    )
    assert tables.items is not None
    new_items = pa.table({"item_id": [7777], "title": ["New"], "categories": [["group 1", "jazz"]], "year": [1950]})
    grown = Tables(pa.concat_tables([tables.interactions, extra]), new_items)
    found = load_dataset(grown, DataConfig(split_by="none"), seed=5, like=world)
    assert found.item_ids.external[:40] == world.item_ids.external
    assert found.user_ids.external[:60] == world.user_ids.external
    assert found.item_ids.to_external([40]) == [7777]
    assert found.user_ids.to_external([60]) == ["a new user"]
    assert (found.summary["new_users"], found.summary["new_items"]) == (1, 1)
    assert found.train.row(60).tolist() == found.item_ids.to_internal([7777, 100]).tolist()
    for user in range(60):
        assert found.train.row(user).tolist() == world.serving.row(user).tolist()
    assert found.titles is not None
    assert world.titles is not None
    assert found.titles[:41] == [*world.titles, "New"]
    assert found.item_features is not None
    assert world.item_features is not None
    assert found.item_features.vocabulary == world.item_features.vocabulary
    old_rows = np.arange(40)
    assert np.array_equal(found.item_features.dense(old_rows), world.item_features.dense(old_rows))
    assert found.item_features.categories(40) == ["categories=group 1"]
    assert found.summary["items_table"]["unknown_values"] == 1
    assert found.user_features is not None
    assert not found.user_features.dense([60]).any()


def test_like_with_fewer_items_keeps_the_catalogue(world: Dataset) -> None:
    few = planted_groups().interactions.slice(0, 24)
    found = load_dataset(few, DataConfig(), seed=0, like=world)
    assert found.item_count == 40
    assert len(found.train) == 60
    assert found.test is not None
    assert found.test.users.tolist() == [0, 1]
    assert found.titles is not None
    assert list(found.titles) == list(world.titles or [])


def test_like_with_other_kind_of_ids(world: Dataset) -> None:
    table = pa.table({"user_id": ["u000"] * 3, "item_id": ["100", "101", "x"], "timestamp": [1, 2, 3]})
    with pytest.raises(DataError, match="earlier run are integers, found 'x'"):
        load_dataset(table, DataConfig(), seed=0, like=world)
    fine = load_dataset(table.slice(0, 2), DataConfig(), seed=0, like=world)
    assert fine.item_count == 40


def test_dropped_users_and_items_have_no_id() -> None:
    table = pa.table({"user": [1, 1, 2, 2, 3], "item": [5, 6, 5, 6, 9], "time": [1, 2, 3, 4, 5]})
    found = load_dataset(table, DataConfig(k_core=2), seed=0)
    assert found.user_ids.external.to_pylist() == [1, 2]
    assert sorted(found.item_ids.external.to_pylist()) == [5, 6]


def test_time_cut_on_positions_warns() -> None:
    with pytest.warns(UserWarning, match="look like positions"):
        load_dataset(planted_successors(), DataConfig(split_by="time", time_cut=0.8), seed=0)


def test_opening_needs_no_compute_kernels(world: Dataset, tmp_path: Path) -> None:
    save_dataset(world, tmp_path / "data")
    code = (
        "import sys; from sparcode.data.storage import open_dataset; "
        f"d = open_dataset({str(tmp_path / 'data')!r}); d.user_ids.to_internal(['u003']); d.titles[3]; "
        "names = {'pyarrow.compute', 'pyarrow.parquet', 'pyarrow.csv', 'pandas', 'torch', 'scipy', 'sklearn'}; "
        "names |= {'pydantic', 'threadpoolctl'}; "
        "heavy = names & set(sys.modules); "
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_columns_that_are_no_features_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    events = pa.table({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "timestamp": [1, 2, 3]})
    items = pa.table({"item_id": [1, 2, 3], "imdb_id": [7, 8, 9], "Unnamed: 0": [0, 1, 2], "price": [1, 2, 3]})
    users = pa.table({"user_id": [1], "zip": ["a"], "nothing": pa.nulls(1)})
    with caplog.at_level("INFO", logger="sparcode"):
        found = load_dataset({"interactions": events, "items": items, "users": users}, DataConfig(), seed=0)
    assert "columns of items that are no features: imdb_id (an id), Unnamed: 0 (numbers of rows)" in caplog.messages
    assert "columns of users that are no features: zip (an id), nothing (empty)" in caplog.messages
    assert found.summary["items_table"]["ignored"] == {"imdb_id": "an id", "Unnamed: 0": "numbers of rows"}
