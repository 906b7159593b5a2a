"""Read interactions, items and users from files, folders, fetched names and in-memory tables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparcode.data.columns import looks_like, plain
from sparcode.data.ids import integers_where_exact
from sparcode.errors import DataError

_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".txt")
_ATOMIC = (".inter", ".item", ".user")
_KINDS = (*_PARQUET, *_TEXT, *_ATOMIC)
_RECBOLE = {"interactions": ".inter", "items": ".item", "users": ".user"}
# "NA" is not among them: it is a legitimate id.
_NULLS = ["", "NULL", "null", "NaN", "nan", "N/A", "#N/A"]


@dataclass(frozen=True)
class Tables:
    """What was read: one table of interactions, and tables of items and users where given."""

    interactions: pa.Table
    items: pa.Table | None = None
    users: pa.Table | None = None
    source: str = "a table in memory"


def read_tables(data: Any, text_columns: Iterable[str] = ()) -> Tables:
    """Read DATA.

    ``data``: a path of a file or folder, a fetched name, a pandas, polars or pyarrow table, a mapping of columns,
    a mapping with the key ``interactions`` (and ``items``, ``users``) whose values are any of these, or Tables.
    ``text_columns``: columns of text files that are ids whatever their name, and hence never read as numbers.
    """
    if isinstance(data, Tables):
        return data
    ids = frozenset(text_columns)
    if isinstance(data, str | Path):
        return _read_path(_resolve(data), ids)
    if isinstance(data, Mapping) and "interactions" in data:
        parts = {name: _read_part(value, name, ids) for name, value in data.items() if value is not None}
        unknown = sorted(set(parts) - {"interactions", "items", "users"})
        if unknown:
            raise DataError(f"unknown table {unknown[0]!r}; tables are interactions, items and users")
        return Tables(**parts)
    return Tables(_require_rows(_to_arrow(data, "data"), "the table"))


def read_file(path: Path, text_columns: frozenset[str] = frozenset()) -> pa.Table:
    """Read one Parquet, CSV, TSV or RecBole file; errors are DataError with the file's name."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; expected a table with a header")
        if kind_of(path) in _PARQUET:
            return _distinct_names(_read_parquet(path), str(path))
        if kind_of(path) in _ATOMIC:
            return _read_recbole(path)
        return _read_text(path, text_columns)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as problem:
        encoding = "; save it as UTF-8" if "utf" in str(problem).lower() else ""
        raise DataError(f"{path} cannot be read: {_first_line(problem)}{encoding}") from None


def kind_of(path: Path) -> str | None:
    """Return the known ending of a file name (``.csv.gz`` counts as one), or None."""
    name = path.name.lower()
    return next((kind for kind in sorted(_KINDS, key=len, reverse=True) if name.endswith(kind)), None)


def _distinct_names(table: pa.Table, source: str) -> pa.Table:
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{source} has several columns named {twice[0]!r} (columns: {', '.join(names)}); rename all but one"
        )
    return table


def _resolve(data: str | Path) -> Path:
    if not str(data):
        raise DataError("DATA is empty; expected a file, a folder or a fetched name")
    path = Path(data).expanduser()
    if path.exists():
        return path
    from sparcode.data.sources import cached, known_names

    found = cached(str(data))
    if found is not None:
        return found
    if str(data) in known_names():
        raise DataError(f"{data} is not fetched yet; run: sparcode data fetch {data}")
    near = difflib.get_close_matches(str(data), known_names(), n=1)
    hint = f"; did you mean the set {near[0]!r} (sparcode data fetch {near[0]})?" if near else ""
    raise DataError(f"{data}: no such file, folder or fetched name{hint}")


def _read_path(path: Path, ids: frozenset[str]) -> Tables:
    if not path.is_dir():
        if kind_of(path) is None:
            raise DataError(f"{path}: unknown kind of file; expected one of {', '.join(_KINDS)}")
        return Tables(_require_rows(read_file(path, ids), str(path)), source=str(path))
    files = _folder_files(path)
    parts = {name: read_file(file, ids) for name, file in files.items()}
    _require_rows(parts["interactions"], str(files["interactions"]))
    return Tables(**parts, source=str(path))


