"""The dataset as files: Arrow IPC opened by memory map, and one JSON. Opening reads headers, not rows.

A column of lists is two buffers, pointers and values, which are exactly the arrays of ``types.Sequences``; so nothing
is copied or parsed when a run is opened.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from sparcode.data.attributes import ItemAttributes
from sparcode.data.features import FeatureLayout, Features
from sparcode.data.ids import IdMap
from sparcode.data.text import ItemText, TextEncoder
from sparcode.data.views import view
from sparcode.errors import CorruptIndexError, DataError
from sparcode.files import atomic_path, make_folder, read_object, require_regular, sha256_of, sync_directory, write_json
from sparcode.types import EvaluationSet, Queries, Sequences

FORMAT = 1
_IDS = pa.large_list(pa.int32())


class Titles(Sequence[str]):
    """Titles by internal item id; text is made only for the ones that are asked for."""

    def __init__(self, array: pa.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [str(value) for value in self.array[index].to_pylist()]
        return str(self.array[int(index)].as_py())

    def __iter__(self) -> Iterator[str]:
        return iter(self.array.to_pylist())


@dataclass(frozen=True)
class Dataset:
    """Everything a run keeps of its data. Rows of sequences are internal user ids.

    ``train``: training events only; ``serving``: every event kept after cleaning. ``titles``: by internal item id.
    ``popularity``: int64 (n,), training events of each item. ``summary``: JSON-able: columns, counts, what was
    dropped, warnings. ``item_text``: the encoding behind the vector that ``item_features`` holds of the items' text.
    ``item_attributes``: the raw values of the items' columns, inverted for filters; None without a table of items.
    """

    item_ids: IdMap
    user_ids: IdMap
    train: Sequences
    serving: Sequences
    validation: EvaluationSet | None
    test: EvaluationSet | None
    titles: Sequence[str] | None
    item_features: Features | None
    user_features: Features | None
    popularity: np.ndarray
    summary: dict[str, Any]
    item_text: ItemText | None = None
    item_attributes: ItemAttributes | None = None

    @property
    def item_count(self) -> int:
        """n, items of the catalogue."""
        return len(self.item_ids)

    @cached_property
    def items_without_event(self) -> int:
        """How many items no event names: known by the items table alone, or by that of an earlier run."""
        return self.item_count - len(np.unique(self.serving.items))

    @property
    def user_count(self) -> int:
        """Number of users, rows of ``train`` and ``serving``."""
        return len(self.user_ids)


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Write the dataset into ``folder``, which appears whole or not at all; an earlier one is replaced."""
    folder = Path(folder)
    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        _write(dataset, temporary)
        if folder.exists():
            retired = folder.with_name(f"{temporary.name}.old")
            folder.rename(retired)
            temporary.rename(folder)
            shutil.rmtree(retired)
        else:
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(folder.parent)


def open_dataset(folder: Path) -> Dataset:
    """Open a saved dataset by memory map: O(1) work a file, rows are read when they are used.

    Arrays are read-only. Sizes and id ranges are checked; damage raises CorruptIndexError.
    """
    folder = Path(folder)
    content = read_object(folder / "dataset.json")
    if content.get("format") != FORMAT:
        found = content.get("format")
        raise CorruptIndexError(f"{folder / 'dataset.json'}: format {found!r}, expected {FORMAT}; train the run again")
    reader = _Reader(folder, content.get("files", {}))
    try:
        dataset = _open(reader, content)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        raise CorruptIndexError(
            f"{folder / 'dataset.json'} does not fit {reader.last} beside it ({type(problem).__name__}: {problem}); "
            "put the files back, or train the run again"
        ) from None
    _check_rows(folder, dataset)
    return dataset


