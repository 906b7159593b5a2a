"""A dataset ready for training and serving: id maps, sequences, held-out sets, features, and what was dropped."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sparcode.config import DataConfig
from sparcode.data.columns import listed
from sparcode.data.features import Features
from sparcode.data.ids import IdMap, cast_ids
from sparcode.data.interactions import Interactions
from sparcode.data.storage import Dataset, Titles, open_dataset, save_dataset
from sparcode.errors import DataError
from sparcode.types import Sequences
from sparcode.wording import warn

if TYPE_CHECKING:
    from sparcode.data.tables import Tables

__all__ = ["Dataset", "Titles", "load_dataset", "open_dataset", "save_dataset"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Cleaned events with final internal ids, sorted by user and time, and their split."""

    events: Interactions
    split: Any
    item_ids: IdMap
    user_ids: IdMap
    summary: dict[str, Any]


def load_dataset(data: Any, config: DataConfig, *, seed: int, like: Dataset | None = None) -> Dataset:
    """Read, clean, split and encode DATA (see ``tables.read_tables`` for what DATA may be).

    Items without an event that stand in the items table are items too, unless ``config.catalogue_items`` is off.
    Internal item ids: training popularity descending, ties by a hash of ``seed`` and the external id; user ids: sorted
    external ids. With ``like`` ids and feature encodings of that dataset are kept and new ids are appended, so the
    order of popularity need not hold; ``Dataset.popularity`` always counts training events. Raises DataError, and
    MissingExtraError when items have text to encode (``config.text_width``) and scikit-learn is not installed.
    """
    from sparcode.data.attribute_columns import read_attributes
    from sparcode.data.split import TEST, TRAIN, VALIDATION, evaluation_set
    from sparcode.data.tables import read_tables

    tables = read_tables(data, config.columns.values())
    if like is not None:
        config = _with_columns_of(like, config, tables.interactions)
    prepared = prepare(tables, config, seed, like)
    events, split, summary = prepared.events, prepared.split, prepared.summary
    summary["source"] = tables.source
    train = events.select(split.part == TRAIN)
    dataset = Dataset(
        item_ids=prepared.item_ids,
        user_ids=prepared.user_ids,
        train=_sequences(train),
        serving=_sequences(events),
        validation=evaluation_set(events, split, VALIDATION),
        test=evaluation_set(events, split, TEST),
        titles=None,
        item_features=None,
        user_features=None,
        popularity=np.bincount(train.items, minlength=len(prepared.item_ids)).astype(np.int64),
        summary=summary,
    )
    dataset = _with_metadata(dataset, tables, summary["columns"], like, config.text_width)
    earlier = None if like is None else like.item_attributes
    attributes = read_attributes(tables.items, summary["columns"]["item"], dataset.item_ids, earlier)
    dataset = replace(dataset, item_attributes=attributes)
    summary |= _counts(dataset)
    _log.info("columns: %s", ", ".join(f"{role}={name}" for role, name in summary["columns"].items()))
    if summary["ignored"]:
        _log.info("columns that are not read: %s", listed(summary["ignored"]))
    for name in ("items", "users"):
        if left_out := summary.get(f"{name}_table", {}).get("ignored"):
            reasons = [f"{column} ({reason})" for column, reason in left_out.items()]
            _log.info("columns of %s that are no features: %s", name, listed(reasons))
    return dataset


def _with_columns_of(like: Dataset, config: DataConfig, table: pa.Table) -> DataConfig:
    """Read the columns that the earlier dataset read, where the new data have them and nothing else is asked for."""
    had = {role: name for role, name in like.summary["columns"].items() if role in ("user", "item", "time")}
    free = {name for name in table.column_names if name not in config.columns.values()}
    columns = {role: name for role, name in had.items() if name in free} | config.columns
    return config.model_copy(update={"columns": columns})


def prepare(tables: Tables, config: DataConfig, seed: int, like: Dataset | None = None) -> Prepared:
    """Clean, split and number the events of the tables (the part ``validate`` shares)."""
    from sparcode.data.accounting import account, split_warnings
    from sparcode.data.cleaning import clean
    from sparcode.data.split import TRAIN, split_events

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        events, summary = clean(tables.interactions, config)
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    summary["warnings"] = [str(warning.message) for warning in caught]
    summary["ignored"] += list(tables.left_out.get("interactions", {}))
    events, user_ids, new_users = _number_users(events, like)
    split = split_events(events, config, seed)
    _warn_positions(events, config, summary)
    _warn_mismatches(tables, events, summary, like)
    extra = _without_event(tables, events, config, summary, like)
    popularity = np.bincount(events.items[split.part == TRAIN], minlength=len(events.item_ids))
    events, item_ids, new_items = _number_items(events, popularity, extra, seed, like)
    if like is not None:
        summary["new_users"], summary["new_items"] = new_users, new_items
    summary["split"] = {"by": config.split_by, **split.summary}
    summary["parts"] = account(events, split)
    for text in split_warnings(events, split, config.split_by):
        summary["warnings"].append(text)
        warn(text, UserWarning, stacklevel=2)
    return Prepared(events, split, item_ids, user_ids, summary)


