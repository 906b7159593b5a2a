"""Fitted encodings of items' text and features: what embeds new items in the space of the old ones."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.features import FeatureLayout, Features
from sparcode.data.metadata import documents, encode_like
from sparcode.data.text import TextEncoder
from sparcode.errors import CorruptIndexError, DataError, MissingExtraError
from sparcode.semantic_id.fusion import Directions, Part

State = tuple[dict[str, Any], dict[str, np.ndarray]]
"""JSON-able values and arrays."""


@dataclass(frozen=True)
class TextTransform:
    """Text of ``columns`` by a fitted ``encoder``, or by a sentence-transformers ``model``, by name or path."""

    columns: list[str]
    encoder: TextEncoder | None
    model: str | None = None

    def apply(self, table: pa.Table) -> Part:
        """Return the vectors of the rows; columns that are not there are blank."""
        texts = documents(table, None, self.columns)
        if self.encoder is not None:
            vectors = self.encoder.transform(texts)
            return Part("text", vectors, filled(vectors))
        known = np.array([bool(text.strip()) for text in texts], bool)
        vectors = sentence_vectors(texts, self.model or "")
        vectors[~known] = 0
        return Part("text", vectors, known)

    def state(self) -> State:
        """Return what ``from_state`` takes."""
        arrays, terms = ({}, []) if self.encoder is None else self.encoder.to_arrays()
        return {"kind": "text", "columns": self.columns, "model": self.model, "terms": terms}, arrays

    @classmethod
    def from_state(cls, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> TextTransform:
        """Take what ``state`` returned."""
        encoder = TextEncoder.from_arrays(arrays, content["terms"]) if arrays else None
        return cls(list(content["columns"]), encoder, content["model"])


@dataclass(frozen=True)
class FeatureTransform:
    """Categories, numbers and vectors: dense columns times ``scale``, then ``directions`` where they were too many."""

    layout: FeatureLayout
    scale: np.ndarray
    directions: Directions | None

    @classmethod
    def fit(cls, features: Features, width: int) -> FeatureTransform:
        """Learn scales that give every column of the table total variance 1, and at most ``width`` directions."""
        dense, layout = features.dense(np.arange(len(features))), features.layout
        total = np.bincount(_column_of(layout), weights=dense.var(axis=0, dtype=np.float64))
        root = np.sqrt(np.where(total > 0, total, 1))
        scale = np.where(total > 0, 1 / root, 0)[_column_of(layout)].astype(np.float32)
        wide = dense.shape[1] > width
        return cls(layout, scale, Directions.fit(dense * scale, width) if wide else None)

    @property
    def columns(self) -> list[str]:
        """Columns of the table that are read."""
        return [*self.layout.category_names, *self.layout.numeric_names, *self.layout.vector_names]

    def apply(self, table: pa.Table) -> Part:
        """Return the vectors of the rows; values the layout does not know are left out."""
        return self.of(encode_like(table, self.layout)[0])

    def of(self, features: Features) -> Part:
        """Return the vectors of encoded features."""
        dense = features.dense(np.arange(len(features))) * self.scale
        vectors = dense if self.directions is None else self.directions.apply(dense)
        return Part("features", vectors, filled(dense))

    def state(self) -> State:
        """Return what ``from_state`` takes."""
        arrays = {"scale": self.scale}
        if self.directions is not None:
            arrays |= {"mean": self.directions.mean, "matrix": self.directions.matrix}
        return {"kind": "features", "layout": self.layout.to_json()}, arrays

    @classmethod
    def from_state(cls, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> FeatureTransform:
        """Take what ``state`` returned."""
        directions = Directions(arrays["mean"], arrays["matrix"]) if "matrix" in arrays else None
        return cls(FeatureLayout.from_json(content["layout"]), arrays["scale"], directions)


@dataclass(frozen=True)
class Unknown:
    """Behaviour, of which new items have none: zeros, not known."""

    name: str
    width: int

    def apply(self, table: pa.Table) -> Part:
        """Return zeros."""
        return Part(self.name, np.zeros((len(table), self.width), np.float32), np.zeros(len(table), bool))

    def state(self) -> State:
        """Return what ``from_state`` takes."""
        return {"kind": "unknown", "name": self.name, "width": self.width}, {}

    @classmethod
    def from_state(cls, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> Unknown:
        """Take what ``state`` returned."""
        return cls(str(content["name"]), int(content["width"]))


Transform = TextTransform | FeatureTransform | Unknown


def open_transform(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> Transform:
    """Return the transform of a state; CorruptIndexError for an unknown kind."""
    kinds: dict[str, Any] = {"text": TextTransform, "features": FeatureTransform, "unknown": Unknown}
    if content.get("kind") not in kinds:
        raise CorruptIndexError(f"a recipe with a source of unknown kind {content.get('kind')!r}; embed again")
    opened: Transform = kinds[content["kind"]].from_state(content, arrays)
    return opened


def sentence_vectors(texts: Sequence[str], model: str) -> np.ndarray:
    """Return float32 (n, d) of a sentence-transformers model by name or path; MissingExtraError without the package."""
    try:
        package = importlib.import_module("sentence_transformers")
    except ImportError:
        raise MissingExtraError("sentence-transformers", "embed", f"--text-model {model}") from None
    try:
        encoder = package.SentenceTransformer(model, device="cpu")
    except (OSError, ValueError) as problem:
        first = (str(problem).splitlines() or ["no reason given"])[0]
        raise DataError(
            f"--text-model {model} cannot be opened: {first}; give a folder, or a name that is cached"
        ) from None
    vectors = encoder.encode(list(texts), batch_size=64, convert_to_numpy=True, show_progress_bar=False)
    return np.array(vectors, dtype=np.float32)


def filled(vectors: np.ndarray) -> np.ndarray:
    """Return (n,) bool: rows that are not zero."""
    return np.asarray(vectors.any(axis=1))


def _column_of(layout: FeatureLayout) -> np.ndarray:
    """Return int64 (width,): the column of the table that a dense column comes from."""
    numbers = len(layout.category_names) + np.arange(len(layout.numeric_names))
    first = len(layout.category_names) + len(numbers)
    vector = np.repeat(first + np.arange(len(layout.vector_widths)), np.array(layout.vector_widths, np.int64))
    return np.concatenate([layout.column_of_word, numbers, vector]).astype(np.int64)
