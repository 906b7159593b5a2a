"""Items without an event: the rows of the items table that are candidates all the same, known by their content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.columns import find_id_column
from sparcode.data.ids import as_id_array, cast_ids
from sparcode.data.interactions import Interactions
from sparcode.data.tables import Tables

MANY_TIMES = 20
MANY = 100_000


@dataclass(frozen=True)
class Catalogue:
    """``ids``: what the items table adds to the items with events, without nulls and repeats, in their type.

    ``cleaned``: items of the table that had events of which cleaning left none; they stay out. ``foreign``: ids of
    the table that cannot stand beside those of the events, which are integers.
    """

    ids: pa.Array
    cleaned: int = 0
    foreign: int = 0

    def warnings(self, with_events: int) -> list[str]:
        """Return what a user should know before training."""
        lines = []
        if self.foreign:
            lines.append(
                f"items table: {self.foreign:,} ids are no integers, as those of the events are: these rows are left "
                "out; make the ids of the events strings to keep them"
            )
        if len(self.ids) > max(MANY, MANY_TIMES * with_events):
            lines.append(
                f"items table: {len(self.ids):,} items without an event stand beside {with_events:,} with events; each "
                "is a candidate and takes memory (a vector, features, attributes); data.catalogue_items=false leaves "
                "them out"
            )
        return lines


def without_event(
    tables: Tables, columns: dict[str, str], events: Interactions, kind: pa.DataType, *, alone: bool = False
) -> Catalogue:
    """Return the items of the items table that never had an event, as ids of type ``kind``.

    ``events``: what cleaning left of ``tables.interactions``. A table that describes no item with events adds none: its
    ids are of another world, or spelled in another way; unless it may stand ``alone``, beside an earlier run's items.
    """
    if tables.items is None:
        return Catalogue(pa.array([], kind))
    key = find_id_column(tables.items.column_names, "item", columns["item"])
    given = as_id_array(tables.items[key], "item").drop_null().unique()
    ids = cast_ids(given, kind)
    foreign, ids = ids.null_count, ids.drop_null()
    if pa.types.is_large_string(kind):
        ids = ids.filter(pc.not_equal(pc.utf8_trim_whitespace(ids), ""))
    had = cast_ids(as_id_array(tables.interactions[columns["item"]], "item").unique(), kind)
    used = np.flatnonzero(np.bincount(events.items, minlength=len(events.item_ids)))
    left = cast_ids(events.item_ids.take(pa.array(used)), kind)
    known, ever = pc.is_in(ids, value_set=left), pc.is_in(ids, value_set=had)
    joined, dropped = (int(pc.sum(mask).as_py() or 0) for mask in (known, pc.and_not(ever, known)))
    if not (joined + dropped or alone):
        return Catalogue(ids[:0])
    return Catalogue(ids.filter(pc.invert(ever)), dropped, foreign)
