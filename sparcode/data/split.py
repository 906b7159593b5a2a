"""Which events train, which are held out: leave-last-out, a cut in time, a given column, or none.

All functions take events sorted by user and time. Stable: equal times keep file order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sparcode.config import DataConfig
from sparcode.data.interactions import Interactions
from sparcode.data.times import date_in_unit_of, ticks_per_second, unit_name
from sparcode.errors import DataError
from sparcode.seeding import generator
from sparcode.types import EvaluationSet, Queries

TRAIN, VALIDATION, TEST = 0, 1, 2

_NAMES = {"train": TRAIN, "training": TRAIN, "valid": VALIDATION, "validation": VALIDATION, "val": VALIDATION}
_NAMES |= {"dev": VALIDATION, "test": TEST, "testing": TEST}
_DEFAULT_CUT = 0.9


@dataclass(frozen=True)
class Split:
    """``part``: int8 (events,) one of TRAIN, VALIDATION, TEST. ``cuts``: time from which each part begins, if cut."""

    part: np.ndarray
    cuts: dict[int, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def split_events(events: Interactions, config: DataConfig, seed: int) -> Split:
    """Assign every event to a part, by ``config.split_by``. DataError when no training event is left."""
    if config.split_by == "time":
        split = by_time(events, config.time_cut)
    elif config.split_by == "column":
        split = by_column(events, seed)
    elif config.split_by == "none":
        split = Split(np.zeros(len(events), dtype=np.int8))
    else:
        split = leave_last_out(events)
    if not (split.part == TRAIN).any():
        raise DataError(f"split-by {config.split_by} leaves no event for training; move the cut or use another split")
    return split


def leave_last_out(events: Interactions) -> Split:
    """Last event of each user = test, last but one = validation; users with fewer than 3 events only train."""
    indptr = row_pointers(events.users, len(events.user_ids))
    lengths = np.diff(indptr)
    long = lengths >= 3
    part = np.zeros(len(events), dtype=np.int8)
    ends = indptr[1:][long]
    part[ends - 1] = TEST
    part[ends - 2] = VALIDATION
    short = int(np.sum((lengths > 0) & ~long))
    return Split(part, summary={"users_with_under_3_events": short})


def by_time(events: Interactions, cut: float | str | None) -> Split:
    """Events from the cut on = test, an equal number of events before it = validation.

    ``cut``: a share of the events (at most 1), a timestamp in the unit of the times, or an ISO date; absent: 0.9.
    Equal times stay on one side.
    """
    if events.times is None:
        raise DataError("split-by time needs a time column; write --columns time=NAME")
    ordered = np.sort(events.times)
    cut = _DEFAULT_CUT if cut is None else cut
    test_from = _cut_time(ordered, cut)
    before = int(np.searchsorted(ordered, test_from, side="left"))
    after = len(ordered) - before
    if before == 0 or after == 0 or after >= before:
        raise DataError(
            f"--time-cut {cut}: {before:,} events lie before the cut and {after:,} from it on; the part before must "
            f"hold training and an equally large validation part (times run from {_shown_range(ordered)})"
        )
    validation_from = float(ordered[before - after])
    part = np.zeros(len(events), dtype=np.int8)
    part[events.times >= validation_from] = VALIDATION
    part[events.times >= test_from] = TEST
    cuts = {VALIDATION: validation_from, TEST: test_from}
    return Split(part, cuts, {"validation_from": validation_from, "test_from": test_from})


def by_column(events: Interactions, seed: int) -> Split:
    """Parts as named in the split column; without validation rows, last training events of some users serve.

    Those users: a seeded tenth of the users with at least 2 training events, but at least 1,000 of them.
    """
    assert events.splits is not None
    _require_known(events)
    codes = np.array([_NAMES.get(name.strip().lower(), TRAIN) for name in events.split_names], dtype=np.int8)
    part = codes[events.splits]
    if (part == VALIDATION).any():
        return Split(part)
    chosen = _last_training_events(events, part, seed)
    part[chosen] = VALIDATION
    return Split(part, summary={"validation_users_drawn": len(chosen)})


def evaluation_set(events: Interactions, split: Split, which: int) -> EvaluationSet | None:
    """Queries and targets of one part, or None when it holds nothing to ask.

    The history of a query is everything of the earlier parts. Users with such a history give one query: targets are
    their distinct events of the part, in order. Users without (sessions that are in the part as a whole) give one
    query for every prefix: target is the next event; not for a cut in time. Times: of the first target.
    """
    earlier, mine = split.part < which, split.part == which
    known, sessions = asked_users(events, split, which)
    queries = _queries_of_users(events, earlier, mine, known, split.cuts.get(which))
    if sessions.any():
        queries = _merge(queries, _queries_of_prefixes(events, mine, sessions))
    return queries if len(queries) else None


def asked_users(events: Interactions, split: Split, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks (users,): who gives one query after a history, and whose whole session is asked by prefixes.

    Nobody else is asked: with a cut in time users without a history, otherwise those whose only event is in the part.
    """
    users = len(events.user_ids)
    history = np.bincount(events.users[split.part < which], minlength=users)
    wanted = np.bincount(events.users[split.part == which], minlength=users)
    sessions = (history == 0) & (wanted > 1) if not split.cuts else np.zeros(users, bool)
    return (history > 0) & (wanted > 0), sessions