def _folder_files(folder: Path) -> dict[str, Path]:
    files = {}
    for part, recbole in _RECBOLE.items():
        entries = sorted(f for f in folder.iterdir() if f.is_file() and kind_of(f) and not f.name.startswith("."))
        found = [f for f in entries if f.name.lower() == part + str(kind_of(f))]
        found = found or [f for f in entries if kind_of(f) == recbole]
        if len(found) > 1:
            raise DataError(f"{folder} holds {' and '.join(f.name for f in found)}: keep one, or give the file itself")
        if found:
            files[part] = found[0]
    if "interactions" not in files:
        names = ", ".join(sorted(f.name for f in folder.iterdir())[:8]) or "nothing"
        raise DataError(f"{folder} holds no interactions.parquet, .csv, .tsv or *.inter; found: {names}")
    return files


def _read_part(value: Any, name: str, ids: frozenset[str]) -> pa.Table:
    table = read_file(Path(value), ids) if isinstance(value, str | Path) else _to_arrow(value, name)
    return _require_rows(table, f"the {name} table") if name == "interactions" else table


def _to_arrow(data: Any, name: str) -> pa.Table:
    if isinstance(data, pa.Table):
        return _distinct_names(data, name)
    try:
        return pa.table(data)
    except (TypeError, ValueError, pa.ArrowException) as problem:
        raise DataError(
            f"{name}: cannot use a {type(data).__name__} as a table ({_first_line(problem)}); expected a path, "
            "a pandas, polars or pyarrow table"
        ) from None


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()


def _read_text(path: Path, ids: frozenset[str]) -> pa.Table:
    from pyarrow import csv

    header = _header(path)
    delimiter = _delimiter(path, header)
    names = [name.strip().strip('"') for name in header.split(delimiter)]
    text = {name for name in names if name in ids or _is_id_name(name)}
    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={name: pa.large_string() for name in text}, null_values=_NULLS, strings_can_be_null=True
        ),
    )
    return _plain_ids(_distinct_names(table, str(path)), text)


def _read_recbole(path: Path) -> pa.Table:
    from pyarrow import csv

    fields = [field.strip() for field in _header(path).split("\t")]
    broken = [field for field in fields if field.partition(":")[2] not in _RECBOLE_TYPES]
    if broken:
        raise DataError(f"{path}: header field {broken[0]!r} is not name:token|token_seq|float|float_seq")
    types = {field: pa.float64() if field.endswith(":float") else pa.large_string() for field in fields}
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(column_names=fields, skip_rows=1),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=types, null_values=_NULLS, strings_can_be_null=True),
    )
    _distinct_names(table, str(path))
    names = [field.partition(":")[0] for field in fields]
    columns = [_RECBOLE_TYPES[field.partition(":")[2]](table[field]) for field in fields]
    return pa.table(columns, names=names)


def _token(column: pa.ChunkedArray) -> pa.Array:
    return integers_where_exact(column.combine_chunks())


def _token_sequence(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow.compute as pc

    return pc.split_pattern(column, " ").cast(pa.large_list(pa.string()))


def _float_sequence(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow.compute as pc

    lists = pc.split_pattern(pc.replace_substring(column, ",", " "), " ").combine_chunks()
    return lists.cast(pa.list_(pa.float64()))


_RECBOLE_TYPES: dict[str, Any] = {
    "token": _token,
    "token_seq": _token_sequence,
    "float": lambda column: column,
    "float_seq": _float_sequence,
}


def _plain_ids(table: pa.Table, names: Iterable[str]) -> pa.Table:
    for name in names:
        if name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, integers_where_exact(table[name].combine_chunks()))
    return table


def _is_id_name(name: str) -> bool:
    return looks_like(name, "user") or looks_like(name, "item") or plain(name).endswith("id")


def _header(path: Path) -> str:
    with pa.input_stream(str(path), compression="detect") as stream:
        start = bytes(stream.read(1 << 16))
    line = start.decode("utf-8-sig", errors="replace").splitlines()[:1]
    if not line or not line[0].strip():
        raise DataError(f"{path} has no header line; expected column names in the first line")
    return line[0]


def _delimiter(path: Path, header: str) -> str:
    usual = "\t" if ".tsv" in path.name.lower() or path.suffix == ".txt" else ","
    if usual in header:
        return usual
    return max([usual, ",", "\t", ";", "|"], key=header.count)


def _require_rows(table: pa.Table, name: str) -> pa.Table:
    if table.num_rows == 0:
        raise DataError(f"{name} has no rows (columns: {', '.join(table.column_names) or 'none'})")
    return table


def _first_line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