def _check_rows(folder: Path, dataset: Dataset) -> None:
    """Raise CorruptIndexError unless every file has one row an item, a user or a query, and users are among them."""
    items, users = dataset.item_count, dataset.user_count
    if dataset.popularity.dtype != np.int64 or (items and dataset.popularity.min() < 0):
        raise CorruptIndexError(f"{folder / 'items.arrow'}: popularity is not one count an item; train the run again")
    rows: dict[str, tuple[Any, int]] = {
        "items": (dataset.popularity, items), "train": (dataset.train, users), "serving": (dataset.serving, users),
        "item_features": (dataset.item_features, items), "user_features": (dataset.user_features, users),
    }  # fmt: skip
    for name, (part, expected) in rows.items():
        if part is not None and len(part) != expected:
            raise CorruptIndexError(f"{folder / name}.arrow has {len(part)} rows, expected {expected}; train again")
    for name, held in (("validation", dataset.validation), ("test", dataset.test)):
        if held is not None and len({len(held.users), len(held.queries), len(held.target_indptr) - 1}) > 1:
            raise CorruptIndexError(f"{folder / name}.arrow: users, histories and targets do not fit; train again")
        if held is not None and len(held.users) and not 0 <= held.users.min() <= held.users.max() < users:
            raise CorruptIndexError(f"{folder / name}.arrow names users outside 0..{users - 1}; train the run again")


def _open(reader: _Reader, content: dict[str, Any]) -> Dataset:
    items, users = reader.table("items"), reader.table("users")
    count = len(items["item_id"])
    return Dataset(
        item_ids=reader.ids("item", items["item_id"]),
        user_ids=reader.ids("user", users["user_id"]),
        train=reader.sequences("train", count),
        serving=reader.sequences("serving", count),
        validation=reader.evaluation_set("validation", count),
        test=reader.evaluation_set("test", count),
        titles=Titles(items["title"]) if "title" in items else None,
        item_features=reader.features("item_features", content),
        user_features=reader.features("user_features", content),
        popularity=view(items["popularity"]),
        summary=dict(content["summary"]),
        item_text=reader.item_text(content),
        item_attributes=reader.item_attributes(content, count),
    )


def verify_dataset(folder: Path) -> None:
    """Compare the SHA-256 of every file of a saved dataset; CorruptIndexError names the first that differs."""
    content = read_object(folder / "dataset.json")
    for name, wanted in dict(content.get("sha256", {})).items():
        path = folder / f"{name}.arrow"
        if not path.is_file():
            raise CorruptIndexError(f"{path} is missing, dataset.json names it; train the run again")
        found = sha256_of(path)
        if found != wanted:
            what = f"its SHA-256 is {found[:12]}..., dataset.json says {str(wanted)[:12]}..."
            raise CorruptIndexError(f"{path} is damaged: {what}; train the run again")


def _write(dataset: Dataset, folder: Path) -> None:
    items = {"item_id": dataset.item_ids.external, "popularity": pa.array(dataset.popularity)}
    if dataset.titles is not None:
        titles = dataset.titles
        items["title"] = titles.array if isinstance(titles, Titles) else pa.array(titles, pa.large_string())
    tables: dict[str, dict[str, pa.Array]] = {"items": items, "users": {"user_id": dataset.user_ids.external}}
    tables["train"] = _sequence_columns(dataset.train)
    tables["serving"] = _sequence_columns(dataset.serving)
    content: dict[str, Any] = {"format": FORMAT, "files": {}, "sha256": {}}
    for name, held in (("validation", dataset.validation), ("test", dataset.test)):
        if held is not None:
            tables[name] = _evaluation_columns(held)
    for name, features in (("item_features", dataset.item_features), ("user_features", dataset.user_features)):
        if features is not None:
            tables[name] = _feature_columns(features)
            content[name] = features.layout.to_json()
    if dataset.item_text is not None:
        text = dataset.item_text
        tables["item_text"] = _text_columns(text.encoder)
        content["item_text"] = {"name": text.name, "title": text.title, "columns": text.columns}
    if dataset.item_attributes is not None:
        tables["item_attributes"] = dataset.item_attributes.to_lists()
        content["item_attributes"] = dataset.item_attributes.to_json()
    for name, columns in tables.items():
        path = folder / f"{name}.arrow"
        _write_arrow(path, columns)
        content["files"][name] = path.stat().st_size
        content["sha256"][name] = sha256_of(path)
    write_json(folder / "dataset.json", content | {"summary": dataset.summary})


