"""From a raw table to columns of numbers: user and item codes, times in seconds, ratings, split names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.columns import is_row_number
from sparcode.data.ids import as_id_array
from sparcode.data.times import to_numbers, to_seconds
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
    ratings = to_numbers(table[columns["rating"]], columns["rating"]) if "rating" in columns else None
    splits, names = _split_codes(table[columns["split"]]) if "split" in columns else (None, ())
    return Interactions(users, items, times, ratings, splits, rows, user_ids, item_ids, names)


def other_time_columns(table: pa.Table, columns: dict[str, str]) -> list[str]:
    """Names of columns without nulls, free of other roles, that could serve as time."""
    names = []
    for name in table.column_names:
        kind = table[name].type
        numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
        free = name not in columns.values() and not is_row_number(name)
        if numeric and free and table[name].null_count == 0:
            names.append(name)
    return names


def _encode(column: pa.ChunkedArray, role: str, name: str, rows: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    ids = column if pa.types.is_large_string(column.type) else as_id_array(column, role)
    if ids.null_count:
        first = int(np.flatnonzero(np.asarray(ids.is_null()))[0])
        raise DataError(
            f"row {rows[first] + 1:,} has no {role} id (column {name!r}; {ids.null_count:,} such rows): "
            "fill or remove these rows (in text files an empty field is none, as are NULL, NaN and N/A beside integers)"
        )
    encoded = ids.dictionary_encode()
    # Chunks of text are not joined before: they may be gigabytes, and share one dictionary.
    chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    dictionary = chunks[0].dictionary
    order = pc.sort_indices(dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    codes = np.concatenate([rank[chunk.indices.to_numpy()] for chunk in chunks])
    return codes, dictionary.take(pa.array(order))


def _split_codes(column: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    encoded = column.cast(pa.large_string()).combine_chunks().dictionary_encode(null_encoding="encode")
    names: Sequence[str | None] = encoded.dictionary.to_pylist()
    return encoded.indices.to_numpy().astype(np.int32), tuple("" if name is None else name for name in names)
