"""Which rows of a table satisfy a condition."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.attribute_columns import number_values, time_values
from sparcode.data.comparison import TRUTH, number_bound, time_bound
from sparcode.data.metadata import is_number, is_text, plain_array
from sparcode.data.where.form import NOT_IN, ONE_BY_ONE, Term, evaluate
from sparcode.data.where.grammar import parse_condition
from sparcode.data.where.messages import not_comparable, unknown_column
from sparcode.errors import DataError

_FUNCTIONS = {"=": "equal", "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater"}
_FUNCTIONS |= {">=": "greater_equal"}
Beside = Callable[[str, str], np.ndarray]
"""From an operator and a written value to bool, one a row; raises where the column can have no such value."""


def rows_where(table: pa.Table, text: str) -> np.ndarray:
    """Return (rows,) bool: where a condition holds. A null, or nan, satisfies no comparison, but ``not`` of one.

    Values are compared as attributes of items are: text that is a number nearly everywhere is a number, beside a
    written number. Raises DataError.
    """
    return evaluate(parse_condition(text, table.column_names), lambda term: _rows_of_term(table, term))


def _rows_of_term(table: pa.Table, term: Term) -> np.ndarray:
    if term.column not in table.column_names:
        raise DataError(unknown_column(term, table.column_names))
    array = plain_array(table[term.column])
    if pa.types.is_null(array.type):
        return np.zeros(len(array), bool)
    beside, operator = _beside(array), ONE_BY_ONE.get(term.operator, term.operator)

    def rows_of(value: str) -> np.ndarray:
        try:
            return beside(operator, value)
        except (KeyError, ValueError, OverflowError, pa.ArrowException):
            raise DataError(not_comparable(term, value, str(array.type))) from None

    join = np.logical_and if term.operator == NOT_IN else np.logical_or
    return reduce(join, map(rows_of, dict.fromkeys(term.values)))


def _beside(array: pa.Array) -> Beside:
    """Return what compares a column with written values."""
    kind, known = array.type, np.asarray(array.is_valid())
    values = number_values(array) if is_number(kind) or is_text(kind) else None
    if values is not None:
        return lambda operator, value: known & _beside_numbers(array, values, operator, value)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        times = time_values(array)
        return lambda operator, value: known & time_bound(value).holds(times, operator)
    return lambda operator, value: _by_arrow(array, operator, value)


def _beside_numbers(array: pa.Array, values: np.ndarray, operator: str, value: str) -> np.ndarray:
    try:
        return number_bound(value, values.dtype).holds(values, operator)
    except ValueError:
        if not is_text(array.type):
            raise
        return _by_arrow(array, operator, value)  # such as "unknown", which some rows may say


def _by_arrow(array: pa.Array, operator: str, value: str) -> np.ndarray:
    if pa.types.is_nested(array.type):
        raise KeyError(value)
    truth = pa.types.is_boolean(array.type)
    written = pa.scalar(TRUTH[value.lower()]) if truth else pa.scalar(value).cast(array.type)
    return np.array(pc.fill_null(getattr(pc, _FUNCTIONS[operator])(array, written), False))
