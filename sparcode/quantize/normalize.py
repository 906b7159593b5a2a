"""Normalisation of vectors before a model sees them, and back: centre and scale, kept as two rows of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Normalizer:
    """``(x - mean) / scale`` of vectors (n, d), of their unit vectors if ``unit_rows``. ``mean``, ``scale`` (d,)."""

    mean: np.ndarray
    scale: np.ndarray
    unit_rows: bool = False

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Return normalised vectors (n, d) float32; each row depends on itself alone."""
        return (self.target(vectors) - self.mean) / self.scale

    def target(self, vectors: np.ndarray) -> np.ndarray:
        """Return what ``restore`` should give back: the vectors float32, or their unit vectors (zero stays zero)."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not self.unit_rows:
            return vectors
        lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(1, keepdims=True))
        return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    def restore(self, normalized: np.ndarray) -> np.ndarray:
        """Return the inverse of ``apply`` (n, d) float32, but for lengths that ``unit_rows`` took away."""
        return normalized * self.scale + self.mean


def fit_normalizer(vectors: np.ndarray, rows: np.ndarray, how: str) -> Normalizer:
    """Fit to ``vectors[rows]`` in blocks of rows, so that a memory-mapped matrix stays on disk.

    ``how``: ``scale`` (centre, one scale for all columns), ``columns`` (one each), ``rows`` (unit rows, then as
    ``scale``), ``none``. Columns without variance keep scale 1.
    """
    width = vectors.shape[1]
    plain = Normalizer(np.zeros(width, np.float32), np.ones(width, np.float32), how == "rows")
    if how == "none":
        return plain
    mean = sum(block.sum(0) for block in _blocks(plain, vectors, rows)) / len(rows)
    variance = sum(np.square(block - mean).sum(0) for block in _blocks(plain, vectors, rows)) / len(rows)
    if how != "columns":
        variance = np.full(width, variance.mean())
    scale = np.sqrt(np.where(variance > 1e-20, variance, 1.0))
    return Normalizer(mean.astype(np.float32), scale.astype(np.float32), plain.unit_rows)


def _blocks(plain: Normalizer, vectors: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield plain.target(vectors[rows[start : start + BLOCK_ROWS]]).astype(np.float64)
