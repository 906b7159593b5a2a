"""Finite scalar quantization (Mentzer et al. 2024) of principal coordinates, without training.

A coordinate y, divided by its deviation, becomes z = tanh(gain y) and the nearest of ``levels`` evenly spaced values in
[-1, 1]: digit = round((z + 1) / 2 * (levels - 1)). tanh is monotone, so encoding counts the edges below y; no two
machines or batches can disagree about a rounding of tanh. A digit decodes to the mean of the training coordinates
in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparcode.quantize.rotation import mapped, principal_axes

GAIN = 1.15
"""Makes the digits of a normal coordinate about equally frequent."""


@dataclass(frozen=True)
class Scalar:
    """``mean`` (d,), ``axes`` (d, L), ``edges`` and ``values``: L arrays (levels - 1,) and (levels,); all float32."""

    mean: np.ndarray
    axes: np.ndarray
    edges: list[np.ndarray]
    values: list[np.ndarray]


def edges_of(levels: int, deviation: float, gain: float) -> np.ndarray:
    """Return (levels - 1,) float32: where round((tanh(gain y / deviation) + 1) / 2 * (levels - 1)) steps up."""
    halves = (2.0 * np.arange(levels - 1) + 1.0) / (levels - 1) - 1.0
    return (np.arctanh(halves) * deviation / gain).astype(np.float32)


def fit(vectors: np.ndarray, levels: Sequence[int], gain: float = GAIN) -> Scalar:
    """Fit to ``vectors`` (n, d), one digit a principal coordinate; ValueError when len(levels) > d or a level < 2."""
    if len(levels) > vectors.shape[1] or min(levels) < 2:
        raise ValueError(f"{list(levels)}: at most {vectors.shape[1]} levels, each at least 2")
    mean, variances, axes = principal_axes(vectors)
    turn = np.ascontiguousarray(axes[:, : len(levels)], np.float32)
    centre = mean.astype(np.float32)
    # A constant coordinate gets edges far outside its rounding.
    deviations = np.maximum(np.sqrt(variances), 1e-6 * np.sqrt(variances[0]))
    edges = [edges_of(level, float(size), gain) for level, size in zip(levels, deviations, strict=False)]
    coordinates = mapped(vectors, turn, centre)
    values = [_cell_means(y, edge) for y, edge in zip(coordinates.T, edges, strict=True)]
    return Scalar(centre, turn, edges, values)


def _cell_means(y: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the mean of ``y`` in every cell; of an empty cell its middle, at the ends the edge."""
    cells = np.searchsorted(edges, y, side="left")
    counts, sums = np.bincount(cells, minlength=len(edges) + 1), np.bincount(cells, y, len(edges) + 1)
    middles = (np.concatenate([edges[:1], edges]) + np.concatenate([edges, edges[-1:]])) / 2
    return np.where(counts > 0, sums / np.maximum(counts, 1), middles).astype(np.float32)


def encode(vectors: np.ndarray, fitted: Scalar) -> np.ndarray:
    """Return codes (n, L) int32; a row's code depends on that row alone."""
    coordinates = mapped(vectors, fitted.axes, fitted.mean)
    columns = [np.searchsorted(edge, y, side="left") for edge, y in zip(fitted.edges, coordinates.T, strict=True)]
    return np.stack(columns, axis=1).astype(np.int32)


def decode(codes: np.ndarray, fitted: Scalar) -> np.ndarray:
    """Return the vectors (n, d) float32 that codes (n, L) stand for."""
    columns = [values[column] for values, column in zip(fitted.values, np.asarray(codes).T, strict=True)]
    return mapped(np.stack(columns, axis=1), fitted.axes.T) + fitted.mean