def _write_arrow(path: Path, columns: dict[str, pa.Array]) -> None:
    table = pa.table(columns).combine_chunks()
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def _lists(indptr: np.ndarray, values: np.ndarray) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(np.ascontiguousarray(indptr, np.int64)), pa.array(values))


def _sequence_columns(sequences: Sequences) -> dict[str, pa.Array]:
    columns = {"items": _lists(sequences.indptr, sequences.items)}
    if len(sequences.times) == len(sequences.items):
        columns["times"] = _lists(sequences.indptr, sequences.times)
    return columns


def _evaluation_columns(held: EvaluationSet) -> dict[str, pa.Array]:
    columns = {
        "user": pa.array(held.users),
        "history": _lists(held.queries.indptr, held.queries.items),
        "targets": _lists(held.target_indptr, held.target_items),
    }
    if held.queries.times is not None:
        columns["time"] = pa.array(held.queries.times)
    return columns


def _feature_columns(features: Features) -> dict[str, pa.Array]:
    columns = {"categories": _lists(features.categories_indptr, features.categories_items)}
    for name, matrix in (("numeric", features.numeric), ("vector", features.vector)):
        if matrix is not None and matrix.shape[1]:
            flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])
    return columns


def _text_columns(encoder: TextEncoder) -> dict[str, pa.Array]:
    arrays, terms = encoder.to_arrays()
    flat = pa.array(np.ascontiguousarray(arrays["components"], np.float32).ravel())
    return {
        "term": pa.array(terms, pa.large_string()),
        "idf": pa.array(arrays["idf"], pa.float64()),
        "components": pa.FixedSizeListArray.from_arrays(flat, encoder.width),
    }


