"""Conditions on the attributes of items, such as ``genres=Comedy and year>=1990``, as sets of items.

The language is that of ``--where`` when training (``data/conditions.py``): of a list ``=`` means that it contains the
value, ``!=`` that it does not, and an item whose value is missing satisfies no comparison.
"""

from __future__ import annotations

import difflib
import math
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from sparcode.data.attributes import Attribute, ItemAttributes
from sparcode.data.conditions import TRUTH, Term, not_comparable, parse_condition, unknown_column
from sparcode.errors import DataError, QueryError
from sparcode.index.filters import ItemSet

CACHE_BYTES = 64_000_000
_LARGEST_CACHE = 64
_SMALLEST_CACHE = 4
_SEARCHED = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {"number": "a number", "time": "a time", "truth": "true or false", "text": "text", "list": "a list"}


class AttributeFilter:
    """Turns conditions into sets of items; threads may share one. The most recent conditions are kept."""

    def __init__(self, attributes: ItemAttributes, entries: int | None = None) -> None:
        self.attributes = attributes
        fitting = CACHE_BYTES // max(attributes.count, 1)
        self.entries = min(max(fitting, _SMALLEST_CACHE), _LARGEST_CACHE) if entries is None else entries
        self._recent: OrderedDict[str, ItemSet] = OrderedDict()
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    def where(self, condition: str) -> ItemSet:
        """Return the items that satisfy ``condition``; the same set again for a condition asked for recently.

        Raises QueryError on what is no condition, an unknown column, a value that cannot be compared with its
        column, and a category that no item has, each with what is near; CorruptIndexError on damaged files.
        """
        with self._lock:
            found = self._recent.get(condition)
            if found is not None:
                self._recent.move_to_end(condition)
                return found
        found = ItemSet(self._mask(condition))
        with self._lock:
            self._recent[condition] = found
            while len(self._recent) > self.entries:
                self._recent.popitem(last=False)
        return found

    def _mask(self, condition: str) -> np.ndarray:
        try:
            terms = parse_condition(condition)
        except DataError as problem:
            raise QueryError(str(problem)) from None
        masks = [mask_of(self._column(term), term, self.attributes.count) for term in terms]
        return masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)

    def _column(self, term: Term) -> Attribute:
        columns = self.attributes.columns
        if term.column in self.attributes.skipped:
            reason = self.attributes.skipped[term.column]
            known = ", ".join(columns) or "none"
            raise QueryError(f"--where: column {term.column!r} cannot filter ({reason}); columns that can: {known}")
        if term.column not in columns:
            raise QueryError(unknown_column(term, list(columns)))
        if term.column not in self._checked:
            columns[term.column].check(term.column, self.attributes.count)
            self._checked.add(term.column)
        return columns[term.column]


def mask_of(attribute: Attribute, term: Term, count: int) -> np.ndarray:
    """Return (count,) bool: where one comparison holds; raises QueryError."""
    low, high = _range(attribute, term)
    found = attribute.items[attribute.indptr[low] : attribute.indptr[high]]
    if term.operator != "!=":
        mask = np.zeros(count, bool)
        mask[found] = True
        return mask
    mask = np.ones(count, bool)
    mask[found] = False
    mask[attribute.missing] = False
    return mask


def _range(attribute: Attribute, term: Term) -> tuple[int, int]:
    """Return which distinct values a comparison names; of ``!=`` the one it excludes."""
    bound, places = _bound(attribute, term), range(len(attribute.values))
    left = bisect_left(places, bound, key=attribute.value)
    right = bisect_right(places, bound, key=attribute.value)
    if term.operator in ("=", "==", "!="):
        if left == right and attribute.kind in ("text", "list"):
            raise QueryError(_unknown_value(attribute, term))
        return left, right
    if attribute.kind == "list":
        raise QueryError(f"--where: column {term.column!r} holds lists, which know = and != only, not {term.operator}")
    return {"<": (0, left), "<=": (0, right), ">": (right, len(places)), ">=": (left, len(places))}[term.operator]


def _bound(attribute: Attribute, term: Term) -> Any:
    """Return the value of a comparison in the terms of its column; QueryError when it has no such value."""
    try:
        if attribute.kind == "number":
            return _number(term.value, attribute.values.dtype)
        if attribute.kind == "time":
            return _microseconds(term.value)
        if attribute.kind == "truth":
            return str(TRUTH[term.value.lower()]).lower()
    except (KeyError, ValueError, OverflowError):
        raise QueryError(not_comparable(term, _KINDS[attribute.kind])) from None
    return term.value.strip() if attribute.kind == "list" else term.value


def _number(text: str, dtype: np.dtype) -> int | float:
    try:
        value: int | float = int(text)
    except ValueError:
        value = float(text)
    if math.isnan(value):
        raise ValueError(text)
    # 0.1 means the float32 that a column of these holds in its place.
    return float(np.float32(value)) if dtype == np.float32 else value


def _microseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _unknown_value(attribute: Attribute, term: Term) -> str:
    known = [attribute.value(place) for place in range(min(len(attribute.values), _SEARCHED))]
    same = [value for value in known if value.casefold() == term.value.strip().casefold()]
    near = (same or difflib.get_close_matches(term.value, known, n=1))[:1]
    hint = f"did you mean {near[0]!r}?" if near else f"values are, e.g.: {', '.join(known[:5])}"
    return f"--where: no item has {term.column}={term.value!r}; {hint}"
