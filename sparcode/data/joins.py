"""Tables of items or users joined to ids: row i belongs to internal id i; and what to say when few fit."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.ids import IdMap, as_id_array
from sparcode.data.plain_types import plain_column

FEW = 0.1
"""A table that describes a smaller share of the ids is reported."""
SHORT = 200
"""Characters of long text that are enough to see that it is long."""
_LONG_TEXT = 60
_SAMPLE = 10_000
_REPAIRED = 0.5


def align(
    table: pa.Table, key: str, ids: IdMap, *, longest: int | None = None, whole: Collection[str] = ()
) -> tuple[pa.Table, dict[str, Any]]:
    """Return a table whose row i belongs to internal id i (nulls where the id has no row), and counts.

    Of several rows with one id the first counts. Columns get plain types: of others Arrow cannot pick rows. With
    ``longest`` columns of long text, but for those of ``whole``, are cut to so many characters a value before rows are
    picked, which takes memory for two copies.
    """
    internal = ids.join(table[key])
    known = np.flatnonzero(internal >= 0)
    found, first = np.unique(internal[known], return_index=True)
    source = np.zeros(len(ids), dtype=np.int64)
    missing = np.ones(len(ids), dtype=bool)
    source[found] = known[first]
    missing[found] = False
    summary = {
        "rows": table.num_rows,
        "unknown_ids": int(table.num_rows - len(known)),
        "repeated_ids": int(len(known) - len(found)),
        "without_row": int(missing.sum()),
    }
    used = np.zeros(table.num_rows, dtype=bool)
    used[known[first]] = True
    places = pa.array(np.cumsum(used)[source] - 1 if len(used) else source, mask=missing)
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        column = plain_column(column)
        rows = column if used.all() else column.filter(pa.array(used))
        rows = rows if longest is None or name in whole else _cut(rows, longest)
        columns.append(rows.take(places))
    return pa.table(columns, names=table.column_names).combine_chunks(), summary


def is_long(mean: float | None) -> bool:
    """Tell by the mean number of characters whether a column of text is too long for categories and conditions."""
    return mean is not None and mean > _LONG_TEXT


def is_piped(texts: pa.Array | pa.ChunkedArray) -> bool:
    """True for a column of text in which ``|`` separates values."""
    share = pc.mean(pc.match_substring(texts, "|").cast(pa.float64())).as_py()
    return bool(share is not None and share > 0.1)


def mismatch(table: pa.Table, key: str, ids: IdMap, *, respelled: bool = False) -> str | None:
    """Return a warning when the table describes fewer than a tenth of ``ids``, and why if that can be seen.

    ``respelled``: only when it can be seen.
    """
    given = as_id_array(table[key], ids.kind).drop_null()
    internal = ids.join(given)
    matched = len(np.unique(internal[internal >= 0]))
    if not len(ids) or matched >= FEW * len(ids):
        return None
    total = f"of the {len(ids):,} {ids.kind}s with events"
    counted = f"only {matched:,} {total} have" if matched else f"none {total} has"
    examples = f"ids of the table: {_examples(given)}; of the events: {_examples(ids.external)}"
    cause = _cause(given.filter(pa.array(internal < 0)), ids.external)
    if respelled and cause is None:
        return None
    why = f"; {cause}; ids are compared as they are spelled, so write them alike" if cause else ""
    return f"{ids.kind}s table: {counted} a row in it, joined by column {key!r} ({examples}){why}"


def _examples(ids: pa.Array) -> str:
    return ", ".join(repr(value)[:40] for value in ids[:2].to_pylist()) or "none"


def _cut(column: pa.ChunkedArray, longest: int) -> pa.ChunkedArray:
    """Return a column of text with shorter values where both it and what is left are long text, others as they are."""
    if not pa.types.is_large_string(column.type):
        return column
    lengths = pc.utf8_length(column)
    if not is_long(pc.mean(pc.min_element_wise(lengths, longest, skip_nulls=False)).as_py()) or is_piped(column):
        return column
    return pc.utf8_slice_codeunits(column, 0, longest)


def _cause(given: pa.Array, known: pa.Array) -> str | None:
    """Return what keeps most of the ids of a table from being those of the events, None if it cannot be seen."""
    # The spellings at the start of either side are compared with all of the other.
    table, events = _text(given), _text(known)
    for make, words in _REPAIRS:
        first, second = make(table), make(events)
        for some, every in ((first[:_SAMPLE], second), (second[:_SAMPLE], first)):
            found = pc.sum(pc.is_in(some, value_set=every)).as_py() or 0
            if len(some) and found >= _REPAIRED * len(some):
                return words
    return None


def _text(ids: pa.Array) -> pa.Array:
    return ids.cast(pa.large_string())


_REPAIRS: list[tuple[Callable[[pa.Array], pa.Array], str]] = [
    (
        lambda ids: pc.replace_substring_regex(ids, r"\.0+$", ""),
        "ids of one of the two end in '.0' (pandas makes floats of integers beside a missing one)",
    ),
    (pc.utf8_trim_whitespace, "ids of one of the two have blanks around them"),
    (lambda ids: pc.replace_substring_regex(ids, r"^[+]?0*(.)", r"\1"), "ids of one of the two have leading zeros"),
    (lambda ids: pc.utf8_trim(ids, "\"'\ufeff"), "ids of one of the two stand in quotes"),
    (pc.utf8_lower, "they differ in upper and lower case"),
    (
        lambda ids: pc.utf8_lower(
            pc.replace_substring_regex(pc.utf8_trim(ids, " \t\r\n\"'\ufeff"), r"^[+]?0*(.+?)(\.0+)?$", r"\1")
        ),
        "they differ in blanks, quotes, leading zeros or '.0'",
    ),
]
