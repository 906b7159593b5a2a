"""Balanced assignment: entropic optimal transport (Cuturi 2013) in the log domain, and its rounding."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact


def sinkhorn(costs: np.ndarray, *, epsilon: float = 0.02, iterations: int = 200, tolerance: float = 1e-3) -> np.ndarray:
    """Return the plan (m, K) float64 that spreads m rows over K >= m columns at the least cost, none overfull.

    Every row sums to 1, no column to more than 1 (within ``tolerance``). ``epsilon`` is the entropy's weight as a
    share of the mean cost: smaller is closer to the exact assignment and needs more iterations.
    """
    costs = np.asarray(costs, np.float64)
    rows, columns = costs.shape
    if rows > columns:
        raise ValueError(f"{rows} rows do not fit into {columns} columns")
    excess = costs - costs.min(axis=1, keepdims=True)
    scale = epsilon * max(float(excess.mean()), 1e-30)
    kernel = -excess / scale
    if spare := columns - rows:
        # What no row needs is taken by one more row that likes all columns equally.
        kernel = np.vstack([kernel, np.zeros(columns)])
    mass = np.log(np.array([*[1.0] * rows, *([spare] if spare else [])]))
    left, right = np.zeros(len(kernel)), np.zeros(columns)
    for _ in range(iterations):
        right = -_log_sum(kernel + left[:, None], axis=0)
        sums = _log_sum(kernel + right, axis=1)
        if np.abs(np.exp(left + sums - mass) - 1).max() < tolerance:
            break
        left = mass - sums
    left = mass - _log_sum(kernel + right, axis=1)
    return np.exp(kernel + left[:, None] + right)[:rows]


def _log_sum(values: np.ndarray, axis: int) -> np.ndarray:
    top = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - top).sum(axis=axis)) + np.squeeze(top, axis)


def round_plan(plan: np.ndarray) -> np.ndarray:
    """Return one column for every row (m,) int64, no column twice: the largest entries first, ties by place."""
    order = np.argsort(-plan, axis=None, kind="stable")
    return _greedy(order, plan.shape[0], plan.shape[1])


@exact
def _greedy(order: np.ndarray, rows: int, columns: int) -> np.ndarray:
    column_of = np.full(rows, -1, np.int64)
    free = np.ones(columns, np.bool_)
    left = rows
    for place in order:
        row, column = place // columns, place % columns
        if column_of[row] < 0 and free[column]:
            column_of[row] = column
            free[column] = False
            left -= 1
            if left == 0:
                break
    return column_of
