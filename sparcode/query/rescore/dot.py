"""Rescoring by dot products alone: rows of items are asked for ahead of time, since candidates lie far apart.

A row is decoded inside its sum, in a loop that hands no array to another function (references would be counted). Rows
of 8 bits may be summed in another order than float32 rows of the same values: equal up to the rounding of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.jit import overload, reordered, types
from sparcode.jit.prefetch import LINE, prefetch
from sparcode.query.rescore.item_vectors import half_to_float

AHEAD = 24
"""Candidates between the one asked for and the one scored: a miss takes as long as scoring about so many."""


def prefetch_row(values: np.ndarray, row: Any) -> None:
    """Ask for the lines of ``values[row]`` (n, D); does nothing uncompiled. For kernels."""


@overload(prefetch_row)
def _prefetch_row(values, row):  # type: ignore[no-untyped-def]
    step = LINE // (values.dtype.bitwidth // 8)

    def ask(values, row):  # type: ignore[no-untyped-def]
        first = np.uint64(row) * np.uint64(values.shape[1])
        for place in range(0, values.shape[1], step):
            prefetch(values, first + np.uint64(place))

    return ask


def coordinate(stored: Any, scale: Any) -> Any:
    """Return one stored coordinate as float32; ``scale``: of the item, 1 where there are none. For kernels."""
    return np.float32(stored) * scale


@overload(coordinate)
def _coordinate(stored, scale):  # type: ignore[no-untyped-def]
    if stored == types.uint16:
        return lambda stored, scale: half_to_float(stored)
    if stored == types.float32:
        return lambda stored, scale: stored
    return lambda stored, scale: np.float32(stored) * scale


def rows_and_scales(items: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows of ``item_vectors.Items`` and the scales of int8 ones, else None. For kernels."""
    return items if isinstance(items, tuple) else (items, None)


@overload(rows_and_scales)
def _rows_and_scales(items):  # type: ignore[no-untyped-def]
    return (lambda items: items) if isinstance(items, types.BaseTuple) else (lambda items: (items, None))


@reordered
def prefetch_candidates(items, item_bias, candidates):  # type: ignore[no-untyped-def]
    """Ask for the vectors, stored as ``item_vectors.Items``, and the biases of the ``candidates`` (R,)."""
    rows, scales = rows_and_scales(items)
    _ask(rows, scales, item_bias, candidates)


@reordered
def _ask(rows, scales, item_bias, candidates):  # type: ignore[no-untyped-def]
    for place in range(len(candidates)):
        item = np.uint64(candidates[place])
        prefetch_row(rows, item)
        prefetch(item_bias, item)
        if scales is not None:
            prefetch(scales, item)


@reordered
def dot_candidates(tokens, candidates, weights, out):  # type: ignore[no-untyped-def]
    """Add bias of the item + cosine * sum_j token . item_j to ``out`` (R,) for every token (K_u, d) of the query.

    ``weights``: ScorerWeights without a perceptron.
    """
    rows, scales = rows_and_scales(weights.items)
    _add_dots(tokens, candidates, rows, scales, weights, out)


@reordered
def _add_dots(tokens, candidates, rows, scales, weights, out):  # type: ignore[no-untyped-def]
    item_bias, cosine, bias, relu = weights.item_bias, weights.cosine, weights.bias, weights.relu
    count, width, size = candidates.shape[0], tokens.shape[1], rows.shape[1]
    _ask(rows, scales, item_bias, candidates[:AHEAD])
    for token in range(tokens.shape[0]):
        query = tokens[token]
        for place in range(count):
            if token == 0 and place + AHEAD < count:
                ahead = np.uint64(candidates[place + AHEAD])
                prefetch_row(rows, ahead)
                prefetch(item_bias, ahead)
                if scales is not None:
                    prefetch(scales, ahead)
            item = np.uint64(candidates[place])
            row = rows[item]
            scale = scales[item] if scales is not None else np.float32(1.0)
            dot = np.float32(0.0)
            for block in range(0, size, width):
                part = row[block : block + width]
                for j in range(width):
                    dot += query[j] * coordinate(part[j], scale)
            score = item_bias[item] + cosine * dot
            out[place] += max(score + bias, np.float32(0.0)) if relu else score
