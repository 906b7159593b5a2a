"""Vectors brought to a common scale before they are quantised, row by row, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparcode.errors import ConfigError, DataError
from sparcode.semantic_id.rows import BLOCK_ROWS, as_array

MODES = ("global", "columns", "none")


@dataclass(frozen=True)
class Scaling:
    """``(x - mean) / scale`` with ``mean`` and ``scale`` (d,) float32.

    ``global``: the mean of every column, one scale for all, so that neighbours stay neighbours. ``columns``: one
    scale a column, 1 where a column is constant. ``none``: nothing changes.
    """

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Return scaled vectors (n, d) float32, a new array; every row by itself."""
        return (np.asarray(vectors, np.float32) - self.mean) / self.scale

    def undo(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (n, d) float32 in the scale of the input."""
        return (vectors * self.scale + self.mean).astype(np.float32)


class ScaledRows:
    """A matrix (n, d), perhaps mapped from a file, whose rows are scaled when they are asked for."""

    def __init__(self, vectors: np.ndarray, scaling: Scaling) -> None:
        self._vectors, self._scaling = vectors, scaling
        self.shape, self.size, self.ndim = vectors.shape, vectors.size, 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self._scaling.apply(self._vectors[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._scaling.apply(self._vectors).astype(dtype or np.float32, copy=False)


def fit_scaling(vectors: np.ndarray, mode: str | bool) -> Scaling:
    """Return the scaling of vectors (n, d); True means columns, False none.

    Raises ConfigError for another mode and DataError when all rows are equal: no method can tell them apart.
    """
    mode = {True: "columns", False: "none"}[mode] if isinstance(mode, bool) else mode
    if mode not in MODES:
        raise ConfigError(f"standardise={mode!r}: one of {', '.join(MODES)} expected")
    mean, variance = _moments(vectors)
    if not variance.any() and len(vectors) > 1:
        raise DataError(f"all {len(vectors):,} vectors are equal (zero variance); there is nothing to encode")
    width = vectors.shape[1]
    if mode == "none" or len(vectors) == 1:
        return Scaling(np.zeros(width, np.float32), np.ones(width, np.float32))
    scale = np.full(width, np.sqrt(variance.mean())) if mode == "global" else np.sqrt(variance)
    return Scaling(mean.astype(np.float32), np.where(scale > 0, scale, 1).astype(np.float32))


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the columns (d,) float64, in two passes over blocks of rows."""
    rows = range(0, len(vectors), BLOCK_ROWS)
    blocks = (np.asarray(vectors[low : low + BLOCK_ROWS], np.float64) for low in rows)
    mean = sum((block.sum(axis=0) for block in blocks), np.zeros(vectors.shape[1])) / len(vectors)
    squares = np.zeros(vectors.shape[1])
    low_values, high_values = vectors[0].astype(np.float64), vectors[0].astype(np.float64)
    for low in rows:
        block = np.asarray(vectors[low : low + BLOCK_ROWS], np.float64)
        squares += ((block - mean) ** 2).sum(axis=0)
        low_values, high_values = np.minimum(low_values, block.min(0)), np.maximum(high_values, block.max(0))
    # The mean of equal numbers is rounded: without this a constant column would have a tiny variance.
    return mean, np.where(low_values == high_values, 0.0, squares / len(vectors))


def checked_matrix(vectors: Any, width: int | None = None) -> np.ndarray:
    """Return a matrix (n, d) of floats as it is given, mapped or not; float16 and float64 stay until blocks are read.

    Raises DataError for another shape or type, for no rows, another width, and for NaN or infinite values.
    """
    matrix = as_array(vectors)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"vectors of shape {matrix.shape} found, (items, width) expected, neither of them 0")
    if matrix.dtype.kind not in "fiu":
        raise DataError(f"vectors of type {matrix.dtype} found, floats expected")
    if width is not None and matrix.shape[1] != width:
        raise DataError(f"vectors of width {matrix.shape[1]} found, the tokenizer takes a width of {width}")
    for low in range(0, len(matrix), BLOCK_ROWS):
        with np.errstate(over="ignore"):  # what is too large for float32 is told below
            block = np.asarray(matrix[low : low + BLOCK_ROWS], np.float32)
        if not np.isfinite(block).all():
            row, column = (int(place) for place in np.argwhere(~np.isfinite(block))[0])
            raise DataError(
                f"the vector in row {low + row} has {block[row, column]} in column {column}; remove or fill it"
            )
    return matrix
