"""External ids (any string or integer) and internal ids (positions 0..n-1)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.plain_types import decoded
from sparcode.data.views import view
from sparcode.errors import CorruptIndexError, DataError, UnknownIdError

ExternalId = str | int

_SPELLED_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_LARGEST = 10**100
_LONGEST_SHOWN = 80
_INT64 = range(-(2**63), 2**63)
_EXACT = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): 2.0**53}
"""Below it a float type holds every whole number; from it on digits of an id may be lost."""
# A dictionary of a million ids costs a tenth of a second and 100 MB: not worth it for one look-up.
_ALWAYS_DICTIONARY = 20_000
_SCANS = 32
_FIRST = 100


class IdMap:
    """Maps external ids to their positions and back. The ids are all ``int`` (int64) or all ``str``.

    One rule for look-ups, joined tables and earlier runs: an id is its spelling. ``"7"`` and ``7`` are one id, for the
    command line only has text; ``"07"``, ``"+7"``, ``" 7"`` and ``"7.0"`` are other ids, which integers do not hold.
    """

    def __init__(
        self, external: pa.Array | Sequence[ExternalId], *, kind: str = "id", source: Path | None = None
    ) -> None:
        """``source``: the file the ids come from, whose ids are looked through for repeats at the first use."""
        self.external = as_id_array(external, kind)
        self.kind, self._source = kind, source
        self._names: list[ExternalId] = []
        self._dictionary: dict[ExternalId, int] | None = None
        self._plain = int if self.is_integer else str
        self._integers = view(self.external) if self.is_integer and not self.external.null_count else None
        self._scans = 0

    def __len__(self) -> int:
        return len(self.external)

    def __contains__(self, external: object) -> bool:
        return self.get(external) is not None

    @property
    def is_integer(self) -> bool:
        """True when the external ids are integers."""
        return bool(pa.types.is_integer(self.external.type))

    def get(self, external: Any) -> int | None:
        """Return the internal id, or None when the id is unknown."""
        if self._dictionary is not None and type(external) is self._plain:
            return self._dictionary.get(external)
        key = self._key(external)
        if key is None:
            return None
        if self._dictionary is None and len(self) > _ALWAYS_DICTIONARY and self._scans < _SCANS:
            self._scans += 1
            return self._scan(key)
        return self._lookup().get(key)

    def get_plain(self, external: list[Any]) -> list[int | None] | None:
        """Return what ``get`` returns for each, looked up at once; None where that is not possible: ids of another type
        than the known ones, or no dictionary yet."""
        if self._dictionary is None or not {self._plain}.issuperset(map(type, external)):
            return None
        return list(map(self._dictionary.get, external))

    def to_internal(self, external: Iterable[Any]) -> np.ndarray:
        """Return internal ids, int32, in the given order; UnknownIdError names the first unknown id."""
        found = []
        for value in external:
            internal = self.get(value)
            if internal is None:
                raise UnknownIdError(self._unknown(value))
            found.append(internal)
        return np.array(found, dtype=np.int32)

    def to_external(self, internal: Iterable[int] | np.ndarray) -> list[Any]:
        """Return external ids of internal ids; an id out of range raises UnknownIdError."""
        positions = np.asarray(internal, dtype=np.int64).ravel()
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self):
            raise UnknownIdError(f"internal {self.kind} ids must lie in 0..{len(self) - 1}")
        if self._integers is not None:
            found: list[Any] = self._integers[positions].tolist()
            return found
        if self._dictionary is not None:
            return [self._names[position] for position in positions.tolist()]
        return [self.external[position].as_py() for position in positions.tolist()]

    def join(self, values: pa.Array) -> np.ndarray:
        """Return the internal id of every value, int32, -1 where unknown or null (for tables; vectorised)."""
        keys = cast_ids(values, self.external.type)
        import pyarrow.compute as pc

        found = pc.fill_null(pc.index_in(keys, value_set=self.external), -1)
        return np.array(found.to_numpy(zero_copy_only=False), dtype=np.int32)

    def near(self, external: Any, count: int = 3) -> list[Any]:
        """Return up to ``count`` known ids that resemble an unknown one (looked for among the first 20,000)."""
        text = _shown(external)
        if len(text) > _LONGEST_SHOWN:
            return []
        names = [str(value) for value in self.external[:_ALWAYS_DICTIONARY].to_pylist()]
        return difflib.get_close_matches(external if isinstance(external, str) else text, names, n=count, cutoff=0.6)

    def _unknown(self, external: Any) -> str:
        near = self.near(external)
        hint = f"; near ids: {', '.join(map(_plainly, near))}" if near else ""
        text = _shown(external)
        text = text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
        return f"unknown {self.kind} {text}: not among the {len(self):,} {self.kind}s of the data{hint}"

    def _key(self, external: Any) -> ExternalId | None:
        if isinstance(external, str):
            return spelled_integer(external) if self.is_integer else external
        if isinstance(external, bool):
            return None
        if isinstance(external, float | np.floating) and abs(float(external)) < 2**53 and float(external).is_integer():
            external = int(external)
        if isinstance(external, int | np.integer) and abs(int(external)) < _LARGEST:
            return int(external) if self.is_integer else str(int(external))
        return None

    def _scan(self, key: ExternalId) -> int | None:
        if self.is_integer:
            if int(key) not in _INT64:
                return None
            places = np.flatnonzero(view(self.external) == key)
            return int(places[0]) if len(places) else None
        place = self.external.index(key).as_py()
        return None if place < 0 else int(place)

    def _lookup(self) -> dict[ExternalId, int]:
        if self._dictionary is None:
            self._names = self.external.to_pylist()
            found = dict(zip(self._names, range(len(self)), strict=True))
            if self._source is not None and len(found) < len(self):
                twice = len(self) - len(found)
                raise CorruptIndexError(
                    f"{self._source} is damaged: {twice} ids stand twice; put it back, or train the run again"
                )
            self._dictionary = found
        return self._dictionary


def _plainly(text: str) -> str:
    """Return an id for a list in a message: as it is unless that would not be read as one id."""
    text = text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
    return text if text.isprintable() and text == text.strip() and text and "," not in text else repr(text)


def _shown(external: Any) -> str:
    try:
        return repr(external)
    except ValueError:  # Python spells no integer of more than 4,300 digits
        return "an integer of thousands of digits"


def spelled_integer(text: str) -> int | None:
    """Return the int64 that ``text`` spells as it is printed (no sign but minus, no leading zero), else None."""
    if not _SPELLED_INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if value in _INT64 else None


def as_id_array(values: pa.Array | pa.ChunkedArray | Sequence[Any], kind: str = "id") -> pa.Array:
    """Return ids as one int64 or large_string array. Nulls stay null. Any other type is a DataError.

    Integers beyond int64 (uint64, decimals, Python's) make all ids of the array text. Floats, which pandas makes of
    integers beside a missing one, are refused where they no longer hold every integer.
    """
    array = _one_chunk(values, kind)
    if array.type in (pa.int64(), pa.large_string()):
        # Also for speed: a cast would load the compute kernels (0.1 s) when a saved run is opened.
        return array
    array = decoded(array)
    if array.type == pa.large_string():
        return array
    if pa.types.is_floating(array.type):
        array = _whole_numbers(array, kind)
    if pa.types.is_decimal(array.type):
        array = _whole_decimals(array, kind)
    if pa.types.is_uint64(array.type):
        return _int64_or_text(array, kind)
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    if pa.types.is_boolean(array.type) or pa.types.is_nested(array.type):
        raise DataError(
            f"{kind} ids must be strings or integers, found {array.type}; name another column with --columns"
        )
    return _cast(array, pa.large_string(), kind)


def cast_ids(values: pa.Array | pa.ChunkedArray, wanted: pa.DataType) -> pa.Array:
    """Return ids in the type of another table's ids; what cannot be such an id becomes null."""
    array = as_id_array(values)
    if array.type == wanted:
        return array
    if pa.types.is_integer(array.type):
        return array.cast(wanted)
    import pyarrow.compute as pc

    # Of 19 digits the spelling decides: of equally long numbers it sorts as they do.
    largest = pc.if_else(pc.starts_with(array, "-"), str(2**63), str(2**63 - 1))
    digits = pc.utf8_ltrim(array, "-")
    fits = pc.or_(pc.less(pc.utf8_length(digits), 19), pc.less_equal(digits, largest.cast(pa.large_string())))
    integer = pc.and_(pc.match_substring_regex(array, f"^({_SPELLED_INTEGER.pattern})$"), fits)
    return pc.if_else(integer, array, pa.scalar(None, array.type)).cast(wanted)


def integers_where_exact(array: pa.Array) -> pa.Array:
    """Turn text ids into int64 when every one is written as a plain integer (no sign, no leading zero)."""
    return array.cast(pa.int64()) if all_match(array, r"^(0|[1-9][0-9]{0,17})$") else array


def all_match(texts: pa.Array | pa.ChunkedArray, pattern: str) -> bool:
    """Tell whether all texts that are not null match, and at least one; the first ones usually decide."""
    import pyarrow.compute as pc

    def matches(some: pa.Array | pa.ChunkedArray) -> bool | None:
        return pc.all(pc.match_substring_regex(some, pattern), min_count=1).as_py()

    return matches(texts[:_FIRST]) is not False and bool(matches(texts))


def _one_chunk(values: Any, kind: str) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        combined = values.combine_chunks()
        return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    if isinstance(values, pa.Array):
        return values
    values = values if isinstance(values, np.ndarray) else list(values)
    try:
        return pa.array(values)
    except OverflowError:
        if all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values):
            return pa.array([str(int(value)) for value in values], pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    raise DataError(f"{kind} ids are a mixture of types; make them all strings or all integers")


def _whole_numbers(array: pa.Array, kind: str) -> pa.Array:
    # pandas turns integer ids into floats as soon as one is missing.
    exact = _EXACT[array.type]
    values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = ~np.isnan(values)
    whole = known & np.isfinite(values) & (values == np.floor(values))
    broken = np.flatnonzero(known & ~whole)
    if len(broken):
        raise DataError(
            f"{kind} ids must be strings or integers, found the number {values[broken[0]]} in row {broken[0] + 1}"
        )
    large = np.flatnonzero(known & (np.abs(values) >= exact))
    if len(large):
        raise DataError(
            f"{kind} ids are floats ({array.type}), which lose digits from {exact:.0f} on, found "
            f"{values[large[0]]:.0f} in row {large[0] + 1}; keep them as integers or strings (pandas: dtype 'Int64')"
        )
    return pa.array(np.where(known, values, 0).astype(np.int64), mask=~known)


def _whole_decimals(array: pa.Array, kind: str) -> pa.Array:
    """Return decimals without a fraction as int64, or as text where one is larger."""
    try:
        whole = array.cast(pa.decimal128(38 - max(array.type.scale, 0), 0))
    except pa.ArrowInvalid:
        raise DataError(f"{kind} ids of type {array.type} have fractions or are too large; make them strings") from None
    return _int64_or_text(whole, kind)


def _int64_or_text(array: pa.Array, kind: str) -> pa.Array:
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid:
        return _cast(array, pa.large_string(), kind)


def _cast(array: pa.Array, wanted: pa.DataType, kind: str) -> pa.Array:
    try:
        return array.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"{kind} ids of type {array.type} cannot be used; make them strings or integers") from None
