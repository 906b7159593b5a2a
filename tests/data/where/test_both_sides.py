"""Random conditions over random rows against plain Python: rows of a table, and items by their attributes."""

from __future__ import annotations

import datetime
import operator
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.data.attribute_columns import compile_attributes
from sparcode.data.where.rows import rows_where
from sparcode.query.attributes import AttributeFilter

SIGNS = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
WORDS = st.text("aßZ日- (),", max_size=3) | st.sampled_from(["Comedy", "this and that", "it's", "a or b", "x)", "not"])
TAGS = st.sampled_from(["Comedy", "Ünï code", "x and y", "日本"])
DAYS = st.dates(datetime.date(1999, 12, 30), datetime.date(2000, 1, 2))
CELLS: dict[str, tuple[pa.DataType, st.SearchStrategy]] = {
    "whole": (pa.int64(), st.integers(-4, 4)),
    "real": (pa.float64(), st.integers(-4, 4).map(lambda value: value / 2) | st.sampled_from([np.inf, np.nan])),
    "name": (pa.string(), WORDS),
    "in stock": (pa.bool_(), st.booleans()),
    "day = or": (pa.date32(), DAYS),
    "tags": (pa.list_(pa.string()), st.lists(TAGS, max_size=3)),
}
BOUNDS = {**{name: cell for name, (_, cell) in CELLS.items()}, "tags": TAGS}
BOUNDS["whole"] = BOUNDS["whole"] | st.sampled_from([0.5, -1.5, 10**30, float("-inf")])
BOUNDS["real"] = BOUNDS["real"].filter(lambda value: value == value)
QUOTED = {"name", "tags"}
"""Whose values are written in quotes; a value without is of the tests of the grammar."""
Meaning = tuple[Any, ...]
"""("term", column, operator, values), ("not", part), ("and" or "or", parts)."""


@st.composite
def catalogues(draw: st.DrawFn) -> pa.Table:
    """Columns of every kind with missing values; the first row is complete."""
    count = draw(st.integers(1, 12))
    columns = {}
    for name, (kind, cell) in CELLS.items():
        first = draw(cell.filter(lambda value: value == value))
        columns[name] = pa.array([first, *(draw(st.none() | cell) for _ in range(count - 1))], kind)
    return pa.table(columns)


@st.composite
def terms(draw: st.DrawFn) -> Meaning:
    name = draw(st.sampled_from(list(CELLS)))
    sign = draw(st.sampled_from(["=", "==", "!=", "in", "not in"] if name == "tags" else [*SIGNS, "in", "not in"]))
    return "term", name, sign, draw(st.lists(BOUNDS[name], min_size=1, max_size=3 if "in" in sign else 1))


def joined(parts: st.SearchStrategy[Meaning]) -> st.SearchStrategy[Meaning]:
    """Return conditions made of others."""
    several = st.tuples(st.sampled_from(["and", "or"]), st.lists(parts, min_size=2, max_size=3))
    return several | st.tuples(st.just("not"), parts)


CONDITIONS = st.recursive(terms(), joined, max_leaves=6)
BINDS = {"or": 0, "and": 1, "not": 2, "term": 3}


def spelled(condition: Meaning, around: int = 0) -> str:
    """Return a condition with no more parentheses than precedence needs."""
    kind, *rest = condition
    if kind == "term":
        name, sign, bounds = rest
        values = [written(name, bound) for bound in bounds]
        column = name if "=" not in name else f"'{name}'"
        return f"{column} {sign} ({', '.join(values)})" if "in" in sign else f"{column}{sign}{values[0]}"
    if kind == "not":
        text = f"not {spelled(rest[0], BINDS['not'])}"
    else:
        text = f" {kind} ".join(spelled(part, BINDS[kind] + 1) for part in rest[0])
    return f"({text})" if BINDS[kind] < around else text


def written(name: str, bound: Any) -> str:
    """Return one value as a condition writes it."""
    text = str(bound).lower() if isinstance(bound, bool) else str(bound)
    return f'"{text}"' if name in QUOTED else text


def holds(condition: Meaning, row: dict[str, Any]) -> bool:
    """Tell in plain Python whether a row satisfies a condition."""
    kind, *rest = condition
    if kind == "not":
        return not holds(rest[0], row)
    if kind in ("and", "or"):
        return (all if kind == "and" else any)(holds(part, row) for part in rest[0])
    name, sign, bounds = rest
    value = row[name]
    if value is None or value != value:
        return False
    if isinstance(value, list):
        return any(bound in value for bound in bounds) == (sign not in ("!=", "not in"))
    if "in" in sign:
        return (value in bounds) == (sign == "in")
    return SIGNS[sign](value, bounds[0])


def columns_of(condition: Meaning) -> set[str]:
    """Return the columns that a condition names."""
    kind, *rest = condition
    if kind == "term":
        return {rest[0]}
    return set().union(*map(columns_of, [rest[0]] if kind == "not" else rest[0]))


@settings(max_examples=300, deadline=None)
@given(catalogues(), CONDITIONS)
def test_conditions_equal_python(table: pa.Table, condition: Meaning) -> None:
    text, rows = spelled(condition), table.to_pylist()
    wanted = [holds(condition, row) for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = AttributeFilter(compile_attributes(table)).where(text)
    assert found.mask.tolist() == wanted
    assert found.mask.dtype == np.bool_
    assert found.count == sum(wanted)
    assert found.ids.tolist() == np.flatnonzero(wanted).tolist()
    if "tags" not in columns_of(condition):
        kept = rows_where(table, text)
        assert kept.tolist() == wanted
        assert kept.dtype == np.bool_
