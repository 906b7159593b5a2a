"""Greedy k-means++ (Arthur and Vassilvitskii 2007, section 5): of several drawn rows the one that helps most."""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import numpy as np

from sparcode.jit import exact, reordered


# One machine always sums in the same way, and that is all that fitting needs.
@reordered
def rough_gap(x, c):
    """Return |x - c|^2 in float32; 0 exactly when they are equal."""
    total = np.float32(0.0)
    for e in range(c.shape[0]):
        gap = x[e] - c[e]
        total += gap * gap
    return total


@exact
def drawn_row(distance, mark):
    """Return the row where the running sum of ``distance`` (rows,) passes ``mark``; the last of positive distance."""
    chosen = 0
    for r in range(distance.shape[0]):
        if distance[r] > 0.0:
            chosen = r
            mark -= distance[r]
            if mark < 0.0:
                break
    return chosen


@exact
def greedy_plus_plus(vectors, draws):
    """Return row numbers (k,): each next row is the best of T drawn with probability proportional to their distance.

    ``vectors`` (rows, d) float32, ``draws`` (k, T) uniform numbers in [0, 1). Best is what leaves the least sum of
    squared distances, of equal ones the first drawn. When all distances are zero, rows are drawn uniformly.
    """
    rows = vectors.shape[0]
    chosen = np.empty(draws.shape[0], np.int64)
    distance, trial, best = np.full(rows, np.inf), np.empty(rows), np.empty(rows)
    total = np.inf
    for k in range(draws.shape[0]):
        chosen[k] = min(int(draws[k, 0] * rows), rows - 1)
        if total == 0.0:
            continue
        least = np.inf
        for t in range(1 if k == 0 else draws.shape[1]):
            row = chosen[k] if k == 0 else drawn_row(distance, draws[k, t] * total)
            left = 0.0
            for r in range(rows):
                trial[r] = min(distance[r], rough_gap(vectors[r], vectors[row]))
                left += trial[r]
            if left < least or t == 0:
                least, chosen[k] = left, row
                trial, best = best, trial
        total = least
        distance, best = best, distance
    return chosen
