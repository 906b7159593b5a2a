"""What the served kinds share: item vectors, the shapes of a spec's arrays, and how histories are encoded.

Every kind encodes in two steps, the same for a whole history and for one more event. ``memory(spec)`` gives the arrays
of one user; ``remember(inputs, items, first, weights, memory)`` adds events ``items`` (at least one) at positions
``first`` ..., 0 for the oldest of the window of H, and returns -1 or the place of an unknown item; ``recall(count,
weights, memory, states)`` reads the states (S, d) after ``count`` events. ``remember`` with ``first`` = 0 starts anew,
whatever the memory holds. Memory that recalling needs stays as it is.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparcode.jit import contracted
from sparcode.model.tokenizers import part_of
from sparcode.spec_values import count_of

Shapes = dict[str, tuple[int, ...]]


class Inputs(NamedTuple):
    """Item vectors ``table`` (n, d) and what they are multiplied by, sqrt(d); both float32."""

    table: np.ndarray
    scale: np.float32


@contracted
def gather(inputs, items, out):
    """Set ``out[t] = scale * table[items[t]]``; return the first position whose item is not in the table, or -1."""
    table, scale = inputs.table, inputs.scale
    n = table.shape[0]
    for t in range(items.shape[0]):
        if items[t] < 0 or items[t] >= n:
            return t
        for i in range(table.shape[1]):
            out[t, i] = scale * table[items[t], i]
    return -1


def stacked(parts: Any) -> np.ndarray:
    """Return arrays of one shape as one, float32."""
    return np.array(parts, dtype=np.float32, order="C")


def checked_sizes(own: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return width, heads, history and feature width of a tokenizer spec; ValueError or KeyError names a bad value.

    Every number that kernels take from the spec is checked, so that shapes compared with it can be trusted.
    """
    width, heads = count_of(own, "width", 1, 1 << 16), count_of(own, "heads", 1, 1 << 12)
    history, features = count_of(own, "history", 1, 1 << 16), count_of(own, "feature_width", 0)
    part_of(own["kind"], "arrays").check(own)
    return width, heads, history, features


def tokenizer_shapes(own: Mapping[str, Any]) -> Shapes:
    """Return name (without "tokenizer.") -> shape for a tokenizer spec; KeyError for an unknown kind."""
    kind, d, heads = part_of(own["kind"], "arrays"), int(own["width"]), int(own["heads"])
    shapes: Shapes = {"empty_state": (heads if kind.INTERESTS else 1, d)}
    if own["feature_width"]:
        shapes["features.weight"] = (d, int(own["feature_width"]))
    if not kind.INTERESTS:
        shapes |= {"head.weight": (heads * d, d), "head.bias": (heads * d,)}
    return shapes | kind.shapes(own)
