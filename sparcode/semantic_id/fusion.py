"""Several vectors of one item made one: standardised part by part, then concatenated or projected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparcode.errors import DataError
from sparcode.semantic_id.embedding_checks import blocks
from sparcode.threads import limited

How = Literal["concat", "project"]
HOW = ("concat", "project")
_NOISE = 1e-9


@dataclass(frozen=True)
class Part:
    """``vectors``: float32 (n, d). ``known``: (n,) bool, False where the source says nothing of an item."""

    name: str
    vectors: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Standardiser:
    """Takes ``mean`` (d,) away and divides by ``spread``, the root of the total variance; unknown items get zeros."""

    mean: np.ndarray
    spread: float

    @classmethod
    def fit(cls, part: Part) -> Standardiser:
        """Learn both from the known items; DataError when there is none."""
        known = part.vectors[part.known]
        if len(known) == 0:
            raise DataError(f"{part.name} knows none of the items; leave it out, or check the ids")
        mean = known.mean(axis=0, dtype=np.float64)
        total = sum(float(((known[block] - mean) ** 2).sum()) for block in blocks(*known.shape))
        return cls(mean, math.sqrt(total / len(known)))

    def apply(self, part: Part) -> np.ndarray:
        """Return float32 (n, d)."""
        result = np.zeros(part.vectors.shape, np.float32)
        for block in blocks(len(result), len(self.mean)) if self.spread > _NOISE else ():
            known = part.known[block]
            result[block][known] = (part.vectors[block][known] - self.mean) / self.spread
        return result


@dataclass(frozen=True)
class Directions:
    """Principal directions: rows lose ``mean`` (d,) and are multiplied by ``matrix`` (d, w), both float64."""

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, vectors: np.ndarray, width: int) -> Directions:
        """Learn at most ``width`` directions of float32 (n, d), the largest variance first, none without variance.

        The sign of each is that of its largest coefficient.
        """
        with limited(1):
            mean = vectors.mean(axis=0, dtype=np.float64)
            covariance = np.zeros((vectors.shape[1], vectors.shape[1]))
            for block in blocks(*vectors.shape):
                centred = vectors[block] - mean
                covariance += centred.T @ centred
            values, directions = np.linalg.eigh(covariance)
        kept = np.argsort(-values, kind="stable")[:width]
        kept = kept[values[kept] > _NOISE * max(values.max(), _NOISE)]
        matrix = directions[:, kept]
        matrix = matrix * np.sign(matrix[np.abs(matrix).argmax(axis=0), np.arange(len(kept))])
        return cls(mean, np.ascontiguousarray(matrix))

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Return float32 (n, w)."""
        result = np.empty((len(vectors), self.matrix.shape[1]), np.float32)
        with limited(1):
            for block in blocks(*vectors.shape):
                result[block] = (vectors[block] - self.mean) @ self.matrix
        return result


@dataclass(frozen=True)
class Fusion:
    """How parts become one matrix. One part that is not projected is left as it is and has no standardiser."""

    standardisers: list[Standardiser]
    directions: Directions | None = None

    @classmethod
    def fit(cls, parts: list[Part], how: How = "concat", width: int = 128) -> Fusion:
        """Learn from all items; ``width`` is that of a projection. DataError for another ``how``."""
        if how not in HOW:
            raise DataError(f"unknown fusion {how!r}; expected one of {', '.join(HOW)}")
        if len(parts) == 1 and how == "concat":
            return cls([])
        fitted = cls([Standardiser.fit(part) for part in parts])
        return fitted if how == "concat" else cls(fitted.standardisers, Directions.fit(fitted.apply(parts), width))

    def apply(self, parts: list[Part]) -> np.ndarray:
        """Return float32 (n, sum of the widths), or (n, w) when projected.

        Every part loses its mean over the known items and has total variance 1, so that a wide one weighs as much as a
        narrow one; unknown items get the mean.
        """
        if not self.standardisers:
            return parts[0].vectors
        pairs = zip(self.standardisers, parts, strict=True)
        joined = np.concatenate([standardiser.apply(part) for standardiser, part in pairs], axis=1)
        return joined if self.directions is None else self.directions.apply(joined)

    def state(self) -> dict[str, np.ndarray]:
        """Return all arrays."""
        arrays = {f"standardiser.{k}.mean": one.mean for k, one in enumerate(self.standardisers)}
        arrays |= {f"standardiser.{k}.spread": np.array(one.spread) for k, one in enumerate(self.standardisers)}
        if self.directions is not None:
            arrays |= {"directions.mean": self.directions.mean, "directions.matrix": self.directions.matrix}
        return arrays

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray]) -> Fusion:
        """Take what ``state`` returned."""
        standardisers: list[Standardiser] = []
        while f"standardiser.{len(standardisers)}.mean" in arrays:
            stem = f"standardiser.{len(standardisers)}"
            standardisers.append(Standardiser(arrays[f"{stem}.mean"], float(arrays[f"{stem}.spread"])))
        directions = None
        if "directions.matrix" in arrays:
            directions = Directions(arrays["directions.mean"], arrays["directions.matrix"])
        return cls(standardisers, directions)
