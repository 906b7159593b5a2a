"""External ids on the command line: what the run knows is an id, whatever its characters; then quotes; then files."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

import typer

from sparcode.errors import DataError

from .output import STDOUT

_PARQUET = (".parquet", ".pq")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_ENDINGS = (".txt", ".csv", ".tsv", ".parquet", ".pq")


def split_ids(text: str, known: Container[Any], option: str) -> list[str]:
    """Return the ids of ``ID,ID,...``: the whole text if it is an id, else its parts, of which ``"a,1"`` is one.

    Blanks around a part belong to it in quotes only. An unclosed quote is a usage error.
    """
    if text in known:
        return [text]
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True))
    except csv.Error:
        raise typer.BadParameter(
            f'{text!r}: a quote is not closed; expected 123,456 or, for ids with commas, "a,1","b,2"', param_hint=option
        ) from None
    parts = [part if part in known else part.strip() for row in rows for part in row]
    return [part for part in parts if part or part in known]


def ids_or_file(text: str, known: Container[Any], role: str, option: str, lenient: bool = False) -> list[Any]:
    """Return ids of the run, those of a file, those of stdin (``-``), or the parts of the text as they are.

    ``known``: the ids of the run; if it has the text or one of its parts, they are ids. ``lenient``: unknown ids are
    passed over, so that text with a slash may be one. Raises DataError as ``read_ids``, and a usage error for no id.
    """
    parts = split_ids(text, known, option)
    if not any(part in known for part in parts):
        if text == STDOUT or (os.path.exists(text) and not os.path.isdir(text)):  # a pipe, <(...), too
            return read_ids(text, role, known)
        looks_like_path = Path(text).suffix.lower() in _ENDINGS or os.sep in text
        if looks_like_path and not lenient:
            raise DataError(f"{text}: no such file, and no {role} of the run has this id")
    if not parts:
        raise typer.BadParameter("expected ids such as 123,456, or a file of ids", param_hint=option)
    return parts


def read_ids(source: str | Path, role: str, known: Container[Any] = ()) -> list[Any]:
    """Read external ids from a file, or from stdin if ``source`` is ``-``.

    Text has one id a line; CSV, TSV and Parquet may have several columns, of which the one named as a ``role`` ("user"
    or "item") is taken. A first line that names such a column, and is no id, is a header. Raises DataError when the
    file is missing, unreadable, without ids, or does not say which column.
    """
    require_list(source)
    path = Path(source)
    name = "stdin" if str(source) == STDOUT else str(source)
    try:
        if path.suffix.lower() in _PARQUET:
            ids = _parquet_ids(path, role)
        else:
            content = sys.stdin.buffer.read() if name == "stdin" else path.read_bytes()
            ids = _text_ids(_decoded(content, name), _SEPARATORS.get(path.suffix.lower()), role, name, known)
    except (ValueError, OSError, csv.Error) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise DataError(f"{name}: cannot be read as a list of ids: {reason}") from None
    if not ids:
        raise DataError(f"{name}: holds no id; expected one id a line, or a CSV or Parquet file")
    return ids


def require_list(source: str | Path) -> None:
    """Raise DataError unless there is something to read; nothing is read, since a pipe can be read only once."""
    if str(source) != STDOUT and (not os.path.exists(source) or os.path.isdir(source)):
        found = "is a folder" if os.path.isdir(source) else "no such file"
        raise DataError(f"{source}: {found}; expected a file with one id a line, or a CSV or Parquet file")


def _decoded(content: bytes, name: str) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name}: is UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{name}: is not UTF-8 text; save it as UTF-8") from None


def _parquet_ids(path: Path, role: str) -> list[Any]:
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(path)
    names = file.schema_arrow.names
    column = names[_column(names, role, str(path))]
    return [value for value in file.read([column])[column].to_pylist() if value is not None]


def _text_ids(text: str, separator: str | None, role: str, name: str, known: Container[Any]) -> list[str]:
    """Return the ids of text: lines as they are, or the column of a table when there is a separator."""
    if separator is None:
        lines = [line.rstrip("\r") for line in text.split("\n")]
        ids = [line if line in known else line.strip() for line in lines]
        ids = [line for line in ids if line or line in known]
        return ids[1:] if ids and _names(ids[0], role) and ids[0] not in known else ids
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
    if not rows:
        return []
    first = [cell.strip() for cell in rows[0]]
    several = max(map(len, rows)) > 1
    headed = any(_names(cell, role) for cell in first) and not any(cell in known for cell in first)
    if several and not headed:
        raise DataError(f"{name}: {len(first)} columns, none named {role}_id: {', '.join(first)}; name the one to read")
    place = _column(first, role, name) if headed else 0
    cells = [row[place] if len(row) > place else "" for row in rows[headed:]]
    cells = [cell if cell in known else cell.strip() for cell in cells]
    return [cell for cell in cells if cell or cell in known]


def _column(names: list[str], role: str, name: str) -> int:
    """Return the place of the id column: the only one, or the one whose name says so."""
    if len(names) == 1:
        return 0
    from sparcode.data.columns import find_id_column

    try:
        return names.index(find_id_column(names, role, f"{role}_id"))
    except DataError:
        fitting = [column for column in names if _names(column, role)]
        found = f"columns {' and '.join(map(repr, fitting))} both fit" if len(fitting) > 1 else "no column fits"
        raise DataError(
            f"{name}: which column holds the {role}s? {found}; name one of them {role}_id, or keep it alone (columns: "
            f"{', '.join(names)})"
        ) from None


def _names(cell: str, role: str) -> bool:
    from sparcode.data.columns import looks_like

    return looks_like(cell, role)
