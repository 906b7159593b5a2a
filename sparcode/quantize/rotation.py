"""Linear maps of rows whose rounding does not depend on the batch, and the rotations that quantizers learn."""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import numpy as np

from sparcode.jit import exact

_NONE = np.zeros(0, np.float32)


@exact
def map_rows(rows, offset, matrix, out):
    """Fill out (R, m) with (rows - offset) @ matrix; ``offset`` (d,) or (0,), ``matrix`` (d, m); all float32.

    Every output is one float32 sum over the coordinates in ascending order.
    """
    width = rows.shape[1]
    whole = width - width % 4
    x = np.zeros(width, np.float32)
    for r in range(rows.shape[0]):
        x[:] = rows[r]
        if offset.shape[0]:
            for e in range(width):
                x[e] -= offset[e]
        total = out[r]
        total[:] = np.float32(0.0)
        for e in range(0, whole, 4):
            w0, w1, w2, w3 = matrix[e], matrix[e + 1], matrix[e + 2], matrix[e + 3]
            for j in range(total.shape[0]):
                total[j] = total[j] + x[e] * w0[j] + x[e + 1] * w1[j] + x[e + 2] * w2[j] + x[e + 3] * w3[j]
        for e in range(whole, width):
            for j in range(total.shape[0]):
                total[j] += x[e] * matrix[e, j]


def mapped(vectors: np.ndarray, matrix: np.ndarray, offset: np.ndarray = _NONE) -> np.ndarray:
    """Return (vectors - offset) @ matrix (n, m) float32; a row's bits depend on that row alone."""
    vectors, matrix = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(matrix, np.float32)
    out = np.empty((len(vectors), matrix.shape[1]), np.float32)
    map_rows(vectors, np.ascontiguousarray(offset, np.float32), matrix, out)
    return out


def principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean (d,), variances (d,) descending and axes (d, d), all float64; column j of the axes is axis j.

    The sign of an axis makes its coordinate of greatest size positive, so that it does not depend on the library.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    spread = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), 8192):
        centred = vectors[start : start + 8192] - mean
        spread += centred.T @ centred
    variances, axes = np.linalg.eigh(spread / len(vectors))
    variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return mean, variances, axes * signs


def balanced_axes(variances: np.ndarray, parts: int) -> np.ndarray:
    """Return an order (d,) of axes that deals them to ``parts`` equal runs so that the products of variances match.

    Eigenvalue allocation of Ge et al. 2013, section 4.2: axes by descending variance, each to the run with the least
    product so far that has room. ``parts`` divides d.
    """
    room = len(variances) // parts
    logs = np.log(np.maximum(variances, 1e-12 * max(float(variances[0]), 1e-30)))
    runs: list[list[int]] = [[] for _ in range(parts)]
    # Products are compared as sums of logarithms, shifted so that a longer run never has the smaller one.
    logs = logs - logs.min() + 1e-6
    sums = np.zeros(parts)
    for axis, log in enumerate(logs):
        open_runs = [p for p in range(parts) if len(runs[p]) < room]
        chosen = min(open_runs, key=lambda p: (sums[p], p))
        runs[chosen].append(axis)
        sums[chosen] += log
    return np.array([axis for run in runs for axis in run])


def closest_rotation(vectors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the orthogonal matrix R (d, d) float64 that minimises |vectors R - targets|, by the SVD of X^T Y."""
    left, _, right = np.linalg.svd(vectors.astype(np.float64).T @ targets.astype(np.float64))
    return left @ right
