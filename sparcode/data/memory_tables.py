"""Tables in memory, of any library, as Arrow tables; columns that no Arrow type holds are left out by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from sparcode.data.columns import looks_like
from sparcode.errors import DataError
from sparcode.wording import warn


def arrow_table(data: Any, name: str, ids: Collection[str] = ()) -> tuple[pa.Table, dict[str, str]]:
    """Return a table of pandas, polars, pyarrow or a mapping of columns, and why each other column was left out.

    Lazy frames, datasets and readers are read. A column of values of several types is left out with a warning; one
    of ids (by its name, or named in ``ids``) is a DataError, as is what is no table. ``name`` stands in messages.
    """
    try:
        return (data if isinstance(data, pa.Table) else pa.table(_collected(data))), {}
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as problem:
        given = _columns(data)
        if given is None:
            raise DataError(
                f"{name}: cannot use a {type(data).__name__} as a table ({_reason(problem)}); expected a path, "
                "a pandas, polars or pyarrow table whose columns hold values of one type each"
            ) from None
    columns, left_out = {}, {}
    for column, values in given.items():
        found = _array(values)
        if isinstance(found, str):
            if column in ids or looks_like(column, "user") or looks_like(column, "item"):
                raise DataError(f"{name}: ids in column {column!r} are {found}; make them all strings or all integers")
            left_out[column] = found
        else:
            columns[column] = found
    for column, reason in left_out.items():
        warn(f"{name}: column {column!r} is left out: {reason}", UserWarning, stacklevel=4)
    return pa.table(columns), left_out


def _collected(data: Any) -> Any:
    """Return what ``pa.table`` takes: lazy frames of polars are collected, datasets and readers read."""
    if _library(data) == "polars" and hasattr(data, "collect"):
        try:
            return data.collect()
        except Exception as problem:  # whatever the plan of a lazy frame meets
            raise ValueError((str(problem).splitlines() or [type(problem).__name__])[0]) from None
    if _is_pandas(data):
        # An index with a name is a column, even where it counts rows; without one Arrow's own rule holds.
        return pa.Table.from_pandas(data, preserve_index=True if _has_named_index(data) else None)
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if callable(getattr(data, "to_table", None)):
        return data.to_table()
    return data.read_all() if isinstance(data, pa.RecordBatchReader) else data


def _columns(data: Any) -> dict[str, Any] | None:
    """Return the values of each column of a table whose columns are equally long; None when it is none."""
    found: dict[str, Any] = {}
    if _library(data) == "polars" and hasattr(data, "collect"):
        try:
            data = _collected(data)
        except ValueError:
            return None
    if isinstance(data, Mapping) and all(isinstance(name, str) for name in data):
        found = dict(data)
    elif _library(data) == "polars" and hasattr(data, "get_columns"):
        found = {series.name: series for series in data.get_columns()}
    elif _is_pandas(data) and data.columns.is_unique:
        data = data.reset_index() if _has_named_index(data) else data
        found = {str(name): data[name] for name in data.columns}
    try:
        lengths = {len(values) for values in found.values()}
    except TypeError:
        return None
    return found if len(lengths) == 1 and 0 not in lengths else None


def _array(values: Any) -> pa.Array | pa.ChunkedArray | str:
    """Return a column as Arrow has it, or what its values are when it has no type for them."""
    try:
        return values.to_arrow() if _library(values) == "polars" else pa.array(values)
    except (TypeError, ValueError, OverflowError, pa.ArrowException):
        pass
    listed = values.to_list() if hasattr(values, "to_list") else list(values)
    listed = [None if value is not None and value != value else value for value in listed]  # nan
    kinds = sorted({type(value).__name__ for value in listed if value is not None})
    if kinds == ["int"]:
        # Beyond 64 bits: text keeps the digits of ids, and is a number to features.
        return pa.array([None if value is None else str(value) for value in listed], pa.large_string())
    if len(kinds) > 1:
        return f"values of several types ({', '.join(kinds[:4])})"
    return f"{' '.join(kinds)} values that no type of column holds"


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def _is_pandas(data: Any) -> bool:
    return _library(data) == "pandas" and hasattr(data, "index") and hasattr(data, "columns")


def _has_named_index(data: Any) -> bool:
    return any(name is not None for name in data.index.names)


def _reason(problem: BaseException) -> str:
    """Return one line; pandas' problems come with Arrow in two parts, of which the second names the column."""
    parts = [str(part) for part in problem.args if isinstance(part, str)] or [str(problem)]
    return "; ".join(part.splitlines()[0] for part in parts if part) or type(problem).__name__
