"""Times of any kind as float64 seconds: numbers, dates, timestamps of every unit, durations, and text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.errors import DataError

# Unix seconds of 1980; smaller "times" are positions or counters.
_FIRST_PLAUSIBLE_SECOND = 315_532_800
_LAST_PLAUSIBLE_SECOND = 1e10
# Of the year 9999, the last that a date can have.
_LAST_SECOND = 253_402_300_800
_TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_UNITS = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:nan|inf|infinity))$"
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_ZONED = r"\d{2}(:\d{2}(:\d{2}(\.\d*)?)?)?(Z|[+-]\d{2}(:?\d{2})?)$"
_EXPECTED = "(expected e.g. 1365029107, 2013-04-03 22:45 or 2013-04-03T22:45:07+02:00)"


def to_seconds(column: Any, name: str, rows: np.ndarray) -> np.ndarray:
    """Convert a time column to float64 (rows,), null to nan.

    Numbers stay as they are. Dates, timestamps and ISO text become Unix seconds, exact to the microsecond at least;
    what names no zone is UTC. Durations become seconds. ``rows``: original row numbers, for messages. Raises
    DataError for times of day without a date, for text that is neither, and for types that are no times.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = array.type
    if pa.types.is_time(kind):
        raise DataError(
            f"column {name!r} holds times of day without a date ({kind}); name a column of dates, timestamps or "
            "numbers with --columns time=NAME"
        )
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array = _parsed(array, name, rows)
    elif pa.types.is_date(kind):
        array = array.cast(pa.timestamp("ms"))
    if not (pa.types.is_timestamp(array.type) or pa.types.is_duration(array.type)):
        return to_numbers(array, name)
    return to_numbers(array.cast(pa.int64()), name) / _TICKS[array.type.unit]


def to_numbers(column: Any, name: str) -> np.ndarray:
    """Return a column as float64 (rows,), null to nan; DataError when it holds no numbers."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(array.type) or pa.types.is_nested(array.type):
        raise DataError(f"column {name!r} must hold numbers, found {array.type}")
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.string())  # Arrow's own cast makes 0.7000000000000001 of 0.70
    try:
        values = array.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
        raise DataError(f"column {name!r} must hold numbers: {str(problem).splitlines()[0]}") from None
    return np.array(values.fill_null(float("nan")).to_numpy(zero_copy_only=False), dtype=np.float64)


def ticks_per_second(times: np.ndarray) -> float | None:
    """Return 1, 1e3, 1e6 or 1e9 for Unix times in seconds, ..., nanoseconds; None for positions and counters.

    The median decides: a few times of 0 or far in the future stand for unknown ones.
    """
    middle = float(np.median(times)) if len(times) else 0.0
    if not middle >= _FIRST_PLAUSIBLE_SECOND:
        return None
    ticks = next((ticks for ticks in _UNITS if middle / ticks <= _LAST_PLAUSIBLE_SECOND), None)
    return ticks if ticks is not None and times.max() / ticks < _LAST_SECOND else None


def seconds_of_date(text: str) -> float:
    """Return Unix seconds of an ISO date or date with time; UTC unless it names an offset. ValueError otherwise."""
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def date_in_unit_of(text: str, times: np.ndarray) -> float:
    """Return a date in the unit of ``times``; DataError when they are positions, which no date can cut."""
    ticks = ticks_per_second(times)
    if ticks is None:
        raise DataError(
            f"--time-cut {text}: the times run from {times.min():g} to {times.max():g} and are no dates or Unix times; "
            "give a share between 0 and 1, or a value of that column"
        )
    return seconds_of_date(text) * ticks


def unit_name(times: np.ndarray) -> str | None:
    """Return "seconds", "milliseconds", ...: what Unix times count; None for positions and counters."""
    ticks = ticks_per_second(times)
    return None if ticks is None else _UNITS[ticks]


def could_be_times(table: pa.Table) -> list[str]:
    """Return the names of columns without nulls whose values are dates or Unix times, as far as can be seen."""
    return [name for name in table.column_names if _could_be_times(table[name])]


def _could_be_times(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if column.null_count or len(column) == 0:
        return False
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return True
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = to_numbers(column, "")
        return bool(np.isfinite(values).all()) and ticks_per_second(values) is not None
    if pa.types.is_large_string(kind):
        return bool(pc.all(pc.match_substring_regex(column.slice(0, 1000), r"^\s*\d{4}[-/]\d{2}[-/]\d{2}")).as_py())
    return False


def _parsed(array: pa.Array, name: str, rows: np.ndarray) -> pa.Array:
    """Return text as float64 where all of it is numbers, else as timestamps in UTC."""
    text = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text)
    if pc.all(pc.match_substring_regex(text, _NUMBER), min_count=0).as_py():
        return text.cast(pa.float64())
    spelled = _iso(text)
    try:
        return spelled.cast(pa.timestamp("us", "UTC"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        first = _first_unreadable(text, spelled)
    raise DataError(
        f"column {name!r}, row {rows[first] + 1:,}: {array[first].as_py()!r} is no number and no ISO date {_EXPECTED}"
    )


def _iso(text: pa.Array) -> pa.Array:
    """Spell dates as Arrow reads them: dashes, no blank before the zone, a time and a zone, at most 6 decimals."""
    text = pc.replace_substring_regex(text, r"^(\d{4})[/.](\d{2})[/.](\d{2})", r"\1-\2-\3")
    text = pc.replace_substring_regex(text, r"\s*(UTC|GMT|z)$", "Z")
    text = pc.replace_substring_regex(text, r"\s+([+-]\d{2}(:?\d{2})?|Z)$", r"\1")
    text = pc.replace_substring_regex(text, r"(:\d{2})[.,](\d{1,6})\d*", r"\1.\2")
    text = pc.replace_substring_regex(text, _DATE, r"\0T00:00Z")
    bare = pc.fill_null(pc.invert(pc.match_substring_regex(text, _ZONED)), False)
    zone, nothing = pa.scalar("Z", pa.large_string()), pa.scalar("", pa.large_string())
    return pc.if_else(bare, pc.binary_join_element_wise(text, zone, nothing), text)


def _first_unreadable(text: pa.Array, spelled: pa.Array) -> int:
    """Return the first row that is no number among numbers, or no date among dates."""
    numeric = pc.match_substring_regex(text, _NUMBER)
    if pc.mean(numeric.cast(pa.float64())).as_py() > 0.5:
        return int(np.flatnonzero(~np.asarray(pc.fill_null(numeric, True)))[0])
    low, high = 0, len(spelled)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            spelled[low:middle].cast(pa.timestamp("us", "UTC"))
            low = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
    return low
