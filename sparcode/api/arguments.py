"""What callers give, read once: lists of any kind, whole numbers, choices. What cannot be meant is one QueryError."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import QueryError
from sparcode.query.filters import ItemSet

Ids = Iterable[Any]
"""External ids: a list, tuple, iterator, numpy array, or a column of pandas, polars or pyarrow."""
Items = Ids | np.ndarray | ItemSet
"""Items of a filter: external ids, or a mask (n,) bool by internal id such as ``items_where`` gives."""

POLICIES = ("raise", "warn", "ignore")
_TEXT = (str, bytes, bytearray, memoryview)
_SHOWN = 60


def shown(value: Any) -> str:
    """Return a value for a message: its repr in one line of at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def listed(values: Any, name: str, *, ordered: bool = True) -> list[Any]:
    """Return the elements of any sequence, iterator or column as a list; QueryError for what has none to give.

    ``ordered``: sets are refused, whose order says nothing (answers are aligned with the list).
    """
    if type(values) is list:
        return values
    if isinstance(values, _TEXT):
        raise QueryError(f"{name} must be a list of ids, found the text {shown(values)}; write [{shown(values)}]")
    if isinstance(values, Mapping) or hasattr(values, "columns") or hasattr(values, "column_names"):
        raise QueryError(f"{name} is a {type(values).__name__}; expected a list, or one column of a table")
    if ordered and isinstance(values, (set, frozenset)):
        raise QueryError(f"{name} is a {type(values).__name__}, which has no order; expected a list")
    if getattr(values, "ndim", 1) != 1:
        raise QueryError(f"{name} has {values.ndim} dimensions; expected a list or an array of one dimension")
    for method in ("to_pylist", "tolist"):  # pyarrow; numpy and pandas: elements become Python's own
        if hasattr(values, method):
            return list(getattr(values, method)())
    try:
        return list(values)
    except TypeError:
        example = f", e.g. [{shown(values)}]" if isinstance(values, (int, float)) else ""
        raise QueryError(f"{name} is {shown(values)}; expected a list{example}") from None


def histories_of(histories: Any) -> list[list[Any]]:
    """Return lists of item ids; QueryError names the first history that is none."""
    if getattr(histories, "ndim", 1) == 2 and isinstance(histories, np.ndarray):
        return [list(row) for row in histories.tolist()]
    if isinstance(histories, _TEXT):
        raise QueryError(
            f"histories is the text {shown(histories)}; expected a list of lists of item ids, e.g. [['50', '181']]"
        )
    rows = listed(histories, "histories")
    for place, row in enumerate(rows):
        if isinstance(row, (*_TEXT, int, float, np.generic)) or row is None:
            raise QueryError(
                f"histories[{place}] is {shown(row)}; histories must be a list of lists of item ids, e.g. [[50, 181]] "
                "for one history, [[]] for an empty one"
            )
    return [listed(row, f"histories[{place}]") for place, row in enumerate(rows)]


def features_of(features: Any) -> list[Mapping[str, Any]]:
    """Return a list of dictionaries; QueryError names the first entry that is none."""
    wanted = "a list of dictionaries, e.g. [{'age': 30}]"
    if isinstance(features, (Mapping, *_TEXT)) or hasattr(features, "columns") or hasattr(features, "column_names"):
        raise QueryError(f"features is a {type(features).__name__}; expected {wanted}")
    rows = listed(features, "features")
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise QueryError(f"features[{place}] is {shown(row)}; expected {wanted}")
    return rows


def whole(value: Any, name: str, least: int, meaning: str = "") -> int:
    """Return a whole number as int; QueryError unless it is one, and at least ``least``."""
    expected = f"expected a whole number, at least {least}{meaning}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise QueryError(f"{name} is {shown(value)}, a {type(value).__name__}; {expected}")
    if value < least:
        raise QueryError(f"{name} is {value}; {expected}")
    return int(value)


def truth(value: Any, name: str) -> bool:
    """Return True or False; QueryError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise QueryError(f"{name} is {shown(value)}; expected True or False")
    return bool(value)


def text(value: Any, name: str, example: str) -> str:
    """Return a text; QueryError for anything else."""
    if not isinstance(value, str):
        raise QueryError(f"{name} is a {type(value).__name__}; expected {example}")
    return value


def choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return one of some words; QueryError for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise QueryError(f"{name} is {shown(value)}; expected one of {', '.join(map(repr, choices))}")
    return value


def folder(value: Any, name: str) -> Path:
    """Return a path; QueryError for what is no text and no path, or names nothing."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise QueryError(f"{name} is {shown(value)}; expected the path of a run folder")
    path = os.fspath(value)
    if not isinstance(path, str) or "\0" in path:
        raise QueryError(f"{name} is {shown(value)}; expected the path of a run folder")
    return Path(path)


def is_missing(value: Any) -> bool:
    """Tell whether a value stands for none: None, a float nan, NaT or NA of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)
