"""From the text of a condition to its words. Columns and values need no quotes as long as it is clear where they end.

A column ends at a sign or at ``in (``. A value ends at ``and``, at an ``or`` that a comparison follows (``genre=rock or
roll`` has one value), and at a parenthesis that closes a group; parentheses of its own, as in ``Toy Story (1995)``, it
keeps. A quote inside a value is a character like others. Time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from sparcode.data.where.form import IN, NOT_IN
from sparcode.errors import DataError

DEEPEST = 100
"""Parentheses inside each other that are read."""
_QUOTES = ("'", '"')
_SIGN = "==|!=|<=|>=|=|<|>"
_MEMBER = r"(?<=[\s\"'])(?P<member>(?P<negated>not\s+)?in)\s*\("
_JOIN = r"(?<=\s)(?:and(?=\s|\(|\Z)|or(?=\s|\())"
_BLANKS = re.compile(r"\s*")
_OPENING = re.compile(r"\(|not(?=\s|\(|\Z)", re.IGNORECASE)
_OPENINGS = re.compile(r"(?:[\s(]|not(?=\s|\())*", re.IGNORECASE)
_SIGNS = re.compile(_SIGN)
_OPERATOR = re.compile(f"(?P<sign>{_SIGN})|{_MEMBER}", re.IGNORECASE)
_JOINED = re.compile(_JOIN, re.IGNORECASE)
_COLUMN_STOPS = re.compile(rf"{_SIGN}|{_MEMBER}|{_JOIN}|[()]", re.IGNORECASE)
_VALUE_STOPS = re.compile(rf"{_SIGN}|{_JOIN}|[(),]", re.IGNORECASE)
_NEXT = re.compile(
    rf"(?P<CLOSE>\))|(?P<AND>and)(?!\w)|(?P<OR>or)(?!\w)|(?P<SIGN>{_SIGN})|(?P<OTHER>\S+)", re.IGNORECASE
)


class Word(NamedTuple):
    """One word: its kind as ``grammar`` names it, what it says, and where it begins."""

    kind: str
    text: str
    place: int


class Lexer:
    """Reads one condition from left to right. A column of ``names`` is found as it is spelled, whatever is in it."""

    def __init__(self, text: str, names: Collection[str] = ()) -> None:
        self._text, self._names = text.rstrip(), frozenset(names)
        self._place = self._depth = 0
        self._sign: re.Match[str] | None = None
        self._more = bool(names)

    def words(self) -> Iterator[Word]:
        """Yield all words. What cannot be read comes as a word too, for the grammar to refuse.

        Raises DataError where parentheses are too deep.
        """
        yield from self._comparison()
        while found := _NEXT.match(self._text, self._skip()):
            kind = found.lastgroup or ""
            self._depth -= kind == "CLOSE"
            yield self._word(kind, found)
            if kind != "CLOSE":
                yield from self._comparison()

    def _comparison(self) -> Iterator[Word]:
        """Yield what opens a comparison (``not``, parentheses), and the comparison."""
        self._skip()
        column = self._known_column()
        while column is None and (found := _OPENING.match(self._text, self._place)):
            yield self._opened(found)
            self._skip()
            column = self._known_column()
        column = column or self._quoted_column() or self._plain_column()
        if column is not None:
            yield column
        found = _OPERATOR.match(self._text, self._skip())
        if found is None:
            return
        if found["sign"]:
            yield self._word("SIGN", found)
            self._skip()
            yield from self._value(listed=False)
            return
        yield Word("NOT_IN" if found["negated"] else "IN", NOT_IN if found["negated"] else IN, found.start())
        yield Word("OPEN", "(", found.end() - 1)
        self._place = found.end()
        self._depth += 1
        yield from self._list()

    def _list(self) -> Iterator[Word]:
        """Yield the values of a list with the commas between; what ends it is the next word."""
        while True:
            self._skip()
            yield from self._value(listed=True)
            if not self._text.startswith(",", self._skip()):
                return
            yield Word("COMMA", ",", self._place)
            self._place += 1

    def _opened(self, found: re.Match[str]) -> Word:
        if found.group() != "(":
            return self._word("NOT", found)
        self._depth += 1
        if self._depth > DEEPEST:
            raise DataError(
                f"where: parentheses inside each other at character {found.start() + 1}: at most {DEEPEST} are read"
            )
        return self._word("OPEN", found)

    def _known_column(self) -> Word | None:
        """Return the column if all up to the next sign is the name of one."""
        sign = self._next_sign()
        name = self._text[self._place : sign.start()].strip() if sign else ""
        return self._until(sign.start(), "COLUMN", name) if sign and name in self._names else None

    def _quoted_column(self) -> Word | None:
        close = self._closing_quote()
        after = _BLANKS.match(self._text, close + 1).end()  # type: ignore[union-attr]
        if close < 0 or not _OPERATOR.match(self._text, after):
            return None
        return self._until(after, "COLUMN", self._text[self._place + 1 : close])

    def _plain_column(self) -> Word | None:
        end = self._plain_end(_COLUMN_STOPS, listed=False)
        name = self._text[self._place : end].strip()
        return self._until(end, "COLUMN", name) if name else None

    def _value(self, listed: bool) -> Iterator[Word]:
        """Yield the value that begins here, unless there is none."""
        close = self._closing_quote()
        if close >= 0 and self._value_ends(close + 1, listed):
            yield self._until(close + 1, "VALUE", self._text[self._place + 1 : close])
            return
        end = self._plain_end(_VALUE_STOPS, listed)
        value = self._text[self._place : end].strip()
        if value:
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES
            yield self._until(end, "VALUE", value[1:-1] if quoted else value)

    def _closing_quote(self) -> int:
        """Return where the quote that begins here is closed, -1 where none begins or it is not closed."""
        quote = self._text[self._place : self._place + 1]
        return self._text.find(quote, self._place + 1) if quote in _QUOTES else -1

    def _value_ends(self, place: int, listed: bool) -> bool:
        """Tell whether a quote that was closed before ``place`` is the end of the value."""
        after = _BLANKS.match(self._text, place).end()  # type: ignore[union-attr]
        following = self._text[after : after + 1]
        if not following or (following == ")" and (listed or self._depth > 0)) or (following == "," and listed):
            return True
        joined = _JOINED.match(self._text, after)
        return joined is not None and (listed or self._joins(joined))

    def _plain_end(self, stops: re.Pattern[str], listed: bool) -> int:
        """Return where a column or value without quotes ends that begins here."""
        nested = 0
        for found in stops.finditer(self._text, self._place):
            sign = found.group()
            if sign == "(":
                nested += 1
            elif sign == ")" and nested:
                nested -= 1
            elif sign == ")":
                if listed or self._depth > 0:
                    return found.start()
            elif sign == ",":
                if listed and not nested:
                    return found.start()
            elif listed or stops is _COLUMN_STOPS or sign[0] in "=!<>" or self._joins(found):
                return found.start()
        return len(self._text)

    def _joins(self, found: re.Match[str]) -> bool:
        """Tell whether an ``and`` or ``or`` behind a value joins comparisons; the value goes on if it does not."""
        begins = found.start() == self._place
        if found.group().lower() == "and" and not self._text.startswith("(", found.end()):
            return not (begins and found.end() == len(self._text))
        if begins:
            return False
        place = _OPENINGS.match(self._text, found.end()).end()  # type: ignore[union-attr]
        quote = self._text[place : place + 1]
        close = self._text.find(quote, place + 1) if quote in _QUOTES else -1
        if close >= 0 and _OPERATOR.match(self._text, _BLANKS.match(self._text, close + 1).end()):  # type: ignore[union-attr]
            return True
        stop = _JOINED.search(self._text, place)
        return _OPERATOR.search(self._text, place, stop.start() if stop else len(self._text)) is not None

    def _next_sign(self) -> re.Match[str] | None:
        """Return the first sign from here on, which is looked for once for all places before it."""
        if self._more and (self._sign is None or self._sign.start() < self._place):
            self._sign = _SIGNS.search(self._text, self._place)
            self._more = self._sign is not None
        return self._sign

    def _skip(self) -> int:
        """Go on to what is not blank, and return its place."""
        self._place = _BLANKS.match(self._text, self._place).end()  # type: ignore[union-attr]
        return self._place

    def _word(self, kind: str, found: re.Match[str]) -> Word:
        return self._until(found.end(), kind, found.group())

    def _until(self, end: int, kind: str, text: str) -> Word:
        word = Word(kind, text, self._place)
        self._place = end
        return word
