"""Whether quotes in a table of text enclose fields, as CSV has it, or are characters like others, as in most TSV.

Both readings of a file are followed line by line: the plain one, in which every line is a row, and that of CSV, in
which a field that begins with a quote ends at the next single one and may hold delimiters and line breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

QUOTE = b'"'


@dataclass
class Ragged:
    """A line whose number of fields is not that of the header."""

    line: int
    fields: int
    text: bytes


@dataclass
class Quoting:
    """What the two readings of a file give. Lines count from 1, the header included.

    ``plain_ragged``, ``csv_ragged``: the first row of another width in each reading. ``junk``: lines where a closing
    quote is not followed by a delimiter: (opened, closed). ``unclosed``: line where a field opens that never closes.
    ``spans``: (first, last) lines of rows of several lines; ``swallowing``: those of which every line is a row of the
    right width by itself. ``needed``: quoted fields that hold a delimiter, a line break or a doubled quote;
    ``needless``: columns with other quoted fields; ``bare``: columns with fields without quotes, not empty.
    """

    plain_ragged: Ragged | None = None
    csv_ragged: Ragged | None = None
    junk: list[tuple[int, int]] = field(default_factory=list)
    unclosed: int | None = None
    spans: int = 0
    swallowing: list[tuple[int, int]] = field(default_factory=list)
    needed: int = 0
    needless: set[int] = field(default_factory=set)
    bare: set[int] = field(default_factory=set)
    header_quoted: bool = False

    @property
    def strict(self) -> bool:
        """True when the file is CSV by the letter: every field that opens closes before a delimiter or a row's end."""
        return not self.junk and self.unclosed is None and self.csv_ragged is None

    @property
    def torn(self) -> tuple[int, int] | None:
        """Lines between which a quote swallowed others, as its end is not that of a field; None if there are none."""
        over = [pair for pair in self.junk if pair[1] > pair[0]]
        return over[0] if over else None

    def of_tabs(self) -> bool:
        """Tell whether quotes enclose fields in a file whose delimiter needs none, as tab and ``|``."""
        if self.plain_ragged is not None:
            return self.strict
        if not self.strict or self.spans:
            return False
        # A writer quotes where it must, or all of a column, or everything.
        return self.header_quoted or not self.needless & self.bare

    def of_commas(self, width: int) -> bool:
        """Tell whether quotes enclose fields in a CSV file: unless every line is a row and some quote ends wrongly."""
        wrong = self.spans > 0 or self.unclosed is not None
        return not (width > 1 and self.plain_ragged is None and wrong)


def look_at_quotes(lines: Iterable[bytes], delimiter: bytes, width: int, header: int = 1) -> Quoting:
    """Follow both readings of a file of ``width`` columns, from line ``header`` on. Blank lines are no rows."""
    reader = _Reader(delimiter, width, header)
    for number, line in enumerate(islice(lines, header - 1, None), header):
        if QUOTE not in line and reader.knows(line):
            continue
        reader.feed(number, line.rstrip(b"\r\n"))
    return reader.finish()


def is_quoted(fields: Iterable[bytes]) -> bool:
    """Tell whether every field of a header stands in quotes."""
    return all(len(part) > 1 and part.startswith(QUOTE) and part.endswith(QUOTE) for part in fields)


class _Reader:
    """The state between two lines: the row that is open in the reading of CSV."""

    def __init__(self, delimiter: bytes, width: int, header: int) -> None:
        self.found = Quoting()
        self.header = header
        self.delimiter, self.width = delimiter, width
        self.opens = re.compile(b"(?:^|" + re.escape(delimiter) + b')"')
        self.row: tuple[int, bytes] | None = None
        self.open_since: int | None = None
        self.fields = 0
        self.all_regular = True

    def feed(self, number: int, line: bytes) -> None:
        """Take the next line, without its line break."""
        if number == self.header:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self.found.header_quoted = is_quoted(line.split(self.delimiter))
        if not line and self.open_since is None:
            return
        regular = line.count(self.delimiter) + 1 == self.width
        if line and not regular and self.found.plain_ragged is None:
            self.found.plain_ragged = Ragged(number, line.count(self.delimiter) + 1, line)
        if self.open_since is None and not self.opens.search(line):
            self._bare_row(number, line, regular)
            return
        if self.open_since is None:
            self.row, self.fields, self.all_regular = (number, line), 0, True
        self.all_regular = self.all_regular and regular
        self._walk(number, line)
        if self.open_since is None:
            self._end_row(number)

    def knows(self, line: bytes) -> bool:
        """Tell whether a line without quotes changes nothing, as nearly all do."""
        closed = self.open_since is None and len(self.found.bare) == self.width
        return closed and line.count(self.delimiter) == self.width - 1

    def finish(self) -> Quoting:
        """Return what was found."""
        self.found.unclosed = self.open_since
        return self.found

    def _bare_row(self, number: int, line: bytes, regular: bool) -> None:
        if not regular and self.found.csv_ragged is None:
            self.found.csv_ragged = Ragged(number, line.count(self.delimiter) + 1, line)
        if number > self.header and len(self.found.bare) < self.width:
            self.found.bare.update(place for place, part in enumerate(line.split(self.delimiter)) if part)

    def _end_row(self, number: int) -> None:
        assert self.row is not None
        first, text = self.row
        if self.fields != self.width and self.found.csv_ragged is None:
            self.found.csv_ragged = Ragged(first, self.fields, text)
        if number > first:
            self.found.spans += 1
            if self.all_regular and self.width > 1:
                self.found.swallowing.append((first, number))

    def _walk(self, number: int, line: bytes) -> None:
        """Follow the fields of a line in the reading of CSV."""
        position = 0
        while True:
            if self.open_since is None and line[position : position + 1] == QUOTE:
                self.open_since, position = number, position + 1
            if self.open_since is not None:
                start, end, doubled = position, *_closing(line, position)
                if end < 0:
                    return
                position = self._close(number, line, start, end, doubled)
            else:
                after = line.find(self.delimiter, position)
                if number > self.header and line[position : after if after >= 0 else None]:
                    self.found.bare.add(self.fields)
                position = after + 1
            self.fields += 1
            if position <= 0:
                return

    def _close(self, number: int, line: bytes, start: int, end: int, doubled: bool) -> int:
        """End the open field at the quote at ``end``; return where the next one begins, 0 when there is none."""
        assert self.open_since is not None
        following = line[end + 1 : end + 2]
        if following not in (b"", self.delimiter):
            self.found.junk.append((self.open_since, number))
        elif doubled or self.open_since < number or self.delimiter in line[start:end]:
            self.found.needed += 1
        elif end > start and number > self.header:
            self.found.needless.add(self.fields)
        self.open_since = None
        return line.find(self.delimiter, end + 1) + 1


def _closing(line: bytes, position: int) -> tuple[int, bool]:
    """Return where the next single quote is, -1 if there is none, and whether doubled ones stand before it."""
    doubled = False
    while (found := line.find(QUOTE, position)) >= 0:
        if line[found + 1 : found + 2] != QUOTE:
            return found, doubled
        doubled, position = True, found + 2
    return -1, doubled
