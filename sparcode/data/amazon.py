"""Amazon Reviews 2023 (reviews and metadata as JSON lines) as a folder that ``sparcode train`` reads.

The format of the source (Hou et al. 2024, arXiv 2403.03952): one JSON object a line, plain or gzipped. Files that begin
with ``meta_`` hold items, the others reviews. Read of a review: ``user_id``, ``parent_asin``, ``rating``, ``timestamp``
in milliseconds. Read of an item: ``parent_asin``, ``title``, ``main_category``, ``categories``, ``features``,
``description``, ``price``, ``store``, ``average_rating``, ``rating_number``.

    interactions.parquet   user_id, item_id, rating, timestamp (seconds), split: train, valid, test by time
    items.parquet          item_id, title, categories, brand, price, features, description, ...

The parts are cut at two moments for everybody: 80 % and 90 % of the events, or moments that are given, such as those of
the source's own absolute-timestamp split, 1628643414042 and 1658002729837. Events of one moment are in one part.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.folder import require_absent, whole_folder
from sparcode.errors import DataError
from sparcode.files import atomic_path, write_json

_ENDINGS = (".jsonl", ".jsonl.gz")
_BATCH = 100_000
_REVIEWS = pa.schema(
    [("user_id", pa.large_string()), ("item_id", pa.large_string()), ("rating", pa.float32()), ("ms", pa.int64())]
)
_ITEMS = pa.schema(
    [
        ("item_id", pa.large_string()), ("title", pa.large_string()), ("main_category", pa.large_string()),
        ("categories", pa.list_(pa.large_string())), ("brand", pa.large_string()), ("price", pa.float64()),
        ("average_rating", pa.float32()), ("rating_number", pa.int64()), ("features", pa.large_string()),
        ("description", pa.large_string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """One JSON object and where it stands."""

    values: dict[str, Any]
    place: str


def convert(raw: str | Path, out: str | Path, cuts: tuple[int, int] | None = None) -> dict[str, Any]:
    """Write the folder ``out`` from ``raw``, a folder or one file of reviews; return counts, JSON-able.

    ``cuts``: first millisecond of the validation and of the test part. Items without reviews are left out, items
    without metadata have an id only; of several lines of one item the first counts. Equal reviews (user, item, moment)
    count once. DataError names file and line of what cannot be read, and an existing ``out``.
    """
    raw, out = Path(raw), Path(out)
    require_absent(out)
    reviews, metadata = find_files(raw)
    events, repeats = _without_repeats(_table(reviews, _REVIEWS, _review))
    if len(events) == 0:
        raise DataError(f"{raw} holds no review; expected lines of JSON with user_id, parent_asin, rating, timestamp")
    moments = events["ms"].to_numpy()
    valid_from, test_from = cuts or _moments(moments)
    parts = np.searchsorted([valid_from, test_from], moments, side="right")
    counts = np.bincount(parts, minlength=3).tolist()
    if 0 in counts:
        raise DataError(
            f"cuts at {valid_from} and {test_from} ms leave {counts[0]:,} train, {counts[1]:,} valid and {counts[2]:,} "
            f"test events (times run from {moments.min()} to {moments.max()}); give other --cuts"
        )
    items, about_items = _items(metadata, events["item_id"])
    summary = {
        "events": len(events), "users": pc.count_distinct(events["user_id"]).as_py(), "repeated_reviews": repeats,
        "train": counts[0], "valid": counts[1], "test": counts[2],
        "valid_from_ms": int(valid_from), "test_from_ms": int(test_from), **about_items,
    }  # fmt: skip
    with whole_folder(out) as folder:
        _write(folder / "interactions.parquet", _interactions(events, parts))
        _write(folder / "items.parquet", items)
        write_json(folder / "conversion.json", summary)
    return summary


def find_files(raw: Path) -> tuple[list[Path], list[Path]]:
    """Return files of reviews and of metadata, sorted; a file is read plain where both forms are there."""
    if raw.is_file():
        folder, names = raw.parent, [raw]
        names += [folder / f"meta_{raw.name.removesuffix('.gz')}{ending}" for ending in ("", ".gz")]
        names = [name for name in names if name.is_file()]
    elif raw.is_dir():
        names = sorted(file for file in raw.iterdir() if file.name.endswith(_ENDINGS))
    else:
        raise DataError(f"{raw}: no such file or folder; expected the reviews, e.g. All_Beauty.jsonl.gz")
    names = [name for name in names if not (name.suffix == ".gz" and name.with_suffix("") in names)]
    reviews = [name for name in names if not name.name.startswith("meta_")]
    metadata = [name for name in names if name.name.startswith("meta_")]
    if not reviews:
        raise DataError(f"{raw} holds no reviews: expected files *.jsonl or *.jsonl.gz that do not begin with meta_")
    return reviews, metadata


def _table(files: list[Path], schema: pa.Schema, read: Callable[[_Line], list[Any]]) -> pa.Table:
    """Read lines into a table; only the fields of a batch are Python objects at a time."""
    batches: list[pa.Table] = []
    rows: list[list[Any]] = []
    for file in files:
        for line in _lines(file):
            rows.append(read(line))
            if len(rows) == _BATCH:
                batches.append(_batch(rows, schema))
                rows = []
    batches.append(_batch(rows, schema))
    return pa.concat_tables(batches)


def _batch(rows: list[list[Any]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table([pa.array(values, kind.type) for values, kind in zip(columns, schema, strict=True)], schema=schema)


def _lines(file: Path) -> Iterator[_Line]:
    opened: Any = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8") as stream:
            for number, text in enumerate(stream, start=1):
                if text.strip():
                    yield _Line(_object(text, f"{file}, line {number:,}"), f"{file}, line {number:,}")
    except (OSError, EOFError, UnicodeDecodeError) as problem:
        raise DataError(f"{file} cannot be read to its end: {problem}; fetch it again") from None


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise DataError(f"{place} is not JSON ({problem}); the file is damaged or of another format") from None
    if not isinstance(found, dict):
        raise DataError(f"{place} holds {type(found).__name__}, expected an object with fields")
    return found


def _review(line: _Line) -> list[Any]:
    user, item = _id(line, "user_id"), _id(line, "parent_asin")
    moment = line.values.get("timestamp")
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not 0 <= moment < 2**53:
        raise DataError(f"{line.place}: timestamp {moment!r}, expected milliseconds since 1970")
    if 0 < moment < 10**11:
        raise DataError(f"{line.place}: timestamp {moment!r} looks like seconds, expected milliseconds since 1970")
    return [user, item, _number(line.values.get("rating")), int(moment)]


def _id(line: _Line, name: str) -> str:
    value = line.values.get(name)
    if not isinstance(value, str) or not value:
        found = ", ".join(list(line.values)[:10])
        raise DataError(f"{line.place}: {name} is {value!r}, expected text (fields found: {found})")
    return value


def _item(line: _Line) -> list[Any]:
    values = line.values
    categories = values.get("categories")
    number = _number(values.get("rating_number"))
    return [
        _id(line, "parent_asin"), _text(values.get("title")), _text(values.get("main_category")),
        [str(name) for name in categories if name] if isinstance(categories, list) else [],
        _text(values.get("store")), _number(values.get("price")), _number(values.get("average_rating")),
        None if number is None else int(number), _text(values.get("features")), _text(values.get("description")),
    ]  # fmt: skip


def _text(value: Any) -> str | None:
    """Return text or joined lists of text; None for nothing and for values of another kind."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    return value.strip() or None if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    """Return a number; prices also come as text, such as "$12.99", "12.99 - 20.00" (the first counts) or a dash."""
    if isinstance(value, str):
        words = value.replace("$", " ").replace(",", "").split()
        value = words[0] if words else None
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _without_repeats(events: pa.Table) -> tuple[pa.Table, int]:
    """Return events in order of time, users and items; of several equal ones the first line counts."""
    user, item = (
        pc.rank(events[name].combine_chunks(), tiebreaker="dense").to_numpy() for name in ("user_id", "item_id")
    )
    moments = events["ms"].to_numpy()
    order = np.lexsort((item, user, moments))
    same = (np.diff(user[order]) == 0) & (np.diff(item[order]) == 0) & (np.diff(moments[order]) == 0)
    kept = order[np.concatenate([[True], ~same])] if len(order) else order
    return events.take(pa.array(kept)), int(len(order) - len(kept))


def _moments(moments: np.ndarray) -> tuple[int, int]:
    ordered = np.sort(moments)
    return int(ordered[int(0.8 * len(ordered))]), int(ordered[int(0.9 * len(ordered))])


def _interactions(events: pa.Table, parts: np.ndarray) -> pa.Table:
    names = pa.array(["train", "valid", "test"])
    columns = {
        "user_id": events["user_id"], "item_id": events["item_id"], "rating": events["rating"],
        "timestamp": pc.divide(events["ms"].cast(pa.float64()), 1000.0), "split": names.take(pa.array(parts)),
    }  # fmt: skip
    return pa.table(columns)


def _items(files: list[Path], wanted: pa.ChunkedArray) -> tuple[pa.Table, dict[str, Any]]:
    """Return one row for every item of the reviews, sorted by id, and counts."""
    ids = pc.unique(wanted)
    ids = ids.take(pc.sort_indices(ids))
    found = _table(files, _ITEMS, _item)
    known = found.filter(pc.is_in(found["item_id"], value_set=ids))
    place = pc.index_in(ids, value_set=known["item_id"].combine_chunks())  # the first of several
    table = known.take(place).set_column(0, "item_id", ids) if len(known) else _ids_only(ids)
    counts = {
        "items": len(ids), "metadata_rows": len(found), "metadata_without_review": len(found) - len(known),
        "items_without_metadata": place.null_count,
    }  # fmt: skip
    return table, counts


def _ids_only(ids: pa.Array) -> pa.Table:
    return pa.table([ids, *(pa.nulls(len(ids), kind.type) for kind in list(_ITEMS)[1:])], schema=_ITEMS)


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
