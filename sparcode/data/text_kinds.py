"""What a file really holds: text in UTF-8, plain or gzipped; anything else is named, with what to do about it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparcode.errors import DataError

_HEAD = 1 << 16
_BLOCK = 1 << 23
_GZIP = b"\x1f\x8b"
# gzip cannot shrink by more than about 1,032; tables of text shrink by 2 to 50.
_MOST_UNPACKED, _MOST_RATIO = 1 << 28, 300

_AS_UTF8 = "save it as UTF-8, e.g. iconv -f {0} -t UTF-8 OLD > NEW"
_UNPACK = "unpack it first, or compress it with gzip"
_EXPORT = "write it as Parquet or CSV"
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook", "save the sheet as CSV (UTF-8)"),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"ARROW1", "an Arrow or Feather file", "write it as Parquet"),
    (b"ORC", "an ORC file", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"SQLite format 3", "an SQLite database", _EXPORT),
    (b"\x93NUMPY", "a numpy array", _EXPORT),
    (b"\x80\x04", "a pickle", _EXPORT),
    (b"\x80\x05", "a pickle", _EXPORT),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"version https://git-lfs", "a pointer of Git LFS, not the data", "run git lfs pull"),
)
_SEPARATOR = re.compile(rb"(?:\xef\xbb\xbf)?\"?sep=([,;\t|])\"?\r?\n", re.IGNORECASE)
_OPENING = (b',"', b';"', b'\t"', b'|"', b'\n"', b'\r"', codecs.BOM_UTF8 + b'"')
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


@dataclass(frozen=True)
class Facts:
    """``lines``: of the file, a last one without line break included. ``quotes``: whether any ``"`` begins a field."""

    lines: int
    quotes: bool


class TextFile:
    """A text file, plain or gzipped whatever its name says. Raises DataError for what is no text in UTF-8.

    ``separator``: the delimiter that a first line such as Excel's ``sep=;`` gives, or None. ``above``: how many lines
    stand above the header: that one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as stream:
            start = stream.read(_HEAD)
        self.gzipped = start.startswith(_GZIP)
        if self.gzipped:
            with self.open() as unpacked:
                start = bytes(unpacked.read(_HEAD))
        problem = not_text(start)
        if problem:
            raise DataError(f"{path} {problem}")
        self.start = start
        declared = _SEPARATOR.match(start)
        self.separator = None if declared is None else declared[1].decode()
        self.above = 0 if declared is None else 1

    def open(self) -> Any:
        """Return a stream of the unpacked bytes."""
        return pa.input_stream(str(self.path), compression="gzip" if self.gzipped else None)

    def header(self) -> str:
        """Return the line of column names, without byte order mark; DataError when it is blank."""
        lines = self.start.splitlines()
        whole = lines if len(lines) > self.above + 1 else [line.rstrip(b"\r\n") for line in islice(self.lines(), 2)]
        line = whole[self.above] if len(whole) > self.above else b""
        try:
            header = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(self.not_utf8() or "") from None
        if not header.strip():
            raise DataError(f"{self.path} has no header line; expected column names in the first line")
        return header

    def lines(self) -> Iterator[bytes]:
        """Yield the lines with their line breaks."""
        rest = b""
        with self.open() as stream:
            while block := bytes(stream.read(_BLOCK)):
                parts = (rest + block).splitlines(keepends=True) if b"\n" not in block else _split(rest + block)
                rest = parts.pop()
                yield from parts
        if rest:
            yield rest

    @cached_property
    def facts(self) -> Facts:
        """Look at all bytes once. DataError for a NUL byte, and for a gzip file that unpacks to far too much."""
        lines, quotes, size, last, packed = 0, False, 0, b"\n", self.path.stat().st_size
        with self.open() as stream:
            while block := bytes(stream.read(_BLOCK)):
                if (place := block.find(b"\0")) >= 0:
                    number = lines + block.count(b"\n", 0, place) + 1
                    raise DataError(f"{self.path}, line {number:,} holds a NUL byte: is the file damaged or no text?")
                size += len(block)
                lines += block.count(b"\n")
                quotes = quotes or (b'"' in block and _opens_a_field(last + block))
                last = block[-1:]
                if self.gzipped and size > max(_MOST_UNPACKED, _MOST_RATIO * packed):
                    raise DataError(
                        f"{self.path} unpacks to more than {size / 1e6:,.0f} MB from {packed / 1e6:,.1f} MB, which no "
                        "table of text does; if it is meant, unpack it and give the plain file"
                    )
        return Facts(lines + (last != b"\n"), quotes)

    def not_utf8(self) -> str | None:
        """Return what is wrong with the first line that is not UTF-8, None when all are."""
        for number, line in enumerate(self.lines(), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as problem:
                byte = line[problem.start]
                return (
                    f"{self.path}, line {number:,} is not UTF-8 (byte 0x{byte:02x}), it may be Latin-1; "
                    + _AS_UTF8.format("LATIN1")
                )
        return None


def not_text(start: bytes) -> str | None:
    """Return what a file that begins like this is instead of a table of text in UTF-8, and what to do; None if it is.

    The answer goes on after the file's name: "is an Excel workbook, ...".
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return f"is text in {encoding}, expected UTF-8; {_AS_UTF8.format(encoding)}"
    if start.startswith(b"PK\x03\x04"):
        excel = b"xl/" in start or b"[Content_Types].xml" in start
        what, remedy = ("an Excel workbook", "save the sheet as CSV (UTF-8)") if excel else ("a ZIP archive", _UNPACK)
        return f"is {what}, not a table of text; {remedy}"
    for magic, what, remedy in _KINDS:
        if start.startswith(magic):
            return f"is {what}, not a table of text; {remedy}"
    return _wide_text(start) or _markup(start)


def _opens_a_field(text: bytes) -> bool:
    return any(mark in text for mark in _OPENING)


def _split(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + parts[-1:]


def _wide_text(start: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of Latin text is 0."""
    even, odd, half = start[0::2].count(0), start[1::2].count(0), max(len(start) // 2, 1)
    for mine, other, name in ((odd, even, "UTF-16LE"), (even, odd, "UTF-16BE")):
        if mine > 0.7 * half and other < 0.05 * half:
            return f"is text in UTF-16 (without byte order mark), expected UTF-8; {_AS_UTF8.format(name)}"
    return None


def _markup(start: bytes) -> str | None:
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()[:200].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is an HTML page, not a table: was it saved instead of the file? download the file itself"
    if text.startswith(b"<?xml"):
        return f"is an XML file, not a table of text; {_EXPORT}"
    if text.startswith((b'{"', b"{ ", b"{'")) or text in (b"{", b"{}"):
        return (
            "holds JSON, not a table with a header; convert it, e.g. pandas.read_json(FILE, lines=True).to_parquet(NEW)"
        )
    if text.startswith((b"[{", b"[[", b"[\n", b"[ ")):
        return "holds a JSON array, not a table with a header; convert it, e.g. pandas.read_json(FILE).to_parquet(NEW)"
    return None
