"""The small language of conditions: ``column operator value``, several joined by ``and``. Never evaluated as code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sparcode.errors import DataError

LONGEST = 20_000
"""Characters of a condition that are read."""
_SHOWN = 60
_NEAR = 200
_OPERATOR = re.compile("==|!=|<=|>=|=|<|>")
_BLANKS = re.compile(r"\s*")
_AND = re.compile(r"(?<=\s)and(?=\s)", re.IGNORECASE)
_DANGLING = re.compile(r"\sand\Z", re.IGNORECASE)
_NEXT = re.compile(r"\s+and\s+", re.IGNORECASE)
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""How a condition may spell a truth value, in lower case."""


@dataclass(frozen=True)
class Term:
    """One comparison, still as text."""

    column: str
    operator: str
    value: str


def parse_condition(text: str) -> list[Term]:
    """Split ``a=1 and b>=2`` into terms, in time linear in the text; DataError shows the grammar and the place.

    Quote values that contain ``and`` or an operator. A quote inside a value is a character like others.
    """
    if len(text) > LONGEST:
        raise DataError(f"where: the condition has {len(text):,} characters, at most {LONGEST:,} are read")
    terms: list[Term] = []
    place, end = 0, len(text.rstrip())
    while place < end or not terms:
        term, place = _read_term(text, place, end)
        terms.append(term)
    return terms


def _read_term(text: str, start: int, end: int) -> tuple[Term, int]:
    """Return the term that starts at ``start``, and where the next one starts (``end`` after the last)."""
    sign, keyword = _OPERATOR.search(text, start, end), _AND.search(text, start, end)
    column = text[start : sign.start()].strip() if sign else ""
    if sign is None or not column or (keyword and keyword.start() < sign.start()):
        raise _unreadable(text, start, end)
    first = _BLANKS.match(text, sign.end(), end).end()  # type: ignore[union-attr]
    quote = text[first : first + 1]
    close = text.find(quote, first + 1, end) if quote and quote in "\"'" else -1
    follows = _NEXT.match(text, close + 1, end) if close > 0 else None
    if close > 0 and (follows or close + 1 == end):
        return Term(column, sign.group(), text[first + 1 : close]), follows.end() if follows else end
    keyword = _AND.search(text, sign.end(), end)
    value = text[first : keyword.start() if keyword else end].strip()
    if not value or _OPERATOR.search(value) or _DANGLING.search(value):
        raise _unreadable(text, start, end)
    if keyword and keyword.end() >= end:
        raise _unreadable(text, keyword.start(), end)
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    next_start = _BLANKS.match(text, keyword.end(), end).end() if keyword else end  # type: ignore[union-attr]
    return Term(column, sign.group(), value[1:-1] if quoted else value), next_start


def _unreadable(text: str, start: int, end: int) -> DataError:
    return DataError(
        f"where {shown(text)}: cannot read {shown(text[start:end])} at character {start + 1}; expected COLUMN "
        "=|!=|<|<=|>|>= VALUE, joined by 'and' (quote a value that contains any of these)"
    )


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


def not_comparable(term: Term, kind: str) -> str:
    """Return the message for a value that a column of a kind cannot be compared with."""
    dated = any(word in kind for word in ("timestamp", "date", "a time"))
    expected = "; expected a date such as 2020-01-31" if dated else ""
    return f"where: column {term.column!r} is {kind}, and {shown(term.value)} cannot be compared with it{expected}"


def unknown_column(term: Term, names: Sequence[str]) -> str:
    """Return the message that tells which columns there are, and which one is near."""
    near = nearest(term.column, names)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"where: no column {shown(term.column)}{hint}; columns found: {', '.join(names) or 'none'}"
