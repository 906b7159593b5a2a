"""Attributes of items as filters read them: the distinct values of a column in order, and the items that have each.

A condition is then two binary searches and one run of item ids, for categories and numbers alike. The arrays lie in
the run's data and are mapped, not read; what makes them is ``attribute_columns``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.views import view
from sparcode.errors import CorruptIndexError

TEXTUAL = ("text", "list", "truth")
KINDS = ("number", "time", *TEXTUAL)
_PARTS = ("values", "indptr", "items", "missing")


@dataclass(frozen=True)
class Attribute:
    """One column, inverted.

    ``kind``: ``number``, ``time`` (microseconds since 1970, UTC), ``truth``, ``text``, or ``list`` of text.
    ``values``: the V distinct values, ascending: (V,) int64, uint64 or of a float type, of ``TEXTUAL`` kinds
    large_string (``true`` and ``false`` of a truth). Items with value v, ascending:
    ``items[indptr[v]:indptr[v + 1]]``, int32 by int64 (V + 1,). ``missing``: int32, ascending, the items whose value
    is not known.
    """

    kind: str
    values: np.ndarray | pa.Array
    indptr: np.ndarray
    items: np.ndarray
    missing: np.ndarray

    def value(self, place: int) -> Any:
        """Return one distinct value as int, float or str."""
        value = self.values[place]
        return value.item() if isinstance(value, np.generic) else value.as_py()

    @property
    def bytes(self) -> int:
        """Bytes of the four arrays."""
        return sum(int(getattr(self, part).nbytes) for part in _PARTS)

    def check(self, name: str, count: int) -> None:
        """Raise CorruptIndexError unless pointers and the ids of ``count`` items are in range."""
        indptr, items = self.indptr, self.items
        sound = len(indptr) == len(self.values) + 1 and indptr[0] == 0 and indptr[-1] == len(items)
        sound = sound and bool((indptr[1:] >= indptr[:-1]).all())
        if not sound or not all(_within(ids, count) for ids in (items, self.missing)):
            what = f"the item attribute {name!r} is damaged: ids out of range"
            raise CorruptIndexError(f"data/item_attributes.arrow: {what}; train the run again")


@dataclass(frozen=True)
class ItemAttributes:
    """The attributes of ``count`` items. ``skipped``: columns that cannot be filtered by, and why."""

    count: int
    columns: dict[str, Attribute] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all columns."""
        return sum(attribute.bytes for attribute in self.columns.values())

    def to_lists(self) -> dict[str, pa.Array]:
        """Return the arrays as columns of one row of lists, by which one file holds arrays of any lengths."""
        lists = {}
        for place, attribute in enumerate(self.columns.values()):
            for part in _PARTS:
                array = getattr(attribute, part)
                values = array if isinstance(array, pa.Array) else pa.array(np.ascontiguousarray(array))
                lists[f"{place}.{part}"] = pa.LargeListArray.from_arrays(pa.array([0, len(values)]), values)
        return lists or {"none": pa.array([None], pa.null())}

    def to_json(self) -> dict[str, Any]:
        """Return what ``to_lists`` leaves out, as JSON-able values."""
        kinds = [{"name": name, "kind": attribute.kind} for name, attribute in self.columns.items()]
        return {"count": self.count, "columns": kinds, "skipped": self.skipped}

    @classmethod
    def from_lists(cls, lists: Mapping[str, pa.Array], content: Mapping[str, Any]) -> ItemAttributes:
        """Return what ``to_lists`` and ``to_json`` wrote, as views; KeyError or TypeError when they do not fit."""
        columns = {}
        for place, saved in enumerate(content["columns"]):
            values, *numbers = (lists[f"{place}.{part}"].values for part in _PARTS)
            if saved["kind"] not in KINDS or not isinstance(saved["name"], str):
                raise KeyError(f"kind {saved['kind']!r} of column {saved['name']!r}")
            types = [values.type, *(array.type for array in numbers)]
            if any(array.null_count for array in (values, *numbers)) or not _sound(saved["kind"], types):
                raise TypeError(f"column {saved['name']!r} has {types}")
            distinct = values if saved["kind"] in TEXTUAL else view(values)
            columns[saved["name"]] = Attribute(saved["kind"], distinct, *map(view, numbers))
        return cls(int(content["count"]), columns, dict(content["skipped"]))


def _sound(kind: str, types: list[pa.DataType]) -> bool:
    """Tell whether ``values``, ``indptr``, ``items`` and ``missing`` of one kind have the types they are written in."""
    values, *numbers = types
    wanted = pa.large_string() if kind in TEXTUAL else pa.int64() if kind == "time" else None
    return numbers == [pa.int64(), pa.int32(), pa.int32()] and wanted in (None, values)


def _within(ids: np.ndarray, count: int) -> bool:
    return not len(ids) or bool(ids.min() >= 0 and ids.max() < count)