def row_pointers(rows: np.ndarray, count: int) -> np.ndarray:
    """Return int64 (count + 1,) pointers of sorted row numbers."""
    indptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=indptr[1:])
    return indptr


def _cut_time(ordered: np.ndarray, cut: float | str) -> float:
    if isinstance(cut, str):
        return date_in_unit_of(cut, ordered)
    if cut <= 0 or not np.isfinite(cut):
        raise DataError(f"--time-cut {cut}: expected a share between 0 and 1, a timestamp or a date such as 2020-01-01")
    return float(ordered[min(int(cut * len(ordered)), len(ordered) - 1)]) if cut <= 1 else float(cut)


def _require_known(events: Interactions) -> None:
    """Raise DataError for values of the split column that name no part, with the number of their rows."""
    assert events.splits is not None
    counts = np.bincount(events.splits, minlength=len(events.split_names)).tolist()
    named = zip(events.split_names, counts, strict=True)
    unknown = [(name, count) for name, count in named if count and name.strip().lower() not in _NAMES]
    if not unknown:
        return
    listed = ", ".join(repr(name) for name, _ in unknown[:5])
    rows = ", ".join(
        f"{name!r} in {count:,} rows" if name else f"no value in {count:,} rows" for name, count in unknown
    )
    raise DataError(
        f"split column holds {listed}; expected train, valid (validation, val, dev) and test; found {rows[:200]} "
        f"of {len(events):,}: name their part, or leave them out with --where"
    )


def _shown_range(ordered: np.ndarray) -> str:
    """Return the first and last time, as dates too where they are Unix times."""
    first, last, ticks = ordered[0], ordered[-1], ticks_per_second(ordered)
    if ticks is None:
        return f"{first:.0f} to {last:.0f}"
    dates = [f"{datetime.fromtimestamp(time / ticks, tz=UTC):%Y-%m-%dT%H:%M}" for time in (first, last)]
    return f"{first:.0f} to {last:.0f} {unit_name(ordered)}, {dates[0]} to {dates[1]}; a date is a cut too"


def _last_training_events(events: Interactions, part: np.ndarray, seed: int) -> np.ndarray:
    positions = np.flatnonzero(part == TRAIN)
    indptr = row_pointers(events.users[positions], len(events.user_ids))
    eligible = np.flatnonzero(np.diff(indptr) >= 2)
    count = max(len(eligible) // 10, min(len(eligible), 1000))
    users = np.sort(generator(seed, "validation users").permutation(eligible)[:count])
    chosen: np.ndarray = positions[indptr[users + 1] - 1]
    return chosen


def _queries_of_users(
    events: Interactions, earlier: np.ndarray, mine: np.ndarray, known: np.ndarray, cut: float | None
) -> EvaluationSet:
    users = np.flatnonzero(known)
    rank = np.full(len(known), -1, dtype=np.int64)
    rank[users] = np.arange(len(users))
    seen = earlier & known[events.users]
    targets = first_occurrences(events, np.flatnonzero(mine & known[events.users]))
    target_indptr = row_pointers(rank[events.users[targets]], len(users))
    times = None
    if events.times is not None:
        times = np.full(len(users), cut) if cut is not None else events.times[targets[target_indptr[:-1]]]
    queries = Queries(row_pointers(rank[events.users[seen]], len(users)), events.items[seen], times=times)
    return EvaluationSet(users.astype(np.int32), queries, target_indptr, events.items[targets])


def first_occurrences(events: Interactions, positions: np.ndarray) -> np.ndarray:
    """Return those of the positions that hold the first event of their user and item, in order."""
    keys = events.users[positions].astype(np.int64) * len(events.item_ids) + events.items[positions]
    first = np.unique(keys, return_index=True)[1]
    return positions[np.sort(first)]


def _queries_of_prefixes(events: Interactions, mine: np.ndarray, new: np.ndarray) -> EvaluationSet:
    positions = np.flatnonzero(mine & new[events.users])
    indptr = row_pointers(events.users[positions], len(new))
    starts = np.repeat(indptr[:-1], np.diff(indptr))
    place = np.arange(len(positions)) - starts
    asked = np.flatnonzero(place > 0)
    lengths = place[asked]
    pointers = np.zeros(len(asked) + 1, dtype=np.int64)
    np.cumsum(lengths, out=pointers[1:])
    flat = np.arange(pointers[-1]) - np.repeat(pointers[:-1], lengths) + np.repeat(starts[asked], lengths)
    times = None if events.times is None else events.times[positions[asked]]
    queries = Queries(pointers, events.items[positions[flat]], times=times)
    targets = positions[asked]
    single = np.arange(len(asked) + 1, dtype=np.int64)
    return EvaluationSet(events.users[targets].astype(np.int32), queries, single, events.items[targets])


def _merge(first: EvaluationSet, second: EvaluationSet) -> EvaluationSet:
    if not len(second):
        return first
    if not len(first):
        return second
    a, b = first.queries, second.queries
    times = None if a.times is None or b.times is None else np.concatenate([a.times, b.times])
    queries = Queries(
        np.concatenate([a.indptr, b.indptr[1:] + a.indptr[-1]]), np.concatenate([a.items, b.items]), times=times
    )
    return EvaluationSet(
        np.concatenate([first.users, second.users]),
        queries,
        np.concatenate([first.target_indptr, second.target_indptr[1:] + first.target_indptr[-1]]),
        np.concatenate([first.target_items, second.target_items]),
    )
