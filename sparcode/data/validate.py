"""``sparcode data validate``: what the data are, and what training will drop and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from sparcode.config import DataConfig
from sparcode.data.accounting import REASONS as SPLIT_REASONS
from sparcode.data.columns import listed
from sparcode.data.dataset import Prepared, prepare
from sparcode.data.interactions import Interactions
from sparcode.data.repeats import count_repeats as repeated_targets
from sparcode.data.repeats import repeats_line
from sparcode.data.split import TEST, TRAIN, VALIDATION, evaluation_set
from sparcode.data.tables import Tables, read_tables
from sparcode.data.times import ticks_per_second


def validate(data: Any, config: DataConfig, *, seed: int = 0) -> dict[str, Any]:
    """Return a JSON-able report on DATA; what cannot be used at all raises DataError, as in training.

    ``repeats``: events whose user had the item before (at another time). ``ties``: events at the time of the event
    before them. ``dropped``: rows by reason. ``parts``: where the events that are left go (``accounting.account``).
    ``held_out_only_train``: users that train but give no test query. ``..._targets_in_history``: targets that count
    as misses unless seen items are ranked.
    """
    tables = read_tables(data, config.columns.values())
    prepared = prepare(tables, config, seed)
    events, summary = prepared.events, prepared.summary
    users, items = len(prepared.user_ids), len(prepared.item_ids)
    per_user, per_item = np.bincount(events.users, minlength=users), np.bincount(events.items, minlength=items)
    report: dict[str, Any] = {
        "source": tables.source,
        "columns": summary["columns"],
        "guessed": summary["guessed"],
        "ignored": summary["ignored"],
        "rows": summary["rows"],
        "dropped": summary["dropped"],
        "events": len(events),
        "users": users,
        "items": items,
        "items_without_event": int((per_item == 0).sum()),
        "catalogue": summary.get("catalogue", {}),
        "density": len(events) / (users * items),
        "time": time_range(events.times),
        "duplicates": summary["dropped"]["duplicates"],
        "repeats": count_repeats(events),
        "ties": count_ties(events),
        "events_per_user": _spread(per_user),
        "events_per_item": _spread(per_item[per_item > 0]),
        "one_event_users": int((per_user == 1).sum()),
        "users_with_under_3_events": int((per_user < 3).sum()),
        "split": summary["split"] | _parts(prepared),
        "parts": summary["parts"],
        "metadata": _metadata(tables, prepared, config.text_width),
        "warnings": summary["warnings"],
    }
    return report


def report_lines(report: dict[str, Any]) -> list[str]:
    """Render a report as lines of text."""
    columns = ", ".join(
        f"{role}={name}{' (guessed)' if role in report['guessed'] else ''}" for role, name in report["columns"].items()
    )
    split = report["split"]
    lines = [
        f"data      {report['source']}",
        f"columns   {columns}",
        f"rows      {report['rows']:,}; kept {report['events']:,} events of {report['users']:,} users and "
        f"{report['items']:,} items (density {100 * report['density']:.4g} %)",
        f"time      {_time_line(report['time'])}",
        f"per user  {_spread_line(report['events_per_user'])}",
        f"per item  {_spread_line(report['events_per_item'])}",
        f"repeats   {report['repeats']:,} events of an item the user already had; "
        f"{report['ties']:,} events at the same time as the one before (file order decides)",
        f"split     {split['by']}: {split['train_events']:,} events train, {split['validation_queries']:,} validation "
        f"and {split['test_queries']:,} test queries",
    ]
    if report["items_without_event"]:
        lines.append(f"catalogue {report['items_without_event']:,} of the items have no event (known by content)")
    lines += [f"repeats   {line}" for line in _repeat_lines(split)]
    if report["ignored"]:
        lines.insert(2, f"not read  {listed(report['ignored'])} (--columns gives a role, --where selects rows)")
    lines += [f"dropped   {line}" for line in _dropped_lines(report)]
    for role, table in report["metadata"].items():
        lines.append(
            f"{role:<9} {table['rows']:,} rows; {table['without_row']:,} {role} without one, {_features(table)}"
        )
    return lines + [f"warning   {text}" for text in report["warnings"]]


def count_repeats(events: Interactions) -> int:
    """Return how many events are not the first of their (user, item)."""
    keys = events.users.astype(np.int64) * len(events.item_ids) + events.items
    return len(keys) - len(np.unique(keys))


def count_ties(events: Interactions) -> int:
    """Return how many events have the user and time of the event before; 0 without times."""
    if events.times is None:
        return 0
    return int(((events.users[1:] == events.users[:-1]) & (events.times[1:] == events.times[:-1])).sum())


def time_range(times: np.ndarray | None) -> dict[str, Any]:
    """Return first and last time and whether they are Unix seconds (milliseconds, ...) or positions."""
    if times is None:
        return {"kind": "file order"}
    first, last = float(times.min()), float(times.max())
    power = ticks_per_second(times)
    if power is None:
        return {"kind": "positions or counters", "first": first, "last": last}
    shown = [datetime.fromtimestamp(value / power, tz=UTC).isoformat(timespec="seconds") for value in (first, last)]
    return {"kind": "Unix time", "first": first, "last": last, "first_date": shown[0], "last_date": shown[1]}


def _parts(prepared: Prepared) -> dict[str, int]:
    events, split = prepared.events, prepared.split
    result = {"train_events": int((split.part == TRAIN).sum())}
    tested = np.zeros(0, dtype=np.int32)
    for name, which in (("validation", VALIDATION), ("test", TEST)):
        held = evaluation_set(events, split, which)
        result[f"{name}_queries"] = 0 if held is None else len(held)
        result[f"{name}_targets"] = 0 if held is None else len(held.target_items)
        result[f"{name}_targets_in_history"] = 0 if held is None else repeated_targets(held)
        if held is not None and which == TEST:
            tested = held.users
    result["held_out_only_train"] = len(prepared.user_ids) - len(np.unique(tested))
    return result


def _metadata(tables: Tables, prepared: Prepared, text_width: int) -> dict[str, Any]:
    from sparcode.data.metadata import missing_lines, read_metadata

    columns, found = prepared.summary["columns"], {}
    for role, table, ids in (("item", tables.items, prepared.item_ids), ("user", tables.users, prepared.user_ids)):
        if table is not None:
            item = role == "item"
            width = text_width if item else 0
            summary = read_metadata(table, role, columns[role], ids, title=item, text_width=width).summary
            summary["ignored"] |= tables.left_out.get(f"{role}s", {})
            found[f"{role}s"] = summary
            prepared.summary["warnings"] += missing_lines(role, summary)
    return found


def _spread(counts: np.ndarray) -> dict[str, float]:
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "max": int(counts.max()),
    }


def _spread_line(spread: dict[str, float]) -> str:
    return f"{spread['min']:,} to {spread['max']:,} events, median {spread['median']:g}, mean {spread['mean']:.1f}"


def _time_line(time: dict[str, Any]) -> str:
    if time["kind"] == "file order":
        return "no time column: the order of the rows counts"
    if "first_date" in time:
        return f"{time['first_date']} to {time['last_date']}"
    return f"{time['first']:g} to {time['last']:g} ({time['kind']}; no use for --split-by time)"


_REASONS = {
    "where": "rows that --where leaves out",
    "min_rating": "rows below --min-rating or without rating",
    "duplicates": "exact duplicates (same user, item and time)",
    "k_core": "events of users or items under --k-core",
}


def _dropped_lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{count:,} {_REASONS[reason]}" for reason, count in report["dropped"].items() if count]
    if cleaned := report["catalogue"].get("cleaned_away"):
        lines.append(f"{cleaned:,} items of the items table whose events were all dropped")
    split = report["split"]
    if split["held_out_only_train"] and split["by"] != "none":
        lines.append(
            f"{split['held_out_only_train']:,} users give no test query and only train "
            f"({report['users_with_under_3_events']:,} have fewer than 3 events, {report['one_event_users']:,} one)"
        )
    lines += [f"{count:,} {SPLIT_REASONS[reason]}" for reason, count in report["parts"]["dropped"].items()]
    return lines or ["nothing"]


def _repeat_lines(split: dict[str, Any]) -> list[str]:
    lines = []
    for name in ("validation", "test"):
        repeats, targets = split[f"{name}_targets_in_history"], split[f"{name}_targets"]
        if repeats:
            remedy = "train with --set query.include_seen=true, or evaluate --include-seen, to rank them"
            lines.append(repeats_line(repeats, targets, f"{name} targets", remedy))
    return lines


def _features(table: dict[str, Any]) -> str:
    features = table["features"]
    names = [*features.get("categories", {}), *features.get("numeric", []), *features.get("vectors", {})]
    ignored = [f"{name} ({reason})" for name, reason in table["ignored"].items()]
    line = f"features: {', '.join(names) or 'none'}"
    if text := table.get("text"):
        line += (
            f"; {text['vector']} is a vector of {text['width']} columns made of {', '.join(text['columns'])} "
            f"({text['terms']:,} terms, {text['rows']:,} rows)"
        )
    return line + (f"; left out: {', '.join(ignored)}" if ignored else "")
