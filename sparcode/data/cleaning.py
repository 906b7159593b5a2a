"""What is removed before splitting: low ratings, exact duplicates, rare users and items. All of it is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.config import DataConfig
from sparcode.data.columns import find_columns
from sparcode.data.comparison import printed_as
from sparcode.data.interactions import Interactions, build_interactions, other_time_columns
from sparcode.data.times import could_be_times
from sparcode.data.where.form import terms_of
from sparcode.data.where.grammar import parse_condition
from sparcode.data.where.rows import rows_where
from sparcode.errors import DataError
from sparcode.wording import warn


class NoTimeWarning(UserWarning):
    """The data have no time column, so the order of the file is taken as the order of events."""


def clean(table: pa.Table, config: DataConfig) -> tuple[Interactions, dict[str, Any]]:
    """Find columns, filter rows, check times, drop duplicates and rare users and items.

    Returns events sorted by user, then time; equal times keep file order; and a summary (JSON-able) with
    ``columns``, ``ignored``, ``rows`` and the counts under ``dropped``. Raises DataError when nothing is left.
    """
    columns = find_columns(table.column_names, config.columns, _needed(config), lambda role: _serving(table, role))
    summary: dict[str, Any] = {"columns": columns, "guessed": sorted(set(columns) - set(config.columns))}
    summary["ignored"] = ignored_columns(table.column_names, columns, config)
    used = {role: name for role, name in columns.items() if role in {"user", "item", "time", *_needed(config)}}
    rows = np.arange(table.num_rows, dtype=np.int64)
    selected = table.select(list(used.values()))
    if config.where:
        rows = np.flatnonzero(rows_where(table, config.where))
        selected = selected.take(pa.array(rows))
    summary |= {"rows": table.num_rows, "dropped": {"where": table.num_rows - len(rows)}}
    _require(len(rows), f"where {config.where!r}")
    events = build_interactions(selected, used, rows)
    if events.times is None:
        warn("no time column: the order of the rows is taken as time", NoTimeWarning, stacklevel=3)
    for reason, step in _steps(table, columns, config):
        before = len(events)
        events = step(events)
        if reason != "time":
            summary["dropped"][reason] = before - len(events)
        _require(len(events), f"--{reason.replace('_', '-')}")
    return events, summary


def ignored_columns(names: Sequence[str], columns: Mapping[str, str], config: DataConfig) -> list[str]:
    """Return the columns that nothing reads: neither --where nor a role; a split where the split is not by it."""
    unread = {name for role, name in columns.items() if role == "split" and config.split_by != "column"}
    known = set(columns.values()) - unread
    if config.where:
        known |= {term.column for term in terms_of(parse_condition(config.where, names))}
    return [name for name in names if name not in known]


def drop_low_ratings(events: Interactions, min_rating: float) -> Interactions:
    """Keep events rated at least ``min_rating``; a missing rating does not count as one."""
    assert events.ratings is not None
    return events.select(events.ratings >= min_rating)


def drop_duplicates(events: Interactions) -> Interactions:
    """Keep the first of rows with the same user, item and time; nothing is a duplicate without times.

    Events must be sorted by user and time.
    """
    if events.times is None:
        return events
    same = (events.users[1:] == events.users[:-1]) & (events.times[1:] == events.times[:-1])
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    moment = np.cumsum(np.insert(~same, 0, False))[tied]
    order = np.lexsort((events.items[tied], moment))
    moment, items = moment[order], events.items[tied][order]
    again = (moment[1:] == moment[:-1]) & (items[1:] == items[:-1])
    keep = np.ones(len(events), dtype=bool)
    keep[tied[order[1:][again]]] = False
    return events.select(keep)


def k_core(events: Interactions, k: int) -> Interactions:
    """Drop users and items with fewer than ``k`` events, again and again until none is left."""
    while len(events):
        per_user = np.bincount(events.users, minlength=len(events.user_ids))
        per_item = np.bincount(events.items, minlength=len(events.item_ids))
        keep = (per_user[events.users] >= k) & (per_item[events.items] >= k)
        if keep.all():
            break
        events = events.select(keep)
    return events


def check_times(events: Interactions, table: pa.Table, columns: dict[str, str]) -> Interactions:
    """Raise DataError for a missing, infinite or negative time; return the events unchanged."""
    if events.times is None:
        return events
    broken = np.flatnonzero(~(np.isfinite(events.times) & (events.times >= 0)))
    if not len(broken):
        return events
    value = events.times[broken[0]]
    problem = "no time" if np.isnan(value) else f"the time {value:g}"
    others = other_time_columns(table, columns)
    remedy = f"use another column: --columns time={others[0]}" if others else "remove these rows, e.g. with --where"
    listed = f" (columns that could serve: {', '.join(others)})" if others else ""
    raise DataError(
        f"row {events.rows[broken[0]] + 1:,} has {problem} in column {columns['time']!r} "
        f"({len(broken):,} such rows of {len(events):,}); {remedy}{listed}"
    )


def _needed(config: DataConfig) -> list[str]:
    needed = [] if config.min_rating is None else ["rating"]
    if config.split_by == "column":
        needed.append("split")
    return needed + (["time"] if config.split_by == "time" else [])


def _serving(table: pa.Table, role: str) -> list[str]:
    return could_be_times(table) if role == "time" else []


def _steps(
    table: pa.Table, columns: dict[str, str], config: DataConfig
) -> list[tuple[str, Callable[[Interactions], Interactions]]]:
    steps: list[tuple[str, Callable[[Interactions], Interactions]]] = []
    if config.min_rating is not None:
        low = _as_column_prints(config.min_rating, table[columns["rating"]].type)
        steps.append(("min_rating", lambda events: drop_low_ratings(events, low)))
    steps.append(("time", lambda events: chronological(check_times(events, table, columns))))
    steps.append(("duplicates", drop_duplicates))
    if config.k_core > 1:
        steps.append(("k_core", lambda events: k_core(events, config.k_core)))
    return steps


def _as_column_prints(value: float, kind: pa.DataType) -> float:
    """Return what a column of a float type holds in place of a written number: 0.7 is the float32 0.7."""
    return printed_as(value, np.dtype(kind.to_pandas_dtype())) if pa.types.is_floating(kind) else value


def chronological(events: Interactions) -> Interactions:
    """Sort by user, then time; equal times keep file order, and so does everything without times."""
    if events.times is None:
        return events.select(np.argsort(events.users, kind="stable"))
    start, users = events.times.min(), events.users.astype(np.int64)
    span = events.times.max() - start + 1
    if span * len(events.user_ids) < 2.0**53 and not (events.times % 1).any():
        # One integer key sorts ten times faster than two keys.
        return events.select(np.argsort(users * int(span) + (events.times - start).astype(np.int64), kind="stable"))
    return events.select(np.lexsort((events.times, events.users)))


def _require(count: int, reason: str) -> None:
    if count == 0:
        raise DataError(f"no rows are left after {reason}; loosen it or check the data")
