"""Ids that a run does not know: refused, told once and passed over, or passed over in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sparcode.api.arguments import POLICIES, choice, is_missing, shown
from sparcode.data.ids import IdMap
from sparcode.errors import QueryError, UnknownIdError
from sparcode.types import NO_ITEM
from sparcode.wording import warn

_NAMED = 3
_CALLER = 5
"""Frames between the warning and the line that called the library."""


def internal_ids(
    known: IdMap, values: list[Any], name: str, policy: str, then: str, place: Callable[[int], str] | None = None
) -> np.ndarray:
    """Return internal ids, int32 (len(values),), -1 where unknown.

    ``policy``: "raise" (UnknownIdError names the first unknown id), "warn" (one warning counts them and names three,
    and says what happens ``then``) or "ignore". None and nan are unknown ids; what cannot be an id (a truth value,
    2.5, a list) is a QueryError, whatever the policy. ``place``: how a message calls the value of a position.
    """
    found = known.get_plain(values)
    if found is None:
        found = [_lookup(known, value) for value in values]
    if None not in found:
        return np.array(found, np.int32)
    unknown = [position for position, internal in enumerate(found) if internal is None]
    for position in unknown:
        _require_id(values[position], place(position) if place else f"{name}[{position}]")
    if policy == "raise":
        raise _unknown(known, values[unknown[0]])
    if policy == "warn":
        named = list(dict.fromkeys(shown(values[position]) for position in unknown))
        more = ", ..." if len(named) > _NAMED else ""
        warn(
            f"{name}: {len(unknown):,} of {len(values):,} ids unknown, {then}: {', '.join(named[:_NAMED])}{more}",
            stacklevel=_CALLER,
        )
    return np.array([NO_ITEM if internal is None else internal for internal in found], np.int32)


def policy_of(unknown: Any, default: str) -> str:
    """Return what to do with unknown ids: as asked, or the default of their kind."""
    return default if unknown is None else choice(unknown, "unknown", POLICIES)


def _unknown(known: IdMap, value: Any) -> UnknownIdError:
    try:
        known.to_internal([value])
    except UnknownIdError as problem:
        return problem
    except (OverflowError, ValueError):
        pass
    return UnknownIdError(f"unknown {known.kind} {shown(value)}: not among the {len(known):,} of the data")


def _lookup(known: IdMap, value: Any) -> int | None:
    try:
        return known.get(value)
    except (OverflowError, ValueError):  # a number of 5,000 digits, half a surrogate pair
        return None


def _require_id(value: Any, place: str) -> None:
    number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    if not (isinstance(value, str) or number or whole or is_missing(value)):
        raise QueryError(f"{place} is {shown(value)}, a {type(value).__name__}; an id is text or a whole number")
