"""Where every event goes: training, validation, test, or nowhere, with the reason. Nothing vanishes without a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.data.interactions import Interactions
from sparcode.data.split import TEST, TRAIN, VALIDATION, Split, asked_users, first_occurrences
from sparcode.wording import worded

REASONS = {
    "repeated_targets": "held-out events of an item that is a target of the same query already",
    "single_event_sessions": "held-out events of users who have no other: nothing to ask with",
    "without_history": "events of users who first appear after the cut: no history to ask with",
}
MANY = 0.1
"""Share of a part's events that may be asked about by no query before it is worth a warning."""


def account(events: Interactions, split: Split) -> dict[str, Any]:
    """Return {"train", "validation", "test": events, "dropped": {reason: events}}; all add up to the events.

    An event counts for a part when it is a target or the beginning of a whole session that is asked by prefixes.
    """
    counts: dict[str, Any] = {"train": int((split.part == TRAIN).sum())}
    dropped = dict.fromkeys(REASONS, 0)
    for name, which in (("validation", VALIDATION), ("test", TEST)):
        mine = split.part == which
        known, sessions = asked_users(events, split, which)
        targets = first_occurrences(events, np.flatnonzero(mine & known[events.users]))
        counts[name] = len(targets) + int((mine & sessions[events.users]).sum())
        dropped["repeated_targets"] += int((mine & known[events.users]).sum()) - len(targets)
        unasked = int((mine & ~(known | sessions)[events.users]).sum())
        dropped["without_history" if split.cuts else "single_event_sessions"] += unasked
    return counts | {"dropped": {reason: count for reason, count in dropped.items() if count}}


def split_warnings(events: Interactions, split: Split, by: str) -> list[str]:
    """Return a line for every part of which many events, or all, are in no query, and for histories from the future."""
    lines = []
    for name, which in (("validation", VALIDATION), ("test", TEST)):
        mine = split.part == which
        known, sessions = asked_users(events, split, which)
        unasked = int((mine & ~(known | sessions)[events.users]).sum())
        if unasked and unasked >= MANY * mine.sum():
            remedy = (
                "users who first appear after the cut have no history; for sessions name the parts in a column "
                "(--split-by column), whose whole sessions are asked by prefixes"
                if split.cuts
                else "they are the only events of their users, so there is nothing to ask with"
            )
            lines.append(f"split-by {by}: {unasked:,} of {mine.sum():,} {name} events are in no query: {remedy}")
    if by == "column":
        lines += _empty_parts(split)
        if late := _with_later_history(events, split):
            lines.append(
                f"split-by column: the histories of {late:,} users hold events later than those they are asked for "
                "(training or validation rows after validation or test rows); the parts are taken as they are named"
            )
    return [worded(line) for line in lines]


def _empty_parts(split: Split) -> list[str]:
    if (split.part == TEST).any():
        return []
    return ["split-by column: no row is named test, so there is nothing to test on (evaluate --split validation)"]


def _with_later_history(events: Interactions, split: Split) -> int:
    """Count users of whom an event stands, in order of time, before one of an earlier part."""
    if events.times is None:
        return 0
    # Events are sorted by user and time: an earlier part must not follow a later one within a user.
    same = events.users[1:] == events.users[:-1]
    falls = same & (split.part[1:] < split.part[:-1]) & (events.times[1:] > events.times[:-1])
    return len(np.unique(events.users[1:][falls]))
