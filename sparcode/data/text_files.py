"""CSV, TSV and their kin as tables: delimiter, header, quotes, ids as they are spelled, and which line is wrong."""

from __future__ import annotations

import csv as plain_csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.columns import listed, looks_like, plain
from sparcode.data.ids import all_match, integers_where_exact
from sparcode.data.quotes import Quoting, Ragged, is_quoted, look_at_quotes
from sparcode.data.text_kinds import TextFile
from sparcode.errors import DataError
from sparcode.wording import warn

# "NA" is not among them: it is a legitimate id.
NULLS = ["", "NULL", "null", "NaN", "nan", "N/A", "#N/A"]
# By custom a quote in these is a character like others.
_UNQUOTED = ("\t", "|")
_BLOCKS = (1 << 20, 1 << 26, 1 << 30)


@dataclass(frozen=True)
class Dialect:
    """``names``: of the columns; ``delimiter``: one character; ``quoted``: whether quotes enclose fields."""

    names: tuple[str, ...]
    delimiter: str
    quoted: bool


def read_text(path: Path, id_columns: frozenset[str] = frozenset()) -> pa.Table:
    """Read a table of text with a header, plain or gzipped, UTF-8 with or without byte order mark.

    Columns that are ids by name or are named in ``id_columns`` are read as text and become int64 when all of them are
    plain integers. Quotes enclose fields in CSV; with tab and ``|`` only where the file as a whole says so. Raises
    DataError with the line of what is wrong; warns when quotes are read otherwise than usual, and of ids that spell
    a missing value.
    """
    file = TextFile(path)
    dialect = _dialect(file)
    names = [name for name in dialect.names if name in id_columns or is_id_name(name)]
    table = _read(file, dialect, {name: pa.large_string() for name in names})
    broken = [name for name in table.column_names if pa.types.is_binary(table[name].type)]
    if broken:
        raise DataError(file.not_utf8() or f"{path}: column {broken[0]!r} is no text")
    columns = [
        _with_nulls(table[name]) if name not in names else ids_of(path, name, table[name])
        for name in table.column_names
    ]
    return pa.table(columns, names=table.column_names)


def is_id_name(name: str) -> bool:
    """Tell whether a column holds ids by its name, which hence are never read as numbers."""
    return looks_like(name, "user") or looks_like(name, "item") or plain(name).endswith("id")


def distinct_names(names: Iterable[str], source: str) -> None:
    """Raise DataError when two columns have one name."""
    names = list(names)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{source} has several columns named {twice[0]!r} (columns: {listed(names)}); rename all but one"
            + ("; or is there no header line?" if any(map(_is_value, names)) else "")
        )


def trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text without blanks around it; as it is when there are none."""
    without = pc.utf8_trim_whitespace(column)
    same = pc.sum(pc.binary_length(without)).equals(pc.sum(pc.binary_length(column)))
    return column if same else without


def plain_ids(column: pa.ChunkedArray) -> pa.Array:
    """Return ids of text as int64 where all are plain integers, or all end in ``.0`` (as floats are written)."""
    if all_match(column, r"^(0|[1-9][0-9]{0,14})\.0+$"):
        column = pc.replace_substring_regex(column, r"\.0+$", "")
    return integers_where_exact(column.combine_chunks())


def _is_value(name: str) -> bool:
    return name.replace(".", "", 1).lstrip("+-").isdigit()


def _dialect(file: TextFile) -> Dialect:
    header = file.header()
    usual = "\t" if ".tsv" in file.path.name.lower() or file.path.suffix == ".txt" else ","
    delimiter = usual if usual in header else max([usual, ",", "\t", ";", "|"], key=header.count)
    delimiter = file.separator or delimiter
    quoted = file.facts.quotes
    if quoted and delimiter in _UNQUOTED and not is_quoted(header.encode().split(delimiter.encode())):
        quoting = _look(file, delimiter, len(header.split(delimiter)))
        quoted = quoting.of_tabs()
        if not quoted and quoting.needed and quoting.strict:
            _warn(
                f"{file.path}: quotes could enclose fields, as in CSV, or be characters: they are taken as characters"
            )
    dialect = Dialect(_names(header, delimiter, quoted), delimiter, quoted)
    distinct_names(dialect.names, str(file.path))
    return dialect


def _names(header: str, delimiter: str, quoted: bool) -> tuple[str, ...]:
    fields = next(plain_csv.reader([header], delimiter=delimiter)) if quoted else header.split(delimiter)
    # A name in quotes that enclose nothing else is meant without them, whatever the rows say.
    names = [field.strip().strip('"').strip() for field in fields]
    for place in [place for place, name in enumerate(names) if not name]:
        names[place] = f"Unnamed: {place}"
        while names.count(names[place]) > 1:
            names[place] += ".1"
    return tuple(names)


def _read(file: TextFile, dialect: Dialect, types: dict[str, pa.DataType]) -> pa.Table:
    """Read as the dialect says; where quotes of CSV swallow lines that are rows, read again without them."""
    try:
        table = _parse(file, dialect, types)
    except pa.ArrowInvalid as problem:
        if "UTF8" in str(problem) or "utf8" in str(problem):
            raise DataError(file.not_utf8() or f"{file.path} is not UTF-8") from None
        if "columns, got" not in str(problem) and "quot" not in str(problem).lower():
            raise
        table = None
    if table is not None and (not dialect.quoted or table.num_rows == file.facts.lines - file.above - 1):
        return table
    width = len(dialect.names)
    quoting = _look(file, dialect.delimiter, width)
    if not dialect.quoted:
        raise DataError(_ragged(file.path, dialect, quoting.plain_ragged))
    enclose = quoting.of_tabs() if dialect.delimiter in _UNQUOTED else quoting.of_commas(width)
    if not enclose and quoting.plain_ragged is None:
        first = quoting.unclosed or (quoting.swallowing or quoting.junk or [(1, 1)])[0][0]
        _warn(
            f"{file.path}, line {first:,}: a quote opens here that does not close in this line, while every line is a "
            "row by itself: all quotes are taken as characters"
        )
        return _parse(file, replace(dialect, quoted=False), types)
    _check_quotes(file.path, dialect, quoting)
    if table is None:
        raise DataError(_ragged(file.path, dialect, quoting.csv_ragged))
    return table


def _check_quotes(path: Path, dialect: Dialect, quoting: Quoting) -> None:
    """DataError for a quote that swallows lines for certain, a warning for one that seems to."""
    remedy = "close it, or double quotes that belong to the text"
    if quoting.unclosed is not None and quoting.csv_ragged is None:
        raise DataError(f"{path}, line {quoting.unclosed:,}: a quote opens a field that never ends; {remedy}")
    if quoting.torn is not None:
        opened, closed = quoting.torn
        raise DataError(
            f"{path}, line {opened:,}: a quote opens a field that ends in line {closed:,}, in the middle of a field; "
            f"{remedy}"
        )
    if quoting.swallowing:
        first, last = quoting.swallowing[0]
        _warn(
            f"{path}, lines {first:,} to {last:,} are read as one row with a quoted field, but each of them looks like "
            f"a row ({len(quoting.swallowing):,} such); if a quote is open by mistake, {remedy}"
        )


def _ragged(path: Path, dialect: Dialect, ragged: Ragged | None) -> str:
    if ragged is None:
        return f"{path} cannot be read: its rows have different numbers of fields, expected {len(dialect.names)}"
    text = ragged.text[:80].decode("utf-8", errors="replace")
    return (
        f"{path}, line {ragged.line:,} has {ragged.fields:,} fields, expected {len(dialect.names):,} as the header has "
        f"({listed(dialect.names, 8)}): {text!r}"
    )


def _look(file: TextFile, delimiter: str, width: int) -> Quoting:
    return look_at_quotes(file.lines(), delimiter.encode(), width, file.above + 1)


def _parse(file: TextFile, dialect: Dialect, types: dict[str, pa.DataType]) -> pa.Table:
    for block_size in _BLOCKS:
        try:
            with file.open() as stream:
                return _parse_blocks(stream, dialect, types, block_size, file.above)
        except pa.ArrowInvalid as problem:
            # A row longer than a block: such rows are rare, and large blocks cost memory.
            if "straddling" not in str(problem) or block_size == _BLOCKS[-1]:
                raise
    raise AssertionError("unreachable")


def _parse_blocks(
    stream: pa.NativeFile, dialect: Dialect, types: dict[str, pa.DataType], block_size: int, above: int
) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        stream,
        read_options=csv.ReadOptions(
            column_names=dialect.names, skip_rows=above, skip_rows_after_names=1, block_size=block_size
        ),
        parse_options=csv.ParseOptions(
            delimiter=dialect.delimiter, quote_char='"' if dialect.quoted else False, newlines_in_values=dialect.quoted
        ),
        # What text is missing is decided below: ids are to be told of.
        convert_options=csv.ConvertOptions(column_types=types, null_values=NULLS, strings_can_be_null=False),
    )


def _with_nulls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(column.type):
        return column
    column = column.cast(pa.large_string())
    missing = pc.is_in(column, value_set=pa.array(NULLS, pa.large_string()))
    if not pc.any(missing).as_py():
        return column
    return pc.if_else(missing, pa.scalar(None, pa.large_string()), column)


def ids_of(path: Path, name: str, column: pa.ChunkedArray) -> pa.Array:
    """Return ids as they stand in a file of text: int64 where all are plain integers, else text; null where empty.

    ``nan``, ``NULL`` and the like are missing beside integers, and ids beside ids of text. Warns of them.
    """
    exact = integers_where_exact(column.combine_chunks())
    if pa.types.is_integer(exact.type):
        return exact
    column = trimmed(column)
    missing = pc.is_in(column, value_set=pa.array(NULLS, pa.large_string()))
    if not pc.any(missing).as_py():
        return _integers_of_floats(path, name, column)
    known = pc.if_else(missing, pa.scalar(None, pa.large_string()), column)
    found = _integers_of_floats(path, name, known)
    spelled = np.asarray(pc.fill_null(pc.and_(missing, pc.not_equal(column, "")), False).to_numpy())
    if spelled.any():
        row = int(spelled.argmax())
        missed = pa.types.is_integer(found.type) or found.null_count == len(found)
        _warn(
            f"{path}, row {row + 1:,}: the id {column[row].as_py()!r} in column {name!r} "
            + ("counts as missing, as the others are integers" if missed else "is an id, as the others are text")
            + f" ({int(spelled.sum()):,} such rows); "
            + ("if it is an id, give a Parquet file" if missed else "if it means none, leave the field empty")
        )
        if not missed:
            return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.large_string()), column).combine_chunks()
    return found


def _integers_of_floats(path: Path, name: str, column: pa.ChunkedArray) -> pa.Array:
    """Return ``plain_ids``, with a warning where they are spelled as floats."""
    found = plain_ids(column)
    if pa.types.is_integer(found.type) and column.drop_null()[0].as_py().endswith(".0"):
        first = column.drop_null()[0].as_py()
        _warn(
            f"{path}: the ids in column {name!r} are spelled as floats ({first!r}) and read as integers (pandas "
            "makes floats of integers beside a missing one)"
        )
    return found


def _warn(text: str) -> None:
    warn(text, UserWarning, stacklevel=2)
