"""Items without an event: candidates by default, never those whose events were dropped on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparcode.config import DataConfig
from sparcode.data.dataset import Dataset, id_hashes, load_dataset
from sparcode.data.tables import Tables
from sparcode.data.validate import report_lines, validate

EVENTS = pa.table(
    {
        "user_id": np.repeat(np.arange(6), 4),
        "item_id": [1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 4, 6, 1, 3, 4, 2, 2, 1, 3, 4, 1, 2, 3, 7],
        "timestamp": np.arange(24),
        "rating": [5.0] * 23 + [1.0],
    }
)


def load(items: Any, events: pa.Table = EVENTS, like: Dataset | None = None, **config: Any) -> Dataset:
    table = (
        items
        if isinstance(items, pa.Table)
        else pa.table({"item_id": items, "kind": ["ab"[i % 2] for i in range(len(items))]})
    )
    return load_dataset(Tables(events, table), DataConfig(text_width=0, **config), seed=0, like=like)


def names(dataset: Dataset) -> set[Any]:
    return set(dataset.item_ids.external.to_pylist())


def test_items_of_the_table_alone_are_items() -> None:
    found = load([1, 2, 3, 4, 5, 6, 7, 8, 9, 9, None])
    assert names(found) == set(range(1, 10))
    assert found.items_without_event == found.summary["items_without_event"] == 2
    assert found.summary["catalogue"] == {"added": 2, "cleaned_away": 0, "foreign_ids": 0}
    assert found.popularity[found.item_ids.to_internal([8, 9])].tolist() == [0, 0]
    assert found.item_features is not None
    assert found.item_features.categories(int(found.item_ids.to_internal([8])[0])) == ["kind=b"]
    assert len(found.train.items) == len(load([1, 2, 3, 4, 5, 6, 7]).train.items)


def test_the_key_switches_it_off() -> None:
    found = load([1, 2, 8, 9], catalogue_items=False)
    assert names(found) == set(range(1, 8))
    assert "catalogue" not in found.summary


def test_no_order_tells_a_held_out_item_from_one_without_an_event() -> None:
    found = load(list(range(1, 60)))
    hashes = id_hashes(found.item_ids.external, 0)
    assert np.array_equal(np.lexsort((hashes, -found.popularity)), np.arange(59))
    cold = np.flatnonzero(found.popularity == 0)
    held = found.item_ids.to_internal([5, 6, 7])
    assert found.popularity[held].tolist() == [0, 0, 0], "only in the test part"
    assert not np.array_equal(np.sort(held), cold[:3])


@pytest.mark.parametrize("config", [{"where": "rating>=2"}, {"min_rating": 2.0}, {"k_core": 2}])
def test_items_that_cleaning_dropped_do_not_come_back(config: dict[str, Any]) -> None:
    found = load([1, 2, 3, 4, 5, 6, 7, 8], **config)
    assert 7 not in names(found)
    assert 8 in names(found)
    dropped = {5, 6, 7} if "k_core" in config else {7}
    assert found.summary["catalogue"] == {"added": 1, "cleaned_away": len(dropped), "foreign_ids": 0}
    assert names(found) == set(range(1, 9)) - dropped


def test_ids_that_cannot_stand_beside_integers_are_left_out_with_a_word() -> None:
    with pytest.warns(UserWarning, match=r"items table: 2 ids are no integers"):
        found = load(["1", "2", "3", "01", "new"])
    assert names(found) == set(range(1, 8))
    text = EVENTS.set_column(1, "item_id", EVENTS["item_id"].cast(pa.string()))
    assert names(load(["1", "2", "3", "01", "new", " "], text)) == {*map(str, range(1, 8)), "01", "new"}


def test_a_table_that_joins_nothing_adds_nothing_and_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="none of the 7 items with events has a row"):
        found = load([f"{i}.0" for i in range(1, 8)])
    assert names(found) == set(range(1, 8))
    assert len(found.summary["warnings"]) == 1
    with pytest.warns(UserWarning, match="none of the 7 items"):
        assert names(load([901, 902])) == set(range(1, 8))


def test_a_users_table_that_joins_nothing_is_a_warning() -> None:
    users = pa.table({"user_id": ["u0", "u1"], "age": [1, 2]})
    with pytest.warns(UserWarning, match="users table: none of the 6 users with events has a row"):
        found = load_dataset(Tables(EVENTS, None, users), DataConfig(), seed=0)
    assert len(found.user_ids) == 6


def test_many_items_without_an_event_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparcode.data import catalogue

    monkeypatch.setattr(catalogue, "MANY", 100)
    with pytest.warns(UserWarning, match=r"193 items without an event stand beside 7 .*catalogue_items=false"):
        load(list(range(1, 201)))


def test_like_keeps_the_ids_and_appends_new_items_without_an_event() -> None:
    first = load([1, 2, 3, 4, 5, 6, 7, 8])
    again = load([10, 11], like=first, split_by="none")
    assert again.item_ids.external[:8].to_pylist() == first.item_ids.external.to_pylist()
    assert set(again.item_ids.external[8:].to_pylist()) == {10, 11}
    assert (again.summary["new_items"], again.items_without_event) == (2, 3)
    assert again.item_features is not None
    assert again.item_features.categories(int(again.item_ids.to_internal([8])[0])) == ["kind=b"]
    assert len(load([1], like=first, split_by="none").item_ids) == 8


def test_validate_counts_as_training_does() -> None:
    tables = Tables(EVENTS, pa.table({"item_id": [1, 2, 7, 8, 9], "kind": list("aabab")}))
    report = validate(tables, DataConfig(min_rating=2.0))
    assert (report["items"], report["items_without_event"]) == (8, 2)
    assert report["events_per_item"]["min"] == 1
    lines = "\n".join(report_lines(report))
    assert "2 of the items have no event" in lines
    assert "1 items of the items table whose events were all dropped" in lines
    strange = Tables(EVENTS, pa.table({"item_id": ["1.0"], "kind": ["a"]}))
    with pytest.warns(UserWarning, match=r"none of the 7 items"):
        report = validate(strange, DataConfig())
    assert any("warning" in line and "'.0'" in line for line in report_lines(report))
