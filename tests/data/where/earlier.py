"""The language as it was when conditions knew ``and`` only: what it read must mean the same for ever."""

from __future__ import annotations

import re

_OPERATOR = re.compile("==|!=|<=|>=|=|<|>")
_BLANKS = re.compile(r"\s*")
_AND = re.compile(r"(?<=\s)and(?=\s)", re.IGNORECASE)
_DANGLING = re.compile(r"\sand\Z", re.IGNORECASE)
_NEXT = re.compile(r"\s+and\s+", re.IGNORECASE)


def read(text: str) -> list[tuple[str, str, str]] | None:
    """Return column, operator and value of every comparison, None for what was no condition."""
    terms: list[tuple[str, str, str]] = []
    place, end = 0, len(text.rstrip())
    while place < end or not terms:
        found = _read_term(text, place, end)
        if found is None:
            return None
        term, place = found
        terms.append(term)
    return terms


def _read_term(text: str, start: int, end: int) -> tuple[tuple[str, str, str], int] | None:
    sign, keyword = _OPERATOR.search(text, start, end), _AND.search(text, start, end)
    column = text[start : sign.start()].strip() if sign else ""
    if sign is None or not column or (keyword and keyword.start() < sign.start()):
        return None
    first = _BLANKS.match(text, sign.end(), end).end()
    quote = text[first : first + 1]
    close = text.find(quote, first + 1, end) if quote and quote in "\"'" else -1
    follows = _NEXT.match(text, close + 1, end) if close > 0 else None
    if close > 0 and (follows or close + 1 == end):
        return (column, sign.group(), text[first + 1 : close]), follows.end() if follows else end
    keyword = _AND.search(text, sign.end(), end)
    value = text[first : keyword.start() if keyword else end].strip()
    if not value or _OPERATOR.search(value) or _DANGLING.search(value) or (keyword and keyword.end() >= end):
        return None
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    next_start = _BLANKS.match(text, keyword.end(), end).end() if keyword else end
    return (column, sign.group(), value[1:-1] if quoted else value), next_start