def _without_event(
    tables: Tables, events: Interactions, config: DataConfig, summary: dict[str, Any], like: Dataset | None
) -> pa.Array:
    """Return the ids of items that only the items table holds, and note how many there are and were left out."""
    from sparcode.data.catalogue import without_event

    kind = events.item_ids.type if like is None else like.item_ids.external.type
    if tables.items is None or not config.catalogue_items:
        return pa.array([], kind)
    found = without_event(tables, summary["columns"], events, kind, alone=like is not None)
    summary["catalogue"] = {"added": len(found.ids), "cleaned_away": found.cleaned, "foreign_ids": found.foreign}
    _warn(found.warnings(len(np.unique(events.items))), summary)
    return found.ids


def _warn_mismatches(tables: Tables, events: Interactions, summary: dict[str, Any], like: Dataset | None) -> None:
    """Say so when a table of items or users describes hardly any of those with events.

    Beside an earlier run, which described them, only where they are spelled in two ways.
    """
    from sparcode.data.columns import find_id_column
    from sparcode.data.joins import mismatch

    parts = (
        ("item", tables.items, events.item_ids, events.items),
        ("user", tables.users, events.user_ids, events.users),
    )
    for role, table, ids, places in parts:
        if table is not None:
            used = pa.array(np.flatnonzero(np.bincount(places, minlength=len(ids))))
            key = find_id_column(table.column_names, role, summary["columns"][role])
            line = mismatch(table, key, IdMap(ids.take(used), kind=role), respelled=like is not None)
            _warn([] if line is None else [line], summary)


def _warn(lines: list[str], summary: dict[str, Any]) -> None:
    for line in lines:
        summary["warnings"].append(line)
        warn(line, UserWarning, stacklevel=4)


def _number_users(events: Interactions, like: Dataset | None) -> tuple[Interactions, IdMap, int]:
    """Give users that are left their internal ids and sort the events by them."""
    used = np.flatnonzero(np.bincount(events.users, minlength=len(events.user_ids)))
    ids, place = _extended(events.user_ids.take(pa.array(used)), None if like is None else like.user_ids)
    rank = np.full(len(events.user_ids), -1, dtype=np.int32)
    rank[used] = place
    users = rank[events.users]
    events = replace(events, users=users, user_ids=ids)
    if like is not None:
        events = events.select(np.argsort(users, kind="stable"))
    return events, IdMap(ids, kind="user"), 0 if like is None else len(ids) - len(like.user_ids)


def _number_items(
    events: Interactions, popularity: np.ndarray, extra: pa.Array, seed: int, like: Dataset | None
) -> tuple[Interactions, IdMap, int]:
    """Give items that are left, and ``extra`` ones without an event, their ids: popularity descending, ties by hash.

    Items without a training event are mixed by their hash, so that no order tells which of them is a held-out target.
    """
    used = np.flatnonzero(np.bincount(events.items, minlength=len(events.item_ids)))
    pool = _in_type_of(events.item_ids.take(pa.array(used)), None if like is None else like.item_ids)
    pool = pa.concat_arrays([pool, extra])
    counts = np.concatenate([popularity[used], np.zeros(len(extra), popularity.dtype)])
    order = np.lexsort((id_hashes(pool, seed), -counts))
    ids, place = _extended(pool.take(pa.array(order)), None if like is None else like.item_ids)
    rank = np.full(len(events.item_ids), -1, dtype=np.int32)
    counted = order < len(used)
    rank[used[order[counted]]] = place[counted]
    new = 0 if like is None else len(ids) - len(like.item_ids)
    return replace(events, items=rank[events.items], item_ids=ids), IdMap(ids, kind="item"), new


def _in_type_of(ids: pa.Array, earlier: IdMap | None) -> pa.Array:
    """Return ids in the type of an earlier run's; DataError when one of them cannot be."""
    if earlier is None:
        return ids
    ids_like = cast_ids(ids, earlier.external.type)
    if ids_like.null_count:
        example = ids[int(np.flatnonzero(np.asarray(ids_like.is_null()))[0])].as_py()
        raise DataError(f"{earlier.kind} ids of the earlier run are integers, found {example!r} in the new data")
    return ids_like