class _Reader:
    """Memory-mapped files of one saved dataset. ``last``: the one that was read last."""

    def __init__(self, folder: Path, sizes: dict[str, int]) -> None:
        self.folder = folder
        self.sizes = sizes
        self.last = "the files"

    def table(self, name: str) -> dict[str, pa.Array]:
        """Return the columns of one file, each a single array."""
        path = self.folder / f"{name}.arrow"
        self.last = path.name
        try:
            found = path.stat().st_size
            if found != self.sizes[name]:
                raise CorruptIndexError(
                    f"{path} has {found:,} bytes, expected {self.sizes[name]:,}: train the run again"
                )
            require_regular(path)
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            # Offsets of texts and lists are followed without a look: one that is wrong reads foreign memory.
            table.validate(full=True)
            return {column: _only_chunk(table[column]) for column in table.column_names}
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as problem:
            reason = getattr(problem, "strerror", None) or (str(problem).splitlines() or [type(problem).__name__])[0]
            raise CorruptIndexError(f"{path} is missing or damaged ({reason}); train the run again") from None

    def sequences(self, name: str, count: int) -> Sequences:
        """Return saved sequences; item ids are checked against the number of items."""
        columns = self.table(name)
        indptr, items = self._ragged(name, columns["items"], count)
        times = view(columns["times"].values) if "times" in columns else np.zeros(0)
        if "times" in columns and (times.dtype != np.float64 or len(times) != len(items)):
            raise self._damaged(name, f"{len(times)} times of {times.dtype} found, expected a float64 an event")
        return Sequences(indptr, items, times)

    def evaluation_set(self, name: str, count: int) -> EvaluationSet | None:
        """Return a saved evaluation set, or None when the dataset has none."""
        if name not in self.sizes:
            return None
        columns = self.table(name)
        indptr, items = self._ragged(name, columns["history"], count)
        targets = self._ragged(name, columns["targets"], count)
        times = view(columns["time"]) if "time" in columns else None
        users = view(columns["user"])
        if users.dtype != np.int32 or (times is not None and times.dtype != np.float64):
            raise self._damaged(name, f"users are {users.dtype}, times {getattr(times, 'dtype', None)}")
        return EvaluationSet(users, Queries(indptr, items, times=times), *targets)

    def ids(self, kind: str, array: pa.Array) -> IdMap:
        """Return the external ids of items or users."""
        if array.null_count:
            raise self._damaged(f"{kind}s", f"{array.null_count} ids are null")
        try:
            return IdMap(array, kind=kind, source=self.folder / f"{kind}s.arrow")
        except DataError:  # it speaks of a table of the user's
            raise self._damaged(f"{kind}s", f"ids are {array.type}, expected text or int64") from None

    def features(self, name: str, content: dict[str, Any]) -> Features | None:
        """Return saved features, or None when the dataset has none."""
        if name not in self.sizes:
            return None
        layout = FeatureLayout.from_json(content[name])
        columns = self.table(name)
        indptr, words = self._ragged(name, columns["categories"], len(layout.vocabulary))
        rows = len(indptr) - 1
        numeric, vector = (
            view(columns[part].values).reshape(rows, -1) if part in columns else None for part in ("numeric", "vector")
        )
        numeric = np.zeros((rows, 0), np.float32) if numeric is None else numeric
        held = len(layout.vocabulary) + numeric.shape[1] + (0 if vector is None else vector.shape[1])
        if numeric.shape[1] != len(layout.numeric_names) or held != layout.width:
            raise ValueError(f"{name} has columns of another number than dataset.json says")
        return Features(layout, indptr, words, numeric, vector)

    def item_text(self, content: dict[str, Any]) -> ItemText | None:
        """Return the saved encoding of text, or None when the dataset has none; terms are read when they are used."""
        if "item_text" not in content:
            return None
        columns, saved = self.table("item_text"), content["item_text"]
        width = columns["components"].type.list_size
        components = view(columns["components"].values).reshape(-1, width)
        layout = content.get("item_features", {"vector_names": [], "vector_widths": []})
        widths = dict(zip(layout["vector_names"], layout["vector_widths"], strict=True))
        if widths.get(saved["name"]) != width:
            raise CorruptIndexError(
                f"{self.folder / 'item_text'}.arrow does not belong to the items' features; train the run again"
            )
        arrays = {"idf": view(columns["idf"]), "components": components}
        encoder = TextEncoder.from_arrays(arrays, Titles(columns["term"]))
        return ItemText(saved["name"], saved["title"], saved["columns"], encoder)

    def item_attributes(self, content: dict[str, Any], count: int) -> ItemAttributes | None:
        """Return the saved attributes, or None when the dataset has none; ids are checked when a column is used."""
        if "item_attributes" not in content:
            return None
        columns, saved = self.table("item_attributes"), content["item_attributes"]
        try:
            attributes = ItemAttributes.from_lists(columns, saved)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            attributes = None
        if attributes is None or attributes.count != count:
            raise CorruptIndexError(
                f"{self.folder / 'item_attributes'}.arrow does not belong to the items; train the run again"
            )
        return attributes

    def _ragged(self, name: str, column: pa.Array, count: int) -> tuple[np.ndarray, np.ndarray]:
        if column.type != _IDS or column.null_count or column.values.null_count:
            raise self._damaged(name, f"{column.type} with or without nulls found, expected {_IDS} without")
        indptr, values = view(column.offsets), view(column.values)
        # Consumers use these as array positions, also in compiled code without bounds checks.
        ordered = indptr[0] == 0 and indptr[-1] == len(values) and bool((indptr[1:] >= indptr[:-1]).all())
        if not ordered or (len(values) and not 0 <= values.min() <= values.max() < count):
            raise self._damaged(name, "pointers or ids out of range")
        return indptr, values

    def _damaged(self, name: str, problem: str) -> CorruptIndexError:
        return CorruptIndexError(f"{self.folder / name}.arrow is damaged: {problem}; train the run again")


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
