"""Rescoring by dot products alone: rows of items are asked for ahead of time, since candidates lie far apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from sparcode.index.item_vectors import item_row, vector_length
from sparcode.index.prefetch import LINE, prefetch

AHEAD = 24
"""Candidates between the one asked for and the one scored: a miss takes as long as scoring about so many."""

_kernel: Any = njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})


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


def prefetch_item(items: Any, item: Any) -> None:
    """Ask for the vector of an item, stored as ``item_vectors.Items``. For kernels."""


@overload(prefetch_item)
def _prefetch_item(items, item):  # type: ignore[no-untyped-def]
    if not isinstance(items, types.BaseTuple):
        return lambda items, item: prefetch_row(items, item)

    def both(items, item):  # type: ignore[no-untyped-def]
        prefetch_row(items[0], item)
        prefetch(items[1], item)

    return both


@_kernel
def dot_candidates(tokens, candidates, items, item_bias, cosine, bias, relu, out):  # type: ignore[no-untyped-def]
    """Add bias of the item + cosine * sum_j token . item_j to ``out`` (R,) for every token (K_u, d) of the query.

    ``items``: rows of K_c d coordinates; ``bias``, ``relu``: as in ``rescorer.score_candidates``.
    """
    count, width, size = candidates.shape[0], tokens.shape[1], vector_length(items)
    buffer = np.empty(size, np.float32)
    for place in range(min(AHEAD, count)):
        prefetch_item(items, candidates[place])
    for token in range(tokens.shape[0]):
        query = tokens[token]
        for place in range(count):
            if token == 0 and place + AHEAD < count:
                prefetch_item(items, candidates[place + AHEAD])
            item = candidates[place]
            vector = item_row(items, item, buffer)
            dot = np.float32(0.0)
            for block in range(0, size, width):
                for j in range(width):
                    dot += query[j] * vector[block + j]
            score = item_bias[item] + cosine * dot
            out[place] += max(score + bias, np.float32(0.0)) if relu else score
