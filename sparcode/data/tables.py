"""Read interactions, items and users from files, folders, fetched names and in-memory tables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparcode.data.columns import is_row_number, listed
from sparcode.data.memory_tables import arrow_table
from sparcode.data.parts import is_parts, numbered_files, part_files, read_parts
from sparcode.data.plain_types import plain_table
from sparcode.data.recbole import read_recbole
from sparcode.data.text_files import distinct_names, read_text
from sparcode.data.text_kinds import not_text
from sparcode.errors import DataError

_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".txt")
_ATOMIC = (".inter", ".item", ".user")
_KINDS = (*_PARQUET, *_TEXT, *_ATOMIC)
_Part = tuple[pa.Table, dict[str, str]]
_RECBOLE = {"interactions": ".inter", "items": ".item", "users": ".user"}


@dataclass(frozen=True)
class Tables:
    """What was read: one table of interactions, and tables of items and users where given.

    Their columns are of plain types (see ``plain_types``). ``left_out``: table -> column -> why it was left out.
    """

    interactions: pa.Table
    items: pa.Table | None = None
    users: pa.Table | None = None
    source: str = "a table in memory"
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)


def read_tables(data: Any, text_columns: Iterable[str] = ()) -> Tables:
    """Read DATA.

    ``data``: a path of a file or folder, a fetched name, a pandas, polars or pyarrow table, a mapping of columns,
    a mapping with the key ``interactions`` (and ``items``, ``users``) whose values are any of these, or Tables.
    ``text_columns``: columns of text files that are ids whatever their name, and hence never read as numbers.
    Raises DataError for what cannot be read and for interactions without rows.
    """
    ids = frozenset(text_columns)
    if isinstance(data, Tables):
        given = {"interactions": data.interactions, "items": data.items, "users": data.users}
        parts = {name: (table, data.left_out.get(name, {})) for name, table in given.items() if table is not None}
        return _tables(parts, data.source, ids)
    if isinstance(data, str | Path):
        path = _resolve(data)
        return _tables({name: (_read_source(found, ids), {}) for name, found in _sources(path).items()}, str(path), ids)
    if isinstance(data, Mapping) and "interactions" in data:
        parts = {name: _read_part(value, name, ids) for name, value in data.items() if value is not None}
        unknown = sorted(set(parts) - {"interactions", "items", "users"})
        if unknown:
            raise DataError(f"unknown table {unknown[0]!r}; tables are interactions, items and users")
        if "interactions" not in parts:
            raise DataError("the interactions table is None; expected a path, or a pandas, polars or pyarrow table")
        return _tables(parts, Tables.source, ids)
    return _tables({"interactions": _in_memory(data, "data", ids)}, Tables.source, ids)


def read_file(path: Path, text_columns: frozenset[str] = frozenset()) -> pa.Table:
    """Read one Parquet, CSV, TSV or RecBole file, or a folder of parts of one table, as columns of plain types.

    Errors are DataError with the file's name.
    """
    try:
        if path.is_dir():
            return read_parts(part_files(path, kind_of), path, read_file, text_columns)
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; expected a table with a header")
        if kind_of(path) in _PARQUET:
            return _read_parquet(path)
        return plain_table(read_recbole(path) if kind_of(path) in _ATOMIC else read_text(path, text_columns))
    except (pa.ArrowException, UnicodeDecodeError, OSError) as problem:
        raise DataError(f"{path} cannot be read: {_first_line(problem)}; is the file whole?") from None


def table_of(data: Any, name: str) -> pa.Table:
    """Return a table in memory (pandas, polars, pyarrow, a mapping of columns, ...) as columns of plain types.

    Lazy frames, datasets and readers are read; columns that hold values of several types are left out with a warning.
    ``name`` stands in messages. Raises DataError.
    """
    return _in_memory(data, name, frozenset())[0]


def kind_of(path: Path) -> str | None:
    """Return the known ending of a file name (``.csv.gz`` counts as one), or None."""
    name = path.name.lower()
    return next((kind for kind in sorted(_KINDS, key=len, reverse=True) if name.endswith(kind)), None)


def _tables(parts: dict[str, _Part], source: str, ids: frozenset[str]) -> Tables:
    """Check what was read, and leave numbers of rows out of items and users, whose columns are all features."""
    interactions, left_out_of_events = parts["interactions"]
    if interactions.num_rows == 0:
        names = listed(interactions.column_names) or "none"
        raise DataError(
            f"{source if source != Tables.source else 'the interactions table'} has no rows (columns: {names})"
        )
    kept, left_out = {"interactions": plain_table(interactions)}, {"interactions": left_out_of_events}
    for name in sorted(set(parts) - {"interactions"}):
        table = plain_table(parts[name][0])
        kept[name] = without_row_numbers(table, ids)
        numbers = [column for column in table.column_names if column not in kept[name].column_names]
        left_out[name] = parts[name][1] | dict.fromkeys(numbers, "numbers of rows")
    return Tables(**kept, source=source, left_out=left_out)


def without_row_numbers(table: pa.Table, ids: frozenset[str] = frozenset()) -> pa.Table:
    """Return a table without columns that only number the rows, but for those that are named in ``ids``."""
    return table.drop_columns([name for name in table.column_names if name not in ids and _numbers_rows(table, name)])


def _numbers_rows(table: pa.Table, name: str) -> bool:
    """Tell whether a column numbers the rows: by its name, and by its values where the name is an everyday word."""
    import pyarrow.compute as pc

    if not is_row_number(name):
        return False
    column = table[name]
    whole = pa.types.is_integer(column.type) and pc.count_distinct(column).as_py() == len(column)
    return whole or name.strip().lower() != "index"


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


def _sources(path: Path) -> dict[str, list[Path]]:
    """Return table -> the file, the folder of its parts, or its numbered files."""
    if path.is_dir():
        try:
            return _folder_sources(path)
        except OSError as problem:
            raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    if kind_of(path) is None:
        raise DataError(f"{path}: unknown kind of file; expected one of {', '.join(_KINDS)}")
    return {"interactions": [path]}


def _read_source(found: list[Path], ids: frozenset[str]) -> pa.Table:
    return read_file(found[0], ids) if len(found) == 1 else read_parts(found, found[0].parent, read_file, ids)


def _folder_sources(folder: Path) -> dict[str, list[Path]]:
    sources = {}
    entries = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    for part, recbole in _RECBOLE.items():
        found = [file for file in entries if _is_named(file, part)]
        found = found or [file for file in entries if file.is_file() and kind_of(file) == recbole]
        if len(found) > 1:
            raise DataError(
                f"{folder} holds {' and '.join(file.name for file in found)}: keep one, or give the file itself"
            )
        found = found or numbered_files(folder, part, kind_of)
        if found:
            sources[part] = found
    if "interactions" in sources:
        return sources
    named = folder.name.lower() == "interactions" or kind_of(folder) is not None
    if is_parts(folder, kind_of) or (named and part_files(folder, kind_of)):
        return {"interactions": [folder]}
    names = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    raise DataError(
        f"{folder} holds no interactions.parquet, .csv, .tsv or *.inter; found: {names}; parts of one table "
        f"belong into a folder {folder / 'interactions'}"
    )


def _is_named(entry: Path, part: str) -> bool:
    """Tell whether a file is ``interactions.csv`` or the like, or a folder of parts with such a name."""
    if entry.is_dir():
        return entry.name.lower() in (part, f"{part}{kind_of(entry)}") and bool(part_files(entry, kind_of))
    return kind_of(entry) is not None and entry.name.lower() == f"{part}{kind_of(entry)}"


def _read_part(value: Any, name: str, ids: frozenset[str]) -> _Part:
    return (read_file(_resolve(value), ids), {}) if isinstance(value, str | Path) else _in_memory(value, name, ids)


def _in_memory(data: Any, name: str, ids: frozenset[str]) -> _Part:
    table, left_out = arrow_table(data, name, ids)
    distinct_names(table.column_names, name)
    return plain_table(table), left_out


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with open(path, "rb") as stream:
        start = stream.read(1 << 16)
    if not start.startswith((b"PAR1", b"PARE")):
        what = (
            not_text(start) or "is no Parquet file (it does not begin with PAR1); if it is text, name it .csv or .tsv"
        )
        raise DataError(f"{path} {what}")
    file = pq.ParquetFile(path)
    distinct_names(file.schema_arrow.names, str(path))
    return plain_table(file.read())


def _first_line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
