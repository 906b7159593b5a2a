"""RecBole's atomic files: text with tabs whose header names a type for every column, ``name:token``."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.text_files import NULLS, distinct_names, ids_of, is_id_name, plain_ids, trimmed
from sparcode.data.text_kinds import TextFile
from sparcode.errors import DataError


def read_recbole(path: Path) -> pa.Table:
    """Read an atomic file; fields that are missing at the end of a line are null. DataError names column and row."""
    file = TextFile(path)
    header = file.header()
    delimiter = "\t" if "\t" in header or "," not in header else ","
    fields = [tuple(part.strip() for part in field.partition(":")[::2]) for field in header.split(delimiter)]
    broken = [f"{name}:{kind}" if kind else name for name, kind in fields if kind.lower() not in _TYPES or not name]
    if broken:
        raise DataError(f"{path}: header field {broken[0]!r} is not name:token|token_seq|float|float_seq")
    names = [name for name, _ in fields]
    distinct_names(names, str(path))
    table = _texts(file, names, delimiter)
    columns = [
        ids_of(path, name, table[name])
        if kind.lower() == "token" and is_id_name(name)
        else _TYPES[kind.lower()](_missing(table[name]), f"{path}, column {name!r}")
        for name, kind in fields
    ]
    return pa.table(columns, names=names)


def _texts(file: TextFile, names: list[str], delimiter: str) -> pa.Table:
    """Return all columns as text."""
    assert file.facts
    try:
        with file.open() as stream:
            return _parse(stream, names, delimiter)
    except pa.ArrowInvalid as problem:
        if "utf8" in str(problem).lower():
            raise DataError(file.not_utf8() or f"{file.path} is not UTF-8") from None
        if "columns, got" not in str(problem):
            raise
    return _parse(BytesIO(_padded(file, len(names), delimiter.encode())), names, delimiter)


def _parse(stream: Any, names: list[str], delimiter: str) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        stream,
        read_options=csv.ReadOptions(column_names=names, skip_rows_after_names=1, block_size=1 << 24),
        parse_options=csv.ParseOptions(delimiter=delimiter, quote_char=False),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string())),
    )


def _padded(file: TextFile, width: int, delimiter: bytes) -> bytes:
    """Return the file with delimiters added to lines that end early; DataError for a line with too many fields."""
    lines = []
    for number, line in enumerate(file.lines(), 1):
        line = line.rstrip(b"\r\n")
        short = width - 1 - line.count(delimiter)
        if short < 0:
            raise DataError(
                f"{file.path}, line {number:,} has {width - short} fields, expected {width} as the header has"
            )
        lines.append(line + delimiter * short if line else line)
    return b"\n".join(lines)


def _missing(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = trimmed(column)
    missing = pc.is_in(column, value_set=pa.array(NULLS, pa.large_string()))
    return pc.if_else(missing, pa.scalar(None, pa.large_string()), column) if pc.any(missing).as_py() else column


def _token(column: pa.ChunkedArray, what: str) -> pa.Array:
    return plain_ids(column)


def _token_sequence(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    # One blank separates; several are one, for an empty token means nothing.
    return pc.ascii_split_whitespace(column).cast(pa.large_list(pa.large_string()))


def _float(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    return _numbers(column, what, lambda row: row)


def _float_sequence(column: pa.ChunkedArray, what: str) -> pa.Array:
    spaced = pc.replace_substring_regex(column, r"[\s,]+", " ")
    lists = pc.ascii_split_whitespace(trimmed(spaced)).combine_chunks().cast(pa.large_list(pa.large_string()))
    parents = pc.list_parent_indices(lists)
    flat = _numbers(pa.chunked_array([pc.list_flatten(lists)]), what, lambda place: parents[place].as_py())
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat.combine_chunks(), mask=lists.is_null())


def _numbers(texts: pa.ChunkedArray, what: str, row_of: Callable[[int], int]) -> pa.ChunkedArray:
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        for place, text in enumerate(texts.to_pylist()):
            if text is not None and not _is_number(text):
                raise DataError(f"{what}, row {row_of(place) + 1:,}: {text!r} is no number") from None
        raise


def _is_number(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


_TYPES: dict[str, Callable[[pa.ChunkedArray, str], Any]] = {
    "token": _token,
    "token_seq": _token_sequence,
    "float": _float,
    "float_seq": _float_sequence,
}
