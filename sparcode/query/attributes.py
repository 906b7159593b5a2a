"""Conditions on the attributes of items, such as ``genres=Comedy and year>=1990``, as sets of items.

The language is that of the rows that training keeps (``data/where``): of a list ``=`` and ``in`` mean that it contains
a value, ``!=`` and ``not in`` that it contains none; an item whose value is missing satisfies no comparison, and so
every ``not`` of one.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from sparcode.data.attributes import Attribute, ItemAttributes
from sparcode.data.comparison import TRUTH, Bound, number_bound, time_bound
from sparcode.data.where.form import NOT_IN, ONE_BY_ONE, Term, evaluate, terms_of
from sparcode.data.where.grammar import parse_condition
from sparcode.data.where.messages import at, meant_as_list, nearest, not_comparable, shown, unknown_column
from sparcode.errors import DataError, QueryError
from sparcode.query.filters import ItemSet
from sparcode.wording import warn

CACHE_BYTES = 64_000_000
_LARGEST_CACHE = 64
_SMALLEST_CACHE = 4
_SEARCHED = 5000
_NOTED = 5
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

    def _mask(self, text: str) -> np.ndarray:
        columns, count = self.attributes.columns, self.attributes.count
        try:
            condition = parse_condition(text, [*columns, *self.attributes.skipped])
        except DataError as problem:
            raise QueryError(str(problem)) from None
        mask = evaluate(condition, lambda term: mask_of(self._column(term), term, count))
        _note_unknown(columns, terms_of(condition))
        return mask

    def _column(self, term: Term) -> Attribute:
        columns = self.attributes.columns
        if term.column in self.attributes.skipped:
            reason = self.attributes.skipped[term.column]
            known = ", ".join(columns) or "none"
            raise QueryError(f"{at(term)}: column {term.column!r} cannot filter ({reason}); columns that can: {known}")
        if term.column not in columns:
            raise QueryError(unknown_column(term, list(columns)))
        if term.column not in self._checked:
            columns[term.column].check(term.column, self.attributes.count)
            self._checked.add(term.column)
        return columns[term.column]


def mask_of(attribute: Attribute, term: Term, count: int) -> np.ndarray:
    """Return (count,) bool: where one comparison holds; raises QueryError."""
    excludes = term.operator in ("!=", NOT_IN)
    mask = np.ones(count, bool) if excludes else np.zeros(count, bool)
    for value in term.values:
        low, high = _range(attribute, term, value)
        mask[attribute.items[attribute.indptr[low] : attribute.indptr[high]]] = not excludes
    if excludes:
        mask[attribute.missing] = False
    return mask


def _range(attribute: Attribute, term: Term, value: str) -> tuple[int, int]:
    """Return which distinct values a comparison with one value names; of ``!=`` the one it excludes."""
    left, right = _places(attribute, term, value)
    if _names_values(term):
        return left, right
    if attribute.kind == "list":
        known = "know =, !=, in and not in only"
        raise QueryError(f"{at(term)}: column {term.column!r} holds lists, which {known}, not {term.operator}")
    count = len(attribute.values)
    return {"<": (0, left), "<=": (0, right), ">": (right, count), ">=": (left, count)}[term.operator]


def _names_values(term: Term) -> bool:
    return ONE_BY_ONE.get(term.operator, term.operator) in ("=", "==", "!=")


def _places(attribute: Attribute, term: Term, value: str) -> tuple[int, int]:
    """Return how many distinct values are less than a written one, and how many are less or equal.

    Raises QueryError when the column can have no such value.
    """
    bound = _bound(attribute, term, value)
    if isinstance(bound, Bound):
        return bound.places(np.asarray(attribute.values))
    places = range(len(attribute.values))
    return bisect_left(places, bound, key=attribute.value), bisect_right(places, bound, key=attribute.value)


def _bound(attribute: Attribute, term: Term, value: str) -> Bound | str:
    try:
        if attribute.kind == "number":
            return number_bound(value, np.asarray(attribute.values).dtype)
        if attribute.kind == "time":
            return time_bound(value)
        if attribute.kind == "truth":
            return str(TRUTH[value.lower()]).lower()
    except (KeyError, ValueError, OverflowError):
        raise QueryError(not_comparable(term, value, _KINDS[attribute.kind])) from None
    return value.strip() if attribute.kind == "list" else value


def _note_unknown(columns: Mapping[str, Attribute], terms: Iterable[Term]) -> None:
    """Warn of values that no item has, the first few, where another one is near: they may be slips."""
    for term, value in islice(_unknown_values(columns, terms), _NOTED):
        attribute = columns[term.column]
        near = nearest(value, [attribute.value(place) for place in range(min(len(attribute.values), _SEARCHED))])
        meant = f"did you mean {near!r}?" if near else meant_as_list(term.column, value)
        if meant:
            warn(f"where: no item has {term.column}={shown(value)}; {meant}", UserWarning, stacklevel=4)


def _unknown_values(columns: Mapping[str, Attribute], terms: Iterable[Term]) -> Iterator[tuple[Term, str]]:
    for term in terms:
        attribute = columns[term.column]
        if attribute.kind in ("text", "list") and _names_values(term):
            for value in term.values:
                low, high = _places(attribute, term, value)
                if low == high:
                    yield term, value
