"""Splits against slow references, and the properties that keep the future out of the past."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.config import DataConfig
from sparcode.data.cleaning import clean
from sparcode.data.split import TEST, TRAIN, VALIDATION, evaluation_set, split_events
from sparcode.errors import DataError

EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 9)), min_size=1, max_size=50)


def _events(rows, names=("user", "item", "time")):
    return clean(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), DataConfig(columns={}))[0]


def _by_user(events) -> dict[int, list[tuple[int, float, int]]]:
    sequences: dict[int, list[tuple[int, float, int]]] = {}
    for place, (user, item) in enumerate(zip(events.users.tolist(), events.items.tolist(), strict=True)):
        sequences.setdefault(user, []).append((item, float(events.times[place]), place))
    return sequences


def _contents(held) -> list[tuple[int, list[int], list[int]]]:
    if held is None:
        return []
    rows = range(len(held))
    return [(int(held.users[i]), held.queries.history(i).tolist(), held.targets(i).tolist()) for i in rows]


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_leave_last_out_equals_slow_reference(rows) -> None:
    events = _events(rows)
    sequences = {user: [item for item, _, _ in events_of] for user, events_of in _by_user(events).items()}
    split = split_events(events, DataConfig(), seed=0)
    long = {user: items for user, items in sorted(sequences.items()) if len(items) >= 3}
    assert _contents(evaluation_set(events, split, TEST)) == [(u, s[:-1], s[-1:]) for u, s in long.items()]
    assert _contents(evaluation_set(events, split, VALIDATION)) == [(u, s[:-2], s[-2:-1]) for u, s in long.items()]
    assert (split.part == TRAIN).sum() == len(events) - 2 * len(long)
    assert split.summary["users_with_under_3_events"] == len(sequences) - len(long)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from([0.6, 0.75, 0.9, 5.0]))
def test_time_cut_keeps_the_future_out(rows, cut: float) -> None:
    events = _events(rows)
    try:
        split = split_events(events, DataConfig(split_by="time", time_cut=cut), seed=0)
    except DataError:
        return
    part, times = split.part, events.times
    assert times[part == TRAIN].max() < times[part == TEST].min()
    if (part == VALIDATION).any():
        assert times[part == TRAIN].max() < times[part == VALIDATION].min()
        assert times[part == VALIDATION].max() < times[part == TEST].min()
    for which in (VALIDATION, TEST):
        expected = []
        for user, sequence in sorted(_by_user(events).items()):
            history = [item for item, _, place in sequence if part[place] < which]
            later = list(dict.fromkeys(item for item, _, place in sequence if part[place] == which))
            if history and later:
                expected.append((user, history, later))
        held = evaluation_set(events, split, which)
        assert _contents(held) == expected
        if held is not None:
            assert set(held.queries.times) == {split.cuts[which]}


def test_time_cut_of_equal_shares() -> None:
    events = _events([(i % 3, i, i) for i in range(100)])
    split = split_events(events, DataConfig(split_by="time", time_cut=0.8), seed=0)
    assert np.bincount(split.part).tolist() == [60, 20, 20]
    default = split_events(events, DataConfig(split_by="time"), seed=0)
    assert np.bincount(default.part).tolist() == [80, 10, 10]
    stamped = split_events(events, DataConfig(split_by="time", time_cut=95.0), seed=0)
    assert np.bincount(stamped.part).tolist() == [90, 5, 5]


def test_equal_times_cannot_be_cut_and_the_cut_is_named() -> None:
    with pytest.raises(DataError, match=r"time.cut.0\.9: 0 events lie before the cut and 10 from it on"):
        split_events(_events([(0, i, 5) for i in range(10)]), DataConfig(split_by="time"), seed=0)


@pytest.mark.parametrize("cut", [0.0, -1.0, 0.3, 1000.0, 1.0e-9])
def test_impossible_cuts(cut: float) -> None:
    events = _events([(0, i, i) for i in range(10)])
    with pytest.raises(DataError, match="time_cut="):
        split_events(events, DataConfig(split_by="time", time_cut=cut), seed=0)


def _column_events(rows):
    table = pa.table(dict(zip(("user", "item", "time", "split"), map(list, zip(*rows, strict=True)), strict=True)))
    return clean(table, DataConfig(split_by="column"))[0]


def test_column_with_all_parts() -> None:
    rows = [
        (0, 1, 1, "train"),
        (0, 2, 2, "Valid"),
        (0, 3, 3, "TEST"),
        (0, 3, 4, "test"),
        (0, 4, 0, "test"),
        (1, 5, 1, "train"),
    ]
    events = _column_events(rows)
    split = split_events(events, DataConfig(split_by="column"), seed=0)
    item = dict(zip(events.item_ids.to_pylist(), range(9), strict=False))
    assert _contents(evaluation_set(events, split, VALIDATION)) == [(0, [item[1]], [item[2]])]
    assert _contents(evaluation_set(events, split, TEST)) == [(0, [item[1], item[2]], [item[4], item[3]])]


def test_column_sessions_of_the_test_part_are_asked_by_prefix() -> None:
    rows = [
        (0, 0, 0, "train"),
        (0, 1, 1, "train"),
        (1, 2, 0, "test"),
        (1, 3, 1, "test"),
        (1, 2, 2, "test"),
        (2, 0, 0, "test"),
    ]
    rows += [(0, 2, 5, "test")]
    events = _column_events(rows)
    split = split_events(events, DataConfig(split_by="column"), seed=0)
    held = evaluation_set(events, split, TEST)
    assert _contents(held) == [(0, [0, 1], [2]), (1, [2], [3]), (1, [2, 3], [2])]
    assert held.queries.times.tolist() == [5, 1, 2]


def test_column_without_validation_draws_users() -> None:
    rows = [(user, item, item, "train") for user in range(40) for item in range(1 + user % 3)]
    rows += [(user, 9, 9, "test") for user in range(40)]
    events = _column_events(rows)
    split = split_events(events, DataConfig(split_by="column"), seed=3)
    again = split_events(events, DataConfig(split_by="column"), seed=3)
    assert np.array_equal(split.part, again.part)
    validation = evaluation_set(events, split, VALIDATION)
    assert len(validation) == split.summary["validation_users_drawn"] == 26
    assert all(len(targets) == 1 and history for _, history, targets in _contents(validation))
    assert all(9 not in history for _, history, _ in _contents(evaluation_set(events, split, TEST)))


def test_another_seed_draws_other_validation_users() -> None:
    rows = [(user, item, item, "train") for user in range(2500) for item in (1, 2)]
    events = _column_events(rows)
    drawn = [split_events(events, DataConfig(split_by="column"), seed=seed).part == VALIDATION for seed in (0, 1, 1)]
    assert [part.sum() for part in drawn] == [1000] * 3
    assert np.array_equal(drawn[1], drawn[2])
    assert 300 < (drawn[0] & drawn[1]).sum() < 500  # two in five by chance


def test_column_unknown_value() -> None:
    with pytest.raises(DataError, match="split column holds 'holdout'; expected train, valid"):
        split_events(_column_events([(0, 1, 1, "train"), (0, 1, 2, "holdout")]), DataConfig(split_by="column"), seed=0)
    with pytest.raises(DataError, match="split column holds ''"):
        split_events(_column_events([(0, 1, 1, "train"), (0, 1, 2, None)]), DataConfig(split_by="column"), seed=0)
    with pytest.raises(DataError, match="leaves no event for training"):
        split_events(_column_events([(0, 1, 1, "test"), (0, 2, 2, "test")]), DataConfig(split_by="column"), seed=0)


def test_none_trains_on_everything() -> None:
    events = _events([(0, i, i) for i in range(10)])
    split = split_events(events, DataConfig(split_by="none"), seed=0)
    assert not split.part.any()
    assert evaluation_set(events, split, TEST) is None
