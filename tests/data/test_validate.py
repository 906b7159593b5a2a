"""The report of data validate."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from sparcode.config import DataConfig
from sparcode.data.synthetic import planted_groups
from sparcode.data.tables import Tables
from sparcode.data.validate import report_lines, time_range, validate
from sparcode.errors import DataError


def test_counts() -> None:
    rows = [("a", 1, 10), ("a", 1, 10), ("a", 2, 20), ("a", 1, 20), ("a", 3, 30), ("b", 1, 5), ("c", 1, 1), ("c", 2, 2)]
    table = pa.table(dict(zip(("user", "item", "time"), map(list, zip(*rows, strict=True)), strict=True)))
    report = validate(table, DataConfig())
    json.dumps(report)
    assert report["events"] == 7
    assert report["duplicates"] == 1
    assert report["repeats"] == 1
    assert report["ties"] == 1
    assert report["one_event_users"] == 1
    assert report["users_with_under_3_events"] == 2
    assert report["density"] == pytest.approx(7 / 9)
    assert report["split"]["train_events"] == 5
    assert report["split"]["held_out_only_train"] == 2
    assert report["split"]["test_targets_in_history"] == 0
    text = "\n".join(report_lines(report))
    assert "user=user (guessed)" in text
    assert "1 exact duplicates" in text
    assert "2 users give no test query and only train (2 have fewer than 3 events, 1 one)" in text


def test_repeated_target_is_stated() -> None:
    table = pa.table({"user": [1, 1, 1], "item": [1, 2, 1], "time": [1, 2, 3]})
    report = validate(table, DataConfig())
    assert report["split"]["test_targets_in_history"] == 1
    assert any("count as misses" in line for line in report_lines(report))


def test_metadata_and_nothing_dropped() -> None:
    report = validate(planted_groups(noise=0.0, events=6), DataConfig())
    lines = report_lines(report)
    assert "dropped   nothing" in lines
    assert any(line.startswith("items") and "categories, year" in line for line in lines)
    assert any(line.startswith("users") and "gender, age" in line for line in lines)
    assert any("2001-09-09T" in line for line in lines)


def test_without_time() -> None:
    table = pa.table({"user": [1, 1, 1], "item": [1, 2, 3]})
    with pytest.warns(UserWarning, match="order of the rows"):
        report = validate(Tables(table), DataConfig(split_by="none"))
    assert report["time"] == {"kind": "file order"}
    assert any(line.startswith("warning") for line in report_lines(report))


def test_time_kinds() -> None:
    assert time_range(np.array([0.0, 7.0]))["kind"] == "positions or counters"
    assert time_range(np.array([1e9, 1.1e9]))["first_date"] == "2001-09-09T01:46:40+00:00"
    assert time_range(np.array([1e12, 1.1e12]))["first_date"] == "2001-09-09T01:46:40+00:00"


def test_unusable_data_are_errors_as_in_training() -> None:
    with pytest.raises(DataError, match="row 1 has no time"):
        validate(pa.table({"user": [1], "item": [1], "time": pa.array([None], pa.int64())}), DataConfig())
