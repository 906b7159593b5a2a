"""Which rows of a table satisfy a condition."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.attribute_columns import number_values, time_values
from sparcode.data.comparison import number_bound, time_bound
from sparcode.data.conditions import TRUTH, Term, not_comparable, parse_condition, unknown_column
from sparcode.data.metadata import is_number, is_text, plain_array
from sparcode.errors import DataError

_FUNCTIONS = {"=": "equal", "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater"}
_FUNCTIONS |= {">=": "greater_equal"}


def rows_where(table: pa.Table, text: str) -> np.ndarray:
    """Return (rows,) bool: where every comparison holds. A null, or nan, never satisfies a comparison.

    Values are compared as attributes of items are: text that is a number nearly everywhere is a number, beside a
    written number. Raises DataError.
    """
    keep = np.ones(table.num_rows, dtype=bool)
    for term in parse_condition(text):
        if term.column not in table.column_names:
            raise DataError(unknown_column(term, table.column_names))
        keep &= _rows_of_term(plain_array(table[term.column]), term)
    return keep


def _rows_of_term(array: pa.Array, term: Term) -> np.ndarray:
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), bool)
    known = np.asarray(array.is_valid())
    try:
        values = number_values(array) if is_number(kind) or is_text(kind) else None
        if values is not None:
            return known & _beside_numbers(array, values, term)
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            return known & time_bound(term.value).holds(time_values(array), term.operator)
        return _by_arrow(array, term)
    except (KeyError, ValueError, OverflowError, pa.ArrowException):
        raise DataError(not_comparable(term, str(kind))) from None


def _beside_numbers(array: pa.Array, values: np.ndarray, term: Term) -> np.ndarray:
    try:
        return number_bound(term.value, values.dtype).holds(values, term.operator)
    except ValueError:
        if not is_text(array.type):
            raise
        return _by_arrow(array, term)  # such as "unknown", which some rows may say


def _by_arrow(array: pa.Array, term: Term) -> np.ndarray:
    if pa.types.is_nested(array.type):
        raise KeyError(term.column)
    truth = pa.types.is_boolean(array.type)
    value = pa.scalar(TRUTH[term.value.lower()]) if truth else pa.scalar(term.value).cast(array.type)
    result = getattr(pc, _FUNCTIONS[term.operator])(array, value)
    return np.asarray(pc.fill_null(result, False))
