"""A table in several files: a folder of parts as Spark, Hive, Dask and Polars write them, or numbered files.

Names ``key=value`` of folders are columns. Files and folders whose name begins with ``.`` or ``_`` are not data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from sparcode.data.text_files import is_id_name, plain_ids
from sparcode.errors import DataError
from sparcode.wording import warn

_HIVE = re.compile(r"([^=/]+)=([^/]*)")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_NUMBERED = re.compile(
    r"(?i)^(part|data|chunk|shard|file)?[-_.]?\d[\w.-]*$|^\d+[\w.-]*$|^[0-9a-f]{8,}[\w.-]*$|^part[-_.][\w.-]+$"
)
KindOf = Callable[[Path], str | None]
ReadFile = Callable[[Path, frozenset[str]], pa.Table]


def part_files(folder: Path, kind_of: KindOf) -> list[Path]:
    """Return the files of a folder and its ``key=value`` folders that a table can be read of, sorted; hidden ones and
    empty ones left out."""
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            files += part_files(entry, kind_of)
        elif entry.is_file() and kind_of(entry) and entry.stat().st_size:
            files.append(entry)
    return files


def is_parts(folder: Path, kind_of: KindOf) -> bool:
    """Tell whether a folder is one table: it has ``key=value`` folders, a ``_SUCCESS``, or numbered files only."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    files = [entry for entry in entries if entry.is_file() and kind_of(entry)]
    if any(entry.is_dir() and _HIVE.fullmatch(entry.name) for entry in entries):
        return bool(part_files(folder, kind_of))
    if not files:
        return False
    success = any(entry.name in ("_SUCCESS", "_metadata", "_common_metadata") for entry in entries)
    return success or all(_NUMBERED.match(file.name) for file in files)


def numbered_files(folder: Path, name: str, kind_of: KindOf) -> list[Path]:
    """Return files such as ``interactions-00000-of-00002.parquet`` or ``interactions_1.csv``, sorted."""
    pattern = re.compile(rf"(?i)^{re.escape(name)}[-_.]?(part)?[-_.]?\d[\w-]*\.")
    return sorted(file for file in folder.iterdir() if file.is_file() and kind_of(file) and pattern.match(file.name))


def read_parts(files: Sequence[Path], root: Path, read_file: ReadFile, ids: frozenset[str]) -> pa.Table:
    """Read files of one table into one: same columns, whatever their order; a column of some files is null elsewhere.

    DataError names file and column where types do not agree; columns that are missing somewhere are warned of.
    """
    if not files:
        raise DataError(f"{root} holds no table; expected Parquet, CSV or TSV files")
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) > 1:
        raise DataError(
            f"{root} holds parts of several kinds ({', '.join(kinds)}): is one a copy of the other? keep one kind"
        )
    tables = [_with_keys(read_file(file, ids), file, root) for file in files]
    keys = {match[1] for file in files for match in map(_HIVE.fullmatch, file.relative_to(root).parts[:-1]) if match}
    _check_names(files, tables)
    # A part without rows says nothing about types.
    kept = [place for place, table in enumerate(tables) if table.num_rows] or [0]
    files, tables = [files[place] for place in kept], [tables[place] for place in kept]
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    types = {name: _common_type(name, files, tables) for name in names}
    table = pa.concat_tables([_as(table, types, file) for file, table in zip(files, tables, strict=True)])
    for name in keys & set(names):
        if pa.types.is_large_string(table[name].type):
            table = table.set_column(names.index(name), name, plain_ids(table[name]))
    return table


def _with_keys(table: pa.Table, file: Path, root: Path) -> pa.Table:
    for folder in file.relative_to(root).parts[:-1]:
        match = _HIVE.fullmatch(folder)
        if match and match[1] not in table.column_names:
            value = None if match[2] == _HIVE_NULL else unquote(match[2])
            table = table.append_column(match[1], pa.repeat(pa.scalar(value, pa.large_string()), table.num_rows))
    return table


def _check_names(files: Sequence[Path], tables: list[pa.Table]) -> None:
    first = tables[0].column_names
    for file, table in zip(files, tables, strict=True):
        if first and not set(table.column_names) & set(first):
            raise DataError(
                f"{file} has the columns {', '.join(table.column_names[:8])}, and {files[0].name} has "
                f"{', '.join(first[:8])}: every part needs the same header"
            )
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        lacking = [place for place, table in enumerate(tables) if table.num_rows and name not in table.column_names]
        if lacking:
            rows = sum(tables[place].num_rows for place in lacking)
            _warn(
                f"{files[lacking[0]]} has no column {name!r}, which other parts have; {len(lacking):,} of "
                f"{len(files):,} lack it, and it is missing in their {rows:,} rows"
            )


def _common_type(name: str, files: Sequence[Path], tables: list[pa.Table]) -> pa.DataType:
    kind, where, mixed = pa.null(), files[0], ""
    for file, table in zip(files, tables, strict=True):
        if name not in table.column_names or table[name].type == kind:
            continue
        other = table[name].type
        both = _of_both(kind, other)
        if both is None:
            raise DataError(
                f"{file}: column {name!r} holds {other}, and in {where.name} it holds {kind}; write all parts with one "
                "type"
            )
        if pa.types.is_integer(kind) != pa.types.is_integer(other) and pa.types.is_large_string(both):
            mixed = mixed or f"{file}: column {name!r} holds {other}, and in {where.name} it holds {kind}"
        kind, where = both, file
    if mixed and not is_id_name(name):
        _warn(f"{mixed}: all of it is read as text")
    return kind


def _of_both(kind: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return a type that holds the values of both, None if there is none."""
    try:
        schemas = [pa.schema([("both", kind)]), pa.schema([("both", other)])]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        pass
    for one, two in ((kind, other), (other, kind)):
        if pa.types.is_integer(one) and pa.types.is_large_string(two):
            return two
        if pa.types.is_date(one) and pa.types.is_timestamp(two):
            return two
    return None


def _warn(text: str) -> None:
    warn(text, UserWarning, stacklevel=2)


def _as(table: pa.Table, kinds: dict[str, pa.DataType], file: Path) -> pa.Table:
    columns = []
    for name, kind in kinds.items():
        if name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, kind))
            continue
        try:
            columns.append(table[name].cast(kind))
        except pa.ArrowInvalid as problem:
            raise DataError(f"{file}: column {name!r}: {str(problem).splitlines()[0]}") from None
    return pa.table(columns, names=list(kinds))
