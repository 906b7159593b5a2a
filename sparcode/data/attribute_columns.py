"""From the columns of an items table to attributes: what kind each is, its values and the items that have them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.attributes import TEXTUAL, Attribute, ItemAttributes
from sparcode.data.columns import find_id_column
from sparcode.data.ids import IdMap
from sparcode.data.joins import SHORT, align, is_long, is_piped
from sparcode.data.metadata import is_list, is_mostly_numbers, is_number, is_text, numbers, plain_array
from sparcode.data.plain_types import type_name
from sparcode.data.where.grammar import is_nameable
from sparcode.wording import warn

_EXACT = 2.0**53
_TEXTS = {"text", "list"}


class Cells(NamedTuple):
    """What a column holds: ``values`` (P,) and ``rows`` int64 (P,), one a cell; ``known`` (n,) bool: not null."""

    values: np.ndarray | pa.Array
    rows: np.ndarray
    known: np.ndarray


def read_attributes(
    table: pa.Table | None, id_column: str, ids: IdMap, earlier: ItemAttributes | None = None
) -> ItemAttributes | None:
    """Return the attributes of all items of ``ids``; None without a table and without ``earlier`` attributes.

    Rows of ``table`` are joined by id, of several rows with one id the first counts. Items that the table does not
    name keep their ``earlier`` attributes (those of a run whose ids came first).
    """
    new, named = ItemAttributes(len(ids)), np.zeros(len(ids), bool)
    if table is None and earlier is None:
        return None
    if table is not None:
        key = find_id_column(table.column_names, "item", id_column)
        new = compile_attributes(align(table, key, ids, longest=SHORT)[0].drop_columns([key]))
        internal = ids.join(table[key])
        named[internal[internal >= 0]] = True
    return new if earlier is None else overlaid(earlier, new, named)


def compile_attributes(table: pa.Table) -> ItemAttributes:
    """Invert every column that a condition can name; row i of ``table`` is item i."""
    columns, skipped = {}, {}
    for name in table.column_names:
        array = plain_array(table[name])
        reason = _unusable(name, array)
        if reason:
            skipped[name] = reason
        else:
            kind, cells = cells_of(array)
            columns[name] = invert(kind, cells)
    return ItemAttributes(table.num_rows, columns, skipped)


def cells_of(array: pa.Array) -> tuple[str, Cells]:
    """Return the kind of a usable column and its cells.

    Text that is a number nearly everywhere is a number, as it is to the model, and missing elsewhere. Lists and
    ``a|b`` are lists; their texts are stripped, and blank ones left out.
    """
    kind = array.type
    if is_list(kind) or (is_text(kind) and is_piped(array)):
        return "list", _list_cells(array)
    values = number_values(array) if is_text(kind) or is_number(kind) else None
    known = np.asarray(array.is_valid())
    if values is not None:
        known = known & ~np.isnan(values)
        return "number", Cells(_whole(values[known], is_text(kind)), np.flatnonzero(known), known)
    if pa.types.is_temporal(kind):
        return "time", Cells(time_values(array)[known], np.flatnonzero(known), known)
    texts = array.drop_null().cast(pa.large_string())
    return "truth" if pa.types.is_boolean(kind) else "text", Cells(texts, np.flatnonzero(known), known)


def invert(kind: str, cells: Cells) -> Attribute:
    """Sort cells by value, then item; repeats count once."""
    count = max(len(cells.known), 1)
    values, places = _distinct(cells.values)
    keys = np.unique(places.astype(np.int64) * count + cells.rows)
    indptr = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.bincount(keys // count, minlength=len(values)), out=indptr[1:])
    missing = np.flatnonzero(~cells.known).astype(np.int32)
    return Attribute(kind, values, indptr, (keys % count).astype(np.int32), missing)


def overlaid(old: ItemAttributes, new: ItemAttributes, replaced: np.ndarray) -> ItemAttributes:
    """Return the rows of ``new`` where ``replaced`` (n,) bool, elsewhere those of ``old`` (its ids came first).

    A column that one of the two has not is unknown in its rows; where the kinds of a column differ the new one stays.
    """
    columns, skipped = {}, old.skipped | new.skipped
    for name in dict.fromkeys([*new.columns, *old.columns]):
        holders = [(source, rows) for source, rows in ((old, ~replaced), (new, replaced)) if name in source.columns]
        kinds = [source.columns[name].kind for source, _ in holders]
        kind = _common_kind(name, kinds)
        fitting = [holder for holder, own in zip(holders, kinds, strict=True) if own == kind or {own, kind} == _TEXTS]
        kept = [_kept(source.columns[name], rows, source.count) for source, rows in fitting]
        attribute = invert(kind, _joined(kept))
        if len(attribute.values) or len(attribute.missing) < new.count:
            columns[name] = attribute
        else:
            skipped[name] = "empty"
    return ItemAttributes(new.count, columns, {name: why for name, why in skipped.items() if name not in columns})


def _unusable(name: str, array: pa.Array) -> str | None:
    """Tell why no condition can ask for a column, None if one can."""
    kind, inner = array.type, array.type
    if not is_nameable(name):
        return "its name cannot stand in a condition"
    if array.null_count == len(array):
        return "empty"
    if is_list(kind):
        inner = kind.value_type
        if pa.types.is_floating(inner):
            return "a vector"
    flat = pc.list_flatten(array) if is_list(kind) else array
    if is_text(inner) and not (inner is kind and is_piped(array)):
        return "long text" if is_long(pc.mean(pc.utf8_length(flat)).as_py()) else None
    dated = pa.types.is_date(inner) or pa.types.is_timestamp(inner)
    simple = is_text(inner) or is_number(inner) or pa.types.is_boolean(inner) or (dated and inner is kind)
    return None if simple else f"type {type_name(kind)}"


def _list_cells(array: pa.Array) -> Cells:
    lists = array if is_list(array.type) else pc.split_pattern(array, "|")
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    texts = pc.utf8_trim_whitespace(pc.list_flatten(lists).cast(pa.large_string()))
    spoken = np.flatnonzero(np.asarray(pc.fill_null(pc.greater(pc.utf8_length(texts), 0), False)))
    return Cells(texts.take(pa.array(spoken)), np.asarray(rows, np.int64)[spoken], np.asarray(array.is_valid()))


def number_values(array: pa.Array) -> np.ndarray | None:
    """Return the values (rows,) of a column of numbers, or of text that spells them, in a type that keeps them apart.

    int64, uint64, float16, float32 or float64; 0 where null. Decimals are float64 as printed, whole ones int64. Text:
    float64, nan where it is no number; None where it is not nearly always one.
    """
    kind = array.type
    if is_text(kind):
        return _spelled_numbers(array)
    if pa.types.is_decimal(kind):
        try:
            return np.asarray(array.cast(pa.int64()).fill_null(0).to_numpy())
        except pa.ArrowInvalid:
            # By way of text: Arrow's own cast makes 0.7000000000000001 of 0.70.
            return np.asarray(array.cast(pa.string()).cast(pa.float64()).fill_null(0).to_numpy())
    if pa.types.is_integer(kind):
        wide = pa.uint64() if pa.types.is_uint64(kind) and (pc.max(array).as_py() or 0) >= 2**63 else pa.int64()
        return np.asarray(array.cast(wide).fill_null(0).to_numpy())
    values = array.to_numpy(zero_copy_only=False)
    return np.asarray(values if not array.null_count else np.where(array.is_valid(), values, 0).astype(values.dtype))


def time_values(array: pa.Array) -> np.ndarray:
    """Return int64 (rows,): microseconds since 1970, UTC, of dates and timestamps; 0 where null."""
    moments = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False)
    return np.asarray(moments.cast(pa.int64()).fill_null(0).to_numpy())


def _spelled_numbers(array: pa.Array) -> np.ndarray | None:
    """Return (rows,) float64, nan where a text is no number; None for text, and for numbers that floats round."""
    if not is_mostly_numbers(array):
        return None
    values = numbers(array)
    return None if (np.abs(values) >= _EXACT).any() else values


def _whole(values: np.ndarray, spelled: bool) -> np.ndarray:
    """Return numbers that were ``spelled`` out as int64 if all are whole, others as they are."""
    return values.astype(np.int64) if spelled and (values == np.floor(values)).all() else values


def _distinct(values: np.ndarray | pa.Array) -> tuple[np.ndarray | pa.Array, np.ndarray]:
    """Return the distinct values, ascending (text by code points), and the place of each value among them."""
    if isinstance(values, np.ndarray):
        distinct, places = np.unique(values, return_inverse=True)
        return distinct, places.reshape(-1)
    encoded = values.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    return encoded.dictionary.take(order), rank[encoded.indices.to_numpy(zero_copy_only=False)]


def _common_kind(name: str, kinds: list[str]) -> str:
    if set(kinds) == _TEXTS:
        return "list"
    if len(set(kinds)) > 1:
        warn(
            f"items: column {name!r} held {kinds[0]} values in the earlier run and holds {kinds[1]} values now; the "
            "earlier ones cannot be filtered by any more",
            UserWarning,
            stacklevel=4,
        )
    return kinds[-1]


def _kept(attribute: Attribute, keep: np.ndarray, count: int) -> Cells:
    """Return the cells of the items where ``keep`` (n,) bool; of ids from ``count`` on the attribute knows nothing."""
    known = keep.copy()
    known[count:] = False
    known[attribute.missing] = False
    held = keep[attribute.items]
    places = np.repeat(np.arange(len(attribute.values)), np.diff(attribute.indptr))[held]
    textual = attribute.kind in TEXTUAL
    values = attribute.values.take(pa.array(places)) if textual else attribute.values[places]
    return Cells(values, attribute.items[held].astype(np.int64), known)


def _joined(parts: list[Cells]) -> Cells:
    textual = isinstance(parts[0].values, pa.Array)
    values = [part.values for part in parts]
    return Cells(
        pa.concat_arrays(values) if textual else np.concatenate(_of_one_type(values)),
        np.concatenate([part.rows for part in parts]),
        np.logical_or.reduce([part.known for part in parts]),
    )


def _of_one_type(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Return numbers in the narrowest type that keeps all of them; floats are widened as they are printed."""
    kinds = {part.dtype for part in parts if len(part)}
    if kinds == {np.dtype(np.int64), np.dtype(np.uint64)} and min(part.min() for part in parts if len(part)) >= 0:
        return [part.astype(np.uint64) for part in parts]
    wanted = np.result_type(*kinds) if kinds else parts[0].dtype
    return [_widened(part, wanted) for part in parts]


def _widened(values: np.ndarray, wanted: np.dtype) -> np.ndarray:
    if values.dtype.kind != "f" or values.dtype == wanted:
        return values.astype(wanted)
    distinct, places = np.unique(values, return_inverse=True)
    return distinct.astype(str).astype(wanted)[places.reshape(-1)]
