"""The small language of --where: ``column operator value``, several joined by ``and``. Never evaluated as code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sparcode.errors import DataError

_OPERATORS = {"=": "equal", "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater"}
_OPERATORS |= {">=": "greater_equal"}
_TERM = re.compile(
    r"""\s*(?P<column>[^=!<>]+?)\s*(?P<operator>==|!=|<=|>=|=|<|>)\s*(?P<value>"[^"]*"|'[^']*'|[^=!<>]+?)\s*"""
)
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""How a condition may spell a truth value, in lower case."""


@dataclass(frozen=True)
class Term:
    """One comparison, still as text."""

    column: str
    operator: str
    value: str


def parse_condition(text: str) -> list[Term]:
    """Split ``a=1 and b>=2`` into terms; DataError shows the grammar. Quote values that contain ``and``."""
    parts = re.split(r"""\s+and\s+(?=(?:[^"']|"[^"]*"|'[^']*')*$)""", text.strip(), flags=re.IGNORECASE)
    terms = []
    for part in parts:
        match = _TERM.fullmatch(part)
        if match is None:
            raise DataError(
                f"--where {text!r}: cannot read {part!r}; expected COLUMN =|!=|<|<=|>|>= VALUE, joined by 'and'"
            )
        value = match["value"]
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        terms.append(Term(match["column"].strip(), match["operator"], value[1:-1] if quoted else value))
    return terms


def rows_where(table: pa.Table, text: str) -> np.ndarray:
    """Return (rows,) bool: where every comparison holds. A null never satisfies a comparison."""
    keep = np.ones(table.num_rows, dtype=bool)
    for term in parse_condition(text):
        keep &= _rows_of_term(table, term)
    return keep


def _rows_of_term(table: pa.Table, term: Term) -> np.ndarray:
    import pyarrow.compute as pc

    if term.column not in table.column_names:
        raise DataError(unknown_column(term, table.column_names))
    column = table[term.column]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    result = getattr(pc, _OPERATORS[term.operator])(column, _scalar(term, column.type))
    return np.asarray(pc.fill_null(result, False).to_numpy())


def _scalar(term: Term, kind: pa.DataType) -> pa.Scalar:
    try:
        if pa.types.is_boolean(kind):
            return pa.scalar(TRUTH[term.value.lower()])
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return _number(term.value)
        if pa.types.is_nested(kind):
            raise KeyError
        return pa.scalar(term.value).cast(kind)
    except (KeyError, ValueError, OverflowError, pa.ArrowException):
        raise DataError(not_comparable(term, str(kind))) from None


def not_comparable(term: Term, kind: str) -> str:
    """Return the message for a value that a column of a kind cannot be compared with."""
    return f"--where: column {term.column!r} is {kind}, and {term.value!r} cannot be compared with it"


def _number(text: str) -> pa.Scalar:
    try:
        return pa.scalar(int(text))
    except ValueError:
        return pa.scalar(float(text))


def unknown_column(term: Term, names: Sequence[str]) -> str:
    """Return the message that tells which columns there are, and which one is near."""
    near = difflib.get_close_matches(term.column, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"--where: no column {term.column!r}{hint}; columns found: {', '.join(names) or 'none'}"