def _extended(ids: pa.Array, earlier: IdMap | None) -> tuple[pa.Array, np.ndarray]:
    """Return all ids (earlier ones first, new ones in the given order) and the place of each given id."""
    if earlier is None:
        return ids, np.arange(len(ids), dtype=np.int32)
    ids_like = _in_type_of(ids, earlier)
    place = earlier.join(ids_like)
    new = np.flatnonzero(place < 0)
    place[new] = np.arange(len(new), dtype=np.int32) + len(earlier)
    return pa.concat_arrays([earlier.external, ids_like.take(pa.array(new))]), place


def id_hashes(ids: pa.Array, seed: int) -> np.ndarray:
    """Return uint64 hashes of the spelled ids, keyed by the seed; the same on every machine."""
    key = str(seed).encode()[:64]
    spelled = [str(value).encode() for value in ids.to_pylist()]
    digests = b"".join(hashlib.blake2b(text, digest_size=8, key=key).digest() for text in spelled)
    return np.frombuffer(digests, dtype="<u8")


def _sequences(events: Interactions) -> Sequences:
    from sparcode.data.split import row_pointers

    times = np.zeros(0) if events.times is None else events.times
    return Sequences(row_pointers(events.users, len(events.user_ids)), events.items, times)


def _with_metadata(
    dataset: Dataset, tables: Any, columns: dict[str, str], like: Dataset | None, text_width: int
) -> Dataset:
    from sparcode.data.metadata import missing_lines, read_metadata

    titles: Sequence[str] | None = None
    of_items: dict[str, Any]
    item_text = None if like is None else like.item_text
    found: dict[str, Features | None] = {"item": None, "user": None}
    earlier = {"item": like.item_features, "user": like.user_features} if like is not None else found.copy()
    for role, table, ids in (("item", tables.items, dataset.item_ids), ("user", tables.users, dataset.user_ids)):
        old = earlier[role]
        if table is None and old is None:
            continue
        if table is None:
            table = pa.table({columns[role]: ids.external[:0]})
        layout = None if old is None else old.layout
        # Of users no text is read.
        of_items = {"title": True, "text": item_text, "text_width": text_width} if role == "item" else {}
        metadata = read_metadata(table, role, columns[role], ids, layout=layout, **of_items)
        metadata.summary["ignored"] |= tables.left_out.get(f"{role}s", {})
        dataset.summary[f"{role}s_table"] = metadata.summary
        _warn(missing_lines(role, metadata.summary), dataset.summary)
        found[role] = metadata.features
        if old is not None and metadata.features is not None:
            found[role] = _keep_earlier(metadata.features, old, ids, table, columns[role])
        titles = Titles(metadata.titles) if metadata.titles is not None else titles
        item_text = metadata.text if role == "item" else item_text
    titles = _earlier_titles(titles, like, len(dataset.item_ids))
    return replace(
        dataset, titles=titles, item_features=found["item"], user_features=found["user"], item_text=item_text
    )


def _keep_earlier(new: Features, old: Features, ids: IdMap, table: pa.Table, column: str) -> Features:
    """Rows that the new table does not hold keep their features of the earlier dataset."""
    named = np.zeros(len(ids), dtype=bool)
    if table.num_rows:
        from sparcode.data.columns import find_id_column

        internal = ids.join(table[find_id_column(table.column_names, ids.kind, column)])
        named[internal[internal >= 0]] = True
    rows = np.arange(len(ids))
    return old.stacked(new).take(np.where(named | (rows >= len(old)), rows + len(old), rows))


def _earlier_titles(titles: Sequence[str] | None, like: Dataset | None, count: int) -> Sequence[str] | None:
    if like is None or like.titles is None:
        return titles
    known = list(like.titles) + [""] * (count - len(like.titles))
    if titles is None:
        return Titles(pa.array(known, pa.large_string()))
    return Titles(pa.array([new or old for new, old in zip(titles, known, strict=True)], pa.large_string()))


def _warn_positions(events: Interactions, config: DataConfig, summary: dict[str, Any]) -> None:
    """A time cut on positions 0, 1, 2... separates early from late events of each user, not by date."""
    if config.split_by != "time" or events.times is None:
        return
    longest = int(np.bincount(events.users).max())
    if events.times.max() < 10 * longest and events.times.max() < 1e6:
        text = (
            f"times run only to {events.times.max():.0f}: they look like positions, for which a time cut means little"
        )
        _warn([text], summary)


def _counts(dataset: Dataset) -> dict[str, Any]:
    users, items = len(dataset.user_ids), dataset.item_count
    events = len(dataset.serving.items)
    held = {"validation": dataset.validation, "test": dataset.test}
    return {
        "users": users,
        "items": items,
        "events": events,
        "train_events": len(dataset.train.items),
        "density": events / (users * items),
        "items_without_training": int((dataset.popularity == 0).sum()),
        "items_without_event": dataset.items_without_event,
        **{f"{name}_queries": 0 if part is None else len(part) for name, part in held.items()},
        **{f"{name}_targets": 0 if part is None else len(part.target_items) for name, part in held.items()},
    }
