"""Tables into files block by block, in the format that the file's name promises."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from sparcode.errors import DataError

from .output import STDOUT, plain

if TYPE_CHECKING:
    import pyarrow

_PARQUET = (".parquet", ".pq")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")
KINDS = (*_PARQUET, *_DELIMITERS, *_LINES)

Write = Callable[["pyarrow.Table"], Any]


def require_table_kind(path: Path, option: str) -> str:
    """Return the format that a name promises; a usage error, before any work, for a name that promises none."""
    if str(path) == STDOUT:
        return ".csv"
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected the name of a file to write")
    name = path.name.lower()
    kind = next((kind for kind in KINDS if name.removesuffix(".gz").endswith(kind)), None)
    if kind is None or (kind in _PARQUET and name.endswith(".gz")):
        raise typer.BadParameter(
            f"{path}: expected a name that ends with {', '.join(KINDS)} (text also with .gz), or - for CSV on stdout",
            param_hint=option,
        )
    return kind


def write_tables(tables: Iterable[pyarrow.Table], path: Path, kind: str) -> int:
    """Write tables of one schema, one after the other, and return the number of rows; the file is whole or absent."""
    if str(path) == STDOUT:
        return _write(tables, sys.stdout.buffer, kind)
    from sparcode.files import atomic_path

    with atomic_path(path) as temporary, ExitStack() as stack:
        stream: Any = stack.enter_context(open(temporary, "wb"))
        if path.name.lower().endswith(".gz"):
            stream = stack.enter_context(gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0))
        return _write(tables, stream, kind)


def _write(tables: Iterable[pyarrow.Table], stream: BinaryIO, kind: str) -> int:
    rows = 0
    with ExitStack() as stack:
        write: Write | None = None
        for table in tables:
            write = write or _writer(table.schema, stream, kind, stack)
            write(table)
            rows += table.num_rows
    stream.flush()
    return rows


def _writer(schema: pyarrow.Schema, stream: BinaryIO, kind: str, stack: ExitStack) -> Write:
    if kind in _LINES:
        return lambda table: stream.write(_lines(table))
    if kind in _PARQUET:
        import pyarrow.parquet as parquet

        parquet_writer = stack.enter_context(parquet.ParquetWriter(stream, schema))
        return lambda table: parquet_writer.write_table(table)
    from pyarrow import csv

    options = csv.WriteOptions(delimiter=_DELIMITERS[kind], quoting_style="needed")
    csv_writer = stack.enter_context(csv.CSVWriter(stream, schema, write_options=options))
    return lambda table: csv_writer.write_table(table)


def _lines(table: pyarrow.Table) -> bytes:
    text = io.StringIO()
    for row in table.to_pylist():
        text.write(json.dumps(plain(row), ensure_ascii=False, allow_nan=False) + "\n")
    return text.getvalue().encode("utf-8", "backslashreplace")
