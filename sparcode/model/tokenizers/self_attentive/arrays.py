"""K_u softmax-weighted means of the events; a new event adds its logits."""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparcode.arithmetic import add_product, dot, softmax_in_place, tanh_in_place
from sparcode.jit import contracted
from sparcode.model.tokenizers.arrays import Shapes, gather, stacked

INTERESTS = True
_ZERO = np.float32(0.0)


class Weights(NamedTuple):
    """``positions`` (H, d), ``inner`` (d, 4 d), ``attention`` (K_u, 4 d), float32."""

    positions: np.ndarray
    inner: np.ndarray
    attention: np.ndarray


class Memory(NamedTuple):
    """Scaled item vectors ``x`` (H, d) and attention ``logits`` (K_u, H), float32."""

    x: np.ndarray
    logits: np.ndarray


def check(own: Mapping[str, Any]) -> None:
    """Accept every spec: the kind has no numbers of its own."""


def shapes(own: Mapping[str, Any]) -> Shapes:
    """Return the shapes of the kind's own arrays."""
    d, heads, history = int(own["width"]), int(own["heads"]), int(own["history"])
    return {"positions": (history, d), "inner.weight": (4 * d, d), "attention.weight": (heads, 4 * d)}


def prepare(own: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Weights:
    """Return the weights, inputs first."""
    return Weights(arrays["positions"], stacked(arrays["inner.weight"].T), stacked(arrays["attention.weight"]))


def memory(own: Mapping[str, Any]) -> Memory:
    """Return the memory of a user without events."""
    history, width, heads = (int(own[name]) for name in ("history", "width", "heads"))
    return Memory(np.zeros((history, width), np.float32), np.zeros((heads, history), np.float32))


@contracted
def remember(inputs, items, first, weights, memory):
    """Keep the vectors and logits of events; see ``tokenizers.arrays``."""
    x, stop = memory.x, first + items.shape[0]
    bad = gather(inputs, items, x[first:stop])
    if bad >= 0:
        return bad
    placed = np.empty(x.shape[1], np.float32)
    hidden = np.empty(weights.inner.shape[1], np.float32)
    for t in range(first, stop):
        for i in range(x.shape[1]):
            placed[i] = x[t, i] + weights.positions[t, i]
        hidden[:] = _ZERO
        add_product(placed, weights.inner, hidden)
        tanh_in_place(hidden)
        for k in range(weights.attention.shape[0]):
            memory.logits[k, t] = dot(weights.attention[k], hidden)
    return -1


@contracted
def recall(count, weights, memory, states):
    """K_u softmax-weighted means."""
    shares = memory.logits[:, :count].copy()
    states[:] = _ZERO
    for k in range(states.shape[0]):
        softmax_in_place(shares[k], count)
        add_product(shares[k], memory.x[:count], states[k])
