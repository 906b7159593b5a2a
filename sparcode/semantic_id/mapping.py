"""Items and their SIDs, both ways. One item has one SID; several items may share one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.ids import IdMap, as_id_array
from sparcode.errors import DataError, IndexMismatchError, UnknownIdError
from sparcode.semantic_id.codec import checked_codes, code_matrix
from sparcode.semantic_id.keys import Groups, group, keys

MANY = 4096
"""Ids in one look-up from which a join is faster than a dictionary."""


class SemanticIds:
    """n items with external ids (all text or all integers) and SIDs (n, L).

    ``codes`` int32; ``sizes``: values of every digit; ``method``: how they were made; ``tokenizer``: fingerprint of
    the tokenizer they come from, None when unknown; ``content_digits``: leading digits that tell of content, the
    rest (0 or 1) separates items of equal content. Raises DataError for ids that are null or occur twice and
    QueryError for digits out of range.
    """

    def __init__(
        self,
        ids: pa.Array | Sequence[Any],
        codes: np.ndarray,
        sizes: Sequence[int],
        *,
        method: str,
        tokenizer: str | None = None,
        content_digits: int | None = None,
    ) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        self.codes = checked_codes(codes, self.sizes)
        self.codes.flags.writeable = False
        self.method, self.tokenizer = method, tokenizer
        self.content_digits = len(self.sizes) if content_digits is None else content_digits
        if self.content_digits not in (len(self.sizes), len(self.sizes) - 1):
            raise DataError(f"content_digits={content_digits!r}: all {len(self.sizes)} digits or one less expected")
        self._map = unique_ids(ids)
        if len(self._map) != len(self.codes):
            raise DataError(f"{len(self._map):,} item ids found for {len(self.codes):,} SIDs; one each expected")

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, item: object) -> bool:
        return item in self._map

    @property
    def ids(self) -> pa.Array:
        """External ids (n,), int64 or large_string, in the order of ``codes``."""
        return self._map.external

    def codes_of(self, items: Iterable[Any]) -> np.ndarray:
        """Return the SIDs (b, L) int32 of external ids; UnknownIdError names the first unknown one."""
        wanted = items.to_pylist() if isinstance(items, pa.Array) else list(items)
        if len(wanted) < MANY:
            return self.codes[self._map.to_internal(wanted)]
        rows = self._map.join(items if isinstance(items, pa.Array) else as_id_array(wanted, "item"))
        # A join knows fewer spellings of a number (" 5"); what is really unknown raises here.
        unknown = np.flatnonzero(rows < 0)
        rows[unknown] = self._map.to_internal(wanted[row] for row in unknown.tolist())
        return self.codes[rows]

    def code_of(self, item: Any) -> tuple[int, ...]:
        """Return the SID of one item."""
        return tuple(self.codes_of([item])[0].tolist())

    def rows_of(self, items: pa.Array) -> np.ndarray:
        """Return the row of every id (b,) int32, -1 where it is unknown; for tables."""
        return self._map.join(items)

    def items_of(self, codes: np.ndarray | Sequence[Sequence[int]]) -> list[list[Any]]:
        """Return the items of every SID (b, L), none, one or several, in the order of their rows.

        Raises QueryError for a SID of another length or with a digit out of range.
        """
        return self._between(checked_codes(code_matrix(codes), self.sizes), len(self.sizes)) if len(codes) else []

    def items_under(self, prefixes: np.ndarray | Sequence[Sequence[int]]) -> list[list[Any]]:
        """Return the items whose SIDs begin with every prefix (b, l), 1 <= l <= L, in the order of their SIDs."""
        prefixes = code_matrix(prefixes)
        if prefixes.ndim == 0:
            raise DataError(f"prefixes are {prefixes}; expected rows of 1 to {len(self.sizes)} digits, e.g. [[3, 1]]")
        if not len(prefixes):
            return []
        digits = prefixes.shape[1] if prefixes.ndim == 2 else 0
        if not 1 <= digits <= len(self.sizes):
            raise DataError(f"prefixes of {digits} digits found, 1 to {len(self.sizes)} expected")
        return self._between(checked_codes(prefixes, self.sizes[:digits]), digits)

    @property
    def distinct(self) -> int:
        """Number of distinct SIDs in use."""
        return len(self._groups.counts)

    @property
    def capacity(self) -> int:
        """Number of SIDs there could be: the product of the sizes."""
        return math.prod(self.sizes)

    @property
    def fill(self) -> float:
        """Share of the capacity in use."""
        return self.distinct / self.capacity

    @property
    def collision_rate(self) -> float:
        """1 - distinct SIDs / items."""
        return 1 - self.distinct / len(self) if len(self) else 0.0

    def texts(self) -> pa.Array:
        """Return every SID as text, digits joined by ``-``: (n,) large_string."""
        return code_texts(self.codes)

    def extended(self, ids: pa.Array, codes: np.ndarray) -> SemanticIds:
        """Return these items followed by new ones; DataError when an id is here already."""
        both = pa.concat_arrays([self.ids, _as_type(ids, self.ids.type)])
        return SemanticIds(
            both,
            np.concatenate([self.codes, codes]),
            self.sizes,
            method=self.method,
            tokenizer=self.tokenizer,
            content_digits=self.content_digits,
        )

    def check_tokenizer(self, fingerprint: str) -> None:
        """Raise IndexMismatchError when the SIDs are known to come from another tokenizer."""
        if self.tokenizer is not None and self.tokenizer != fingerprint:
            raise IndexMismatchError(
                f"the SIDs were made by the {self.method} tokenizer {self.tokenizer}, not by {fingerprint}; "
                "encode the items again with this tokenizer"
            )

    def _between(self, low: np.ndarray, digits: int) -> list[list[Any]]:
        first, last = _padded(low, self.sizes, digits)
        starts = np.searchsorted(self._ordered, keys(first, self.sizes), side="left")
        stops = np.searchsorted(self._ordered, keys(last, self.sizes), side="right")
        counts = stops - starts
        ends = np.cumsum(counts)
        places = np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)
        items = self.ids.take(pa.array(self._groups.order[places])).to_pylist()
        return [items[end - count : end] for end, count in zip(ends.tolist(), counts.tolist(), strict=True)]

    @cached_property
    def _groups(self) -> Groups:
        return group(keys(self.codes, self.sizes))

    @cached_property
    def _ordered(self) -> np.ndarray:
        return keys(self.codes[self._groups.order], self.sizes)


def unique_ids(ids: pa.Array | Sequence[Any]) -> IdMap:
    """Return the map of external ids; DataError names the first that is null or occurs twice."""
    try:
        found = IdMap(ids, kind="item")
    except TypeError:
        raise DataError(f"ids are {ids!r}; expected a list of item ids, one a vector") from None
    if found.external.null_count:
        row = found.external.is_null().index(True).as_py()
        raise DataError(f"row {row} has no item id; every item needs one")
    if len(found.external.unique()) != len(found):
        counts = found.external.value_counts()
        twice = next(entry for entry in counts if entry["counts"].as_py() > 1)
        raise DataError(
            f"item id {twice['values'].as_py()!r} occurs {twice['counts'].as_py()} times; one row an item expected"
        )
    return found


def code_texts(codes: np.ndarray) -> pa.Array:
    """Return (n,) large_string, digits joined by ``-``."""
    import pyarrow.compute as pc

    columns = [pa.array(column).cast(pa.large_string()) for column in np.ascontiguousarray(codes.T)]
    return pc.binary_join_element_wise(*columns, pa.scalar("-", pa.large_string()))


def _padded(prefix: np.ndarray, sizes: Sequence[int], digits: int) -> tuple[np.ndarray, np.ndarray]:
    rest = np.asarray(sizes[digits:], np.int32) - 1
    low = np.zeros((len(prefix), len(rest)), np.int32)
    return np.hstack([prefix, low]), np.hstack([prefix, low + rest])


def _as_type(ids: pa.Array, wanted: pa.DataType) -> pa.Array:
    if ids.type == wanted:
        return ids
    if pa.types.is_integer(wanted):
        raise UnknownIdError("the new items have text ids, those of the tokenizer are integers; use one kind")
    return ids.cast(wanted)
