"""Conditions on the attributes of items, such as ``genres=Comedy and year>=1990``, as sets of items.

The language is that of the rows that training keeps (``data/conditions.py``): of a list ``=`` means that it contains
the value, ``!=`` that it does not, and an item whose value is missing satisfies no comparison.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict

import numpy as np

from sparcode.data.attributes import Attribute, ItemAttributes
from sparcode.data.comparison import Bound, number_bound, time_bound
from sparcode.data.conditions import TRUTH, Term, nearest, not_comparable, parse_condition, shown, unknown_column
from sparcode.errors import DataError, QueryError
from sparcode.query.filters import ItemSet
from sparcode.wording import warn

CACHE_BYTES = 64_000_000
_LARGEST_CACHE = 64
_SMALLEST_CACHE = 4
_SEARCHED = 5000
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

        A category that no item has is had by none; a warning names the one that is near, where there is any. Raises
        QueryError on what is no condition, an unknown column, and a value that cannot be compared with its column,
        each with what is near; CorruptIndexError on damaged files.
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
            raise QueryError(f"where: column {term.column!r} cannot filter ({reason}); columns that can: {known}")
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
    left, right = _places(attribute, term)
    if term.operator in ("=", "==", "!="):
        if left == right and attribute.kind in ("text", "list"):
            _note_unknown(attribute, term)
        return left, right
    if attribute.kind == "list":
        raise QueryError(f"where: column {term.column!r} holds lists, which know = and != only, not {term.operator}")
    count = len(attribute.values)
    return {"<": (0, left), "<=": (0, right), ">": (right, count), ">=": (left, count)}[term.operator]


def _places(attribute: Attribute, term: Term) -> tuple[int, int]:
    """Return how many distinct values are less than a written one, and how many are less or equal.

    Raises QueryError when the column can have no such value.
    """
    bound = _bound(attribute, term)
    if isinstance(bound, Bound):
        return bound.places(np.asarray(attribute.values))
    places = range(len(attribute.values))
    return bisect_left(places, bound, key=attribute.value), bisect_right(places, bound, key=attribute.value)


def _bound(attribute: Attribute, term: Term) -> Bound | str:
    try:
        if attribute.kind == "number":
            return number_bound(term.value, np.asarray(attribute.values).dtype)
        if attribute.kind == "time":
            return time_bound(term.value)
        if attribute.kind == "truth":
            return str(TRUTH[term.value.lower()]).lower()
    except (KeyError, ValueError, OverflowError):
        raise QueryError(not_comparable(term, _KINDS[attribute.kind])) from None
    return term.value.strip() if attribute.kind == "list" else term.value


def _note_unknown(attribute: Attribute, term: Term) -> None:
    """Warn of a value that no item has where another one is near: it may be a slip."""
    near = nearest(term.value, [attribute.value(place) for place in range(min(len(attribute.values), _SEARCHED))])
    if near is not None:
        line = f"where: no item has {term.column}={shown(term.value)}; did you mean {near!r}?"
        warn(line, UserWarning, stacklevel=6)
