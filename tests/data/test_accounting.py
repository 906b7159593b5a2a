"""Every event is accounted for, whatever the split; what nobody asks about is said."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparcode.config import DataConfig
from sparcode.data.dataset import load_dataset, prepare
from sparcode.data.split import TEST, VALIDATION, evaluation_set
from sparcode.data.tables import Tables, read_tables
from sparcode.data.validate import report_lines, validate
from sparcode.errors import DataError

PARTS = ["train", "valid", "test", "Train", " VALID ", "dev"]
ROWS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 8), st.integers(0, 9), st.sampled_from(PARTS)), min_size=2, max_size=60
)


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.table(
        dict(zip(("session_id", "item_id", "time", "split"), map(list, zip(*rows, strict=True)), strict=True))
    )


def tables(rows: list[tuple[Any, ...]]) -> Tables:
    return read_tables(table(rows), ())


def prepared(rows: list[tuple[Any, ...]], **config: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(tables(rows), DataConfig(**config), seed=0)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from(["column", "time", "leave-last-out", "none"]), st.sampled_from([0, 2]))
def test_every_row_is_counted_once(rows, by: str, core: int) -> None:
    try:
        found = prepared(rows, split_by=by, k_core=core)
    except DataError:
        assume(False)  # nothing is left to count; were this so of all, hypothesis would say so
    parts, removed = found.summary["parts"], found.summary["dropped"]
    used = parts["train"] + parts["validation"] + parts["test"]
    assert used + sum(parts["dropped"].values()) == len(found.events)
    assert used + sum(parts["dropped"].values()) + sum(removed.values()) == len(rows)
    for name, which in (("validation", VALIDATION), ("test", TEST)):
        held = evaluation_set(found.events, found.split, which)
        # What is counted for a part is a target, or the first event of a session that is asked by prefixes.
        firsts = 0 if held is None else len(held.target_items)
        if held is not None and by == "column":
            history = np.bincount(found.events.users[found.split.part < which], minlength=len(found.user_ids))
            firsts += len(np.unique(held.users[history[held.users] == 0]))
        assert parts[name] == firsts


def sessions(part: str, first: int, count: int, length: int) -> list[tuple[str, int, int, str]]:
    return [(f"{part}{s}", (s + k) % 11, 100 * (first + s) + k, part) for s in range(count) for k in range(length)]


TRAIN = sessions("train", 0, 20, 5)


def test_whole_validation_sessions_are_asked_by_prefix() -> None:
    rows = TRAIN + sessions("VALID", 20, 6, 4) + sessions("test", 26, 5, 3)
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    data = load_dataset(table(shuffled), DataConfig(split_by="column", text_width=0), seed=0)
    assert len(data.validation) == 6 * 3
    assert len(data.test) == 5 * 2
    assert data.summary["parts"] == {"train": 100, "validation": 24, "test": 15, "dropped": {}}
    assert data.summary["warnings"] == []
    lengths = np.diff(data.validation.queries.indptr).reshape(6, 3)
    assert (lengths == [1, 2, 3]).all()


def test_sessions_partly_in_train_ask_once() -> None:
    rows = TRAIN + [("train0", 9, 900, "valid"), ("train0", 10, 901, "valid"), ("train1", 9, 950, "test")]
    data = load_dataset(table(rows), DataConfig(split_by="column", text_width=0), seed=0)
    assert (len(data.validation), len(data.validation.target_items), len(data.test)) == (1, 2, 1)


def test_sessions_of_one_event_are_said() -> None:
    rows = TRAIN + sessions("valid", 20, 6, 1) + sessions("test", 26, 5, 3)
    with pytest.warns(UserWarning, match="6 of 6 validation events are in no query: they are the only"):
        data = load_dataset(table(rows), DataConfig(split_by="column", text_width=0), seed=0)
    assert data.validation is None
    assert data.summary["parts"]["dropped"] == {"single_event_sessions": 6}
    lines = report_lines(validate(table(rows), DataConfig(split_by="column")))
    assert any(line.startswith("dropped   6 held-out events of users who have no other") for line in lines)


def test_whole_sessions_after_a_cut_are_said() -> None:
    rows = TRAIN + sessions("test", 20, 8, 3)
    with pytest.warns(UserWarning, match="test events are in no query: users who first appear"):
        found = prepare(tables(rows), DataConfig(split_by="time", time_cut=0.85), seed=0)
    assert found.summary["parts"]["dropped"]["without_history"] > 0


def test_no_test_rows_are_said() -> None:
    with pytest.warns(UserWarning, match="no row is named test"):
        prepare(tables(TRAIN + sessions("valid", 20, 3, 3)), DataConfig(split_by="column"), seed=0)


def test_histories_from_the_future_are_said() -> None:
    rows = TRAIN + [("train0", 9, 5000, "test"), ("train0", 8, 6000, "valid"), ("train1", 3, 7000, "test")]
    with pytest.warns(UserWarning, match="histories of 1 users hold events later"):
        prepare(tables(rows), DataConfig(split_by="column"), seed=0)


def test_unknown_names_are_counted() -> None:
    rows = TRAIN + [("a", 1, 1, "holdout"), ("a", 2, 2, "holdout"), ("b", 1, 1, None)]
    message = r"holds 'holdout', ''; expected train, valid .* found 'holdout' in 2 rows, no value in 1 rows of 103"
    with pytest.raises(DataError, match=message):
        prepare(tables(rows), DataConfig(split_by="column"), seed=0)


def test_names_of_rows_that_are_left_out_do_not_matter() -> None:
    rows = TRAIN + [("a", 1, 1, "holdout")]
    found = prepared(rows, split_by="column", k_core=2)
    assert found.summary["dropped"]["k_core"] == 1
