"""What is wrong with a condition, in one line: where, what was found, what was expected, what is near."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from sparcode.data.where.form import Term

_SHOWN = 60
_NEAR = 200
_LISTED = 5
_OR = re.compile(r"\s+or\s+", re.IGNORECASE)


def shown(text: str) -> str:
    """Return a part of a condition for a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


def nearest(text: str, known: Sequence[str]) -> str | None:
    """Return the known name or value that resembles ``text``: but for case and blanks, else by its letters."""
    if len(text) > _NEAR:
        return None
    folded = text.strip().casefold()
    same = [value for value in known if value.strip().casefold() == folded]
    near = same or difflib.get_close_matches(text, known, n=1)
    return near[0] if near else None


def around(text: str, place: int) -> str:
    """Return a condition for a message, quoted; of a long one what is near a place."""
    low = max(0, min(place - _SHOWN // 2, len(text) - _SHOWN))
    part = text[low : low + _SHOWN]
    return repr(f"{'...' * (low > 0)}{part}{'...' * (low + _SHOWN < len(text))}")


def meant_as_list(column: str, value: str) -> str | None:
    """Return how to ask for one of several values if a value without them seems to mean it: ``Comedy or Drama``."""
    several = _OR.split(value)
    return f"one of several is written {column} in ({', '.join(several)})" if 1 < len(several) <= _LISTED else None


def not_comparable(term: Term, value: str, kind: str) -> str:
    """Return the message for a value that a column of a kind cannot be compared with."""
    dated = any(word in kind for word in ("timestamp", "date", "a time"))
    expected = "; expected a date such as 2020-01-31" if dated else ""
    return f"{at(term)}: column {term.column!r} is {kind}, and {shown(value)} cannot be compared with it{expected}"


def unknown_column(term: Term, names: Sequence[str]) -> str:
    """Return the message that tells which columns there are, and which one is near."""
    near = nearest(term.column, names)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"{at(term)}: no column {shown(term.column)}{hint}; columns found: {', '.join(names) or 'none'}"


def at(term: Term) -> str:
    """Return the beginning of a message about one comparison."""
    return f"where, character {term.place + 1}"
