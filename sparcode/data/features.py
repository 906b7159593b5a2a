"""Encoded metadata of items or users: categories (multi-hot), standardised numbers, given vectors."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from sparcode.errors import QueryError
from sparcode.types import EvaluationSet

LARGEST_NUMBER = 3.4e38
"""Numbers from here on, just below the largest float32, are sentinels or mistakes; sums of them overflow."""
LARGEST_VECTOR = 1e15
"""Elements of vectors from here on are refused: squares of longer ones overflow float32."""
_FARTHEST = 1e6
_LONGEST = 100


def _texts(content: Mapping[str, Any], key: str) -> list[str]:
    values = content[key]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} is not a list of texts")
    return values


@dataclass(frozen=True)
class FeatureLayout:
    """What the columns of a dense feature row mean: categories first, then numbers, then vectors.

    ``vocabulary``: ``column=value``, grouped by column. ``means`` float64, ``stds`` float32 (F,), of the raw numbers.
    ``vector_widths``: columns of every vector, aligned with ``vector_names``.
    """

    vocabulary: list[str] = field(default_factory=list)
    numeric_names: list[str] = field(default_factory=list)
    means: np.ndarray = field(default_factory=lambda: np.zeros(0))
    stds: np.ndarray = field(default_factory=lambda: np.ones(0, dtype=np.float32))
    vector_names: list[str] = field(default_factory=list)
    vector_widths: list[int] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Columns of a dense row."""
        return len(self.vocabulary) + len(self.numeric_names) + sum(self.vector_widths)

    @cached_property
    def category_names(self) -> list[str]:
        """Names of the category columns, in order."""
        return list(dict.fromkeys(word.partition("=")[0] for word in self.vocabulary))

    @cached_property
    def column_of_word(self) -> np.ndarray:
        """(vocabulary,) int64: position in ``category_names`` of the column a word belongs to."""
        place = {name: index for index, name in enumerate(self.category_names)}
        return np.array([place[word.partition("=")[0]] for word in self.vocabulary], dtype=np.int64)

    @cached_property
    def place_of_word(self) -> dict[str, int]:
        """Position of every ``column=value``."""
        return {word: index for index, word in enumerate(self.vocabulary)}

    def standardise(self, raw: np.ndarray) -> np.ndarray:
        """Return ``(raw - means) / stds`` as float32, at most a million; nan and infinite become 0 (the mean)."""
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (np.asarray(raw, dtype=np.float64) - self.means) / self.stds
        return np.where(np.isfinite(scaled), scaled.clip(-_FARTHEST, _FARTHEST), 0.0).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON-able values."""
        return {
            "vocabulary": self.vocabulary,
            "numeric_names": self.numeric_names,
            "means": [float(value) for value in self.means],
            "stds": [float(value) for value in self.stds],
            "vector_names": self.vector_names,
            "vector_widths": self.vector_widths,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FeatureLayout:
        """Read what ``to_json`` wrote; ValueError, TypeError or KeyError on anything else."""
        names = {key: _texts(content, key) for key in ("vocabulary", "numeric_names", "vector_names")}
        means, stds = np.array(content["means"], dtype=np.float64), np.array(content["stds"], dtype=np.float32)
        widths = content["vector_widths"]
        if any(part.shape != (len(names["numeric_names"]),) or not np.isfinite(part).all() for part in (means, stds)):
            raise ValueError("means and stds are not one finite number of each name in numeric_names")
        if not isinstance(widths, list) or not all(type(width) is int and 0 < width < 1 << 31 for width in widths):
            raise ValueError("vector_widths is not a list of positive integers")
        if len(widths) != len(names["vector_names"]):
            raise ValueError("vector_widths is not as long as vector_names")
        return cls(names["vocabulary"], names["numeric_names"], means, stds, names["vector_names"], widths)

    def encode_json(self, values: Mapping[str, Any]) -> np.ndarray:
        """Return one dense row, float32 (width,), of e.g. ``{"gender": "F", "age": 30}``.

        What is absent is encoded as unknown. An unknown key or category raises QueryError with near names.
        """
        row = np.zeros(self.width, dtype=np.float32)
        first_vector = len(self.vocabulary) + len(self.numeric_names)
        starts = np.concatenate([[0], np.cumsum(self.vector_widths)]).astype(int) + first_vector
        for name, value in values.items():
            if name in self.category_names:
                words = self._words(name, value)
                row[words] = 1.0 / max(len(words), 1)
            elif name in self.numeric_names:
                index = self.numeric_names.index(name)
                row[len(self.vocabulary) + index] = self._number(name, value, index)
            elif name in self.vector_names:
                index = self.vector_names.index(name)
                row[starts[index] : starts[index + 1]] = self._vector(name, value, self.vector_widths[index])
            else:
                raise QueryError(self._unknown_name(name))
        return row

    def _words(self, name: str, value: Any) -> list[int]:
        given = value if isinstance(value, list | tuple) else [value]
        words = []
        for one in dict.fromkeys(as_text(value) for value in given if value is not None):
            place = self.place_of_word.get(f"{name}={one}")
            if place is None:
                known = [word.partition("=")[2] for word in self.vocabulary if word.startswith(f"{name}=")]
                near = difflib.get_close_matches(one[:_LONGEST], known, n=3) or known[:5]
                raise QueryError(f"feature {name!r} has no value {one[:_LONGEST]!r}; known values: {', '.join(near)}")
            words.append(place)
        return words

    def _number(self, name: str, value: Any, index: int) -> float:
        if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
            return 0.0  # how JSON and tables say that a number is missing
        try:
            raw = math.nan if isinstance(value, bool | np.bool_) else float(value)
        except (TypeError, ValueError):
            raw = math.nan
        except OverflowError:
            raw = math.inf
        if math.isnan(raw) or abs(raw) >= LARGEST_NUMBER:
            limit = "" if math.isnan(raw) else f"; expected one below {LARGEST_NUMBER:g}"
            raise QueryError(f"feature {name!r} must be a number, found {reprlib.repr(value)}{limit}")
        scaled = (raw - float(self.means[index])) / float(self.stds[index])
        return max(-_FARTHEST, min(_FARTHEST, scaled))

    def _vector(self, name: str, value: Any, width: int) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                vector = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            vector = np.zeros(0, dtype=np.float32)
        if vector.shape != (width,) or not (np.abs(vector) < LARGEST_VECTOR).all():
            raise QueryError(f"feature {name!r} must be a list of {width} finite numbers below {LARGEST_VECTOR:g}")
        return vector

    def _unknown_name(self, name: str) -> str:
        names = [*self.category_names, *self.numeric_names, *self.vector_names]
        near = difflib.get_close_matches(str(name)[:_LONGEST], names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"unknown feature {str(name)[:_LONGEST]!r}{hint}; features of this run: {', '.join(names) or 'none'}"


@dataclass(frozen=True)
class Features:
    """Metadata of every item (or user), by internal id.

    ``categories_indptr``: int64 (rows + 1,), ``categories_items``: int32 positions in ``layout.vocabulary``,
    ascending in a row. ``numeric``: float32 (rows, F), standardised, 0 where unknown. ``vector``: float32 (rows, V).
    """

    layout: FeatureLayout
    categories_indptr: np.ndarray
    categories_items: np.ndarray
    numeric: np.ndarray
    vector: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.categories_indptr) - 1

    @property
    def width(self) -> int:
        """Columns of ``dense``."""
        return self.layout.width

    @property
    def vocabulary(self) -> list[str]:
        """``column=value`` of every category id."""
        return self.layout.vocabulary

    @property
    def numeric_names(self) -> list[str]:
        """Names of the numeric columns."""
        return self.layout.numeric_names

    def categories(self, row: int) -> list[str]:
        """Return the ``column=value`` words of one row."""
        ids = self.categories_items[self.categories_indptr[row] : self.categories_indptr[row + 1]]
        return [self.vocabulary[index] for index in ids]

    def dense(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return float32 (len(rows), width): categories (of each column, divided by their count), numbers, vectors."""
        rows = np.asarray(rows, dtype=np.int64)
        result = np.zeros((len(rows), self.width), dtype=np.float32)
        place, words = gather_rows(self.categories_indptr, self.categories_items, rows)
        if len(words):
            columns = len(self.layout.category_names)
            cell = place * columns + self.layout.column_of_word[words]
            result[place, words] = 1.0 / np.bincount(cell, minlength=len(rows) * columns)[cell]
        start = len(self.vocabulary)
        result[:, start : start + self.numeric.shape[1]] = self.numeric[rows]
        if self.vector is not None:
            result[:, start + self.numeric.shape[1] :] = self.vector[rows]
        return result

    def encode_json(self, values: Mapping[str, Any]) -> np.ndarray:
        """See ``FeatureLayout.encode_json``."""
        return self.layout.encode_json(values)

    def take(self, rows: np.ndarray) -> Features:
        """Return the given rows, in the given order, with the same layout."""
        place, words = gather_rows(self.categories_indptr, self.categories_items, rows)
        indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(np.bincount(place, minlength=len(rows)), out=indptr[1:])
        vector = None if self.vector is None else self.vector[rows]
        return Features(self.layout, indptr, words, self.numeric[rows], vector)

    def stacked(self, other: Features) -> Features:
        """Return the rows of ``self`` followed by those of ``other``, which must have the same layout."""
        indptr = np.concatenate([self.categories_indptr, other.categories_indptr[1:] + self.categories_indptr[-1]])
        words = np.concatenate([self.categories_items, other.categories_items])
        vector = None
        if self.vector is not None and other.vector is not None:
            vector = np.concatenate([self.vector, other.vector])
        return Features(self.layout, indptr, words, np.concatenate([self.numeric, other.numeric]), vector)


def with_user_features(held: EvaluationSet, features: Features) -> EvaluationSet:
    """Return the evaluation set with the dense features of each query's user: float32 (B, width)."""
    return replace(held, queries=replace(held.queries, user_features=features.dense(held.users)))


def gather_rows(indptr: np.ndarray, values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (place, value) of every element of the chosen rows: place counts the chosen rows, int64."""
    lengths = indptr[rows + 1] - indptr[rows]
    place = np.repeat(np.arange(len(rows), dtype=np.int64), lengths)
    offset = np.arange(lengths.sum(), dtype=np.int64) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return place, values[np.repeat(indptr[rows], lengths) + offset]


def as_text(value: Any) -> str:
    """Return a category value as it stands in the vocabulary: whole floats lose their ``.0``, truth is lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
