"""From a raw table to columns of numbers: user and item codes, times in seconds, ratings, split names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.ids import as_id_array
from sparcode.errors import DataError


@dataclass(frozen=True)
class Interactions:
    """Events in file order, one element an event.

    ``users``, ``items``: int32 positions in ``user_ids``, ``item_ids`` (sorted external ids; some may be unused).
    ``times``: float64 seconds or positions, or None. ``ratings``: float64 or None. ``splits``: int32 position in
    ``split_names``, or None. ``rows``: int64, 0-based row of the input, for messages.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    ratings: np.ndarray | None
    splits: np.ndarray | None
    rows: np.ndarray
    user_ids: pa.Array
    item_ids: pa.Array
    split_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.users)

    def select(self, which: np.ndarray) -> Interactions:
        """Return the events of a mask or of positions, ids unchanged."""
        return replace(
            self,
            users=self.users[which],
            items=self.items[which],
            times=None if self.times is None else self.times[which],
            ratings=None if self.ratings is None else self.ratings[which],
            splits=None if self.splits is None else self.splits[which],
            rows=self.rows[which],
        )


def build_interactions(table: pa.Table, columns: dict[str, str], rows: np.ndarray) -> Interactions:
    """Encode a table. ``columns``: role -> name; ``rows``: original row numbers of the table's rows.

    Raises DataError for null ids (with the row) and for columns of the wrong type. Times and ratings are converted
    but not judged here: nulls become nan.
    """
    users, user_ids = _encode(table[columns["user"]], "user", columns["user"], rows)
    items, item_ids = _encode(table[columns["item"]], "item", columns["item"], rows)
    times = to_seconds(table[columns["time"]], columns["time"], rows) if "time" in columns else None
    ratings = _numbers(table[columns["rating"]], columns["rating"]) if "rating" in columns else None
    splits, names = _split_codes(table[columns["split"]]) if "split" in columns else (None, ())
    return Interactions(users, items, times, ratings, splits, rows, user_ids, item_ids, names)


def to_seconds(column: Any, name: str, rows: np.ndarray) -> np.ndarray:
    """Convert a time column to float64: numbers as they are, dates and ISO text to Unix seconds, null to nan."""
    array = _whole(column)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array, kind = _parse_times(array, name, rows)
    if pa.types.is_date(kind):
        array = array.cast(pa.timestamp("s"))
    elif pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp("us", tz=kind.tz))
    if not pa.types.is_timestamp(array.type):
        return _numbers(array, name)
    unit = 1.0 if array.type.unit == "s" else 1e6
    return _numbers(array.cast(pa.int64()), name) / unit


def other_time_columns(table: pa.Table, columns: dict[str, str]) -> list[str]:
    """Names of columns without nulls, free of other roles, that could serve as time."""
    names = []
    for name in table.column_names:
        kind = table[name].type
        numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
        if numeric and name not in columns.values() and table[name].null_count == 0:
            names.append(name)
    return names


def _whole(column: Any) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _encode(column: pa.ChunkedArray, role: str, name: str, rows: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    ids = as_id_array(column, role)
    if ids.null_count:
        first = int(np.flatnonzero(np.asarray(ids.is_null()))[0])
        raise DataError(
            f"row {rows[first] + 1:,} has no {role} id (column {name!r}; {ids.null_count:,} such rows): "
            "fill or remove these rows (in text files an empty field, NULL, NaN and N/A mean none)"
        )
    encoded = ids.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[encoded.indices.to_numpy()], encoded.dictionary.take(pa.array(order))


def _numbers(column: Any, name: str) -> np.ndarray:
    array = _whole(column)
    if pa.types.is_boolean(array.type) or pa.types.is_nested(array.type):
        raise DataError(f"column {name!r} must hold numbers, found {array.type}")
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.string())  # Arrow's own cast makes 0.7000000000000001 of 0.70
    try:
        values = array.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
        raise DataError(f"column {name!r} must hold numbers: {str(problem).splitlines()[0]}") from None
    return np.array(values.fill_null(float("nan")).to_numpy(zero_copy_only=False), dtype=np.float64)


def _parse_times(array: pa.Array, name: str, rows: np.ndarray) -> tuple[pa.Array, pa.DataType]:
    for kind in (pa.float64(), pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return array.cast(kind), kind
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    first = _first_unreadable(array)
    raise DataError(
        f"column {name!r}, row {rows[first] + 1:,}: {array[first].as_py()!r} is no number and no ISO date "
        "(expected e.g. 1365029107 or 2013-04-03T22:45:07)"
    )


def _first_unreadable(array: pa.Array) -> int:
    readable = pc.match_substring_regex(
        array, r"^\s*(\d+(\.\d+)?|\d{4}-\d{2}-\d{2}([ T][\d:.]+(Z|[+-]\d{2}:?\d{2})?)?)\s*$"
    )
    broken = np.flatnonzero(~np.asarray(pc.fill_null(readable, True)))
    return int(broken[0]) if len(broken) else 0


def _split_codes(column: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    encoded = _whole(column).cast(pa.large_string()).dictionary_encode(null_encoding="encode")
    names: Sequence[str | None] = encoded.dictionary.to_pylist()
    return encoded.indices.to_numpy().astype(np.int32), tuple("" if name is None else name for name in names)
