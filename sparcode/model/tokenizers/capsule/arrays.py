"""Dynamic routing of mapped events into K_u capsules; routing looks at all events and is left to ``recall``."""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparcode.arithmetic import add_product, dot, softmax_in_place
from sparcode.jit import contracted
from sparcode.model.tokenizers.arrays import Shapes, gather, stacked
from sparcode.spec_values import count_of

INTERESTS = True
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_SQUASH_EPSILON = np.float32(1e-9)


class Weights(NamedTuple):
    """Initial ``routing`` logits (K_u, H), the ``bilinear`` map (in, out), and how many ``iterations`` of routing."""

    routing: np.ndarray
    bilinear: np.ndarray
    iterations: int


class Memory(NamedTuple):
    """``capsules`` (H, d) float32: the mapped events."""

    capsules: np.ndarray


def check(own: Mapping[str, Any]) -> None:
    """Raise KeyError or ValueError for a spec whose numbers cannot be."""
    count_of(own, "iterations", 1, 1000)


def shapes(own: Mapping[str, Any]) -> Shapes:
    """Return the shapes of the kind's own arrays."""
    d = int(own["width"])
    return {"routing": (int(own["heads"]), int(own["history"])), "bilinear.weight": (d, d)}


def prepare(own: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Weights:
    """Return the weights, inputs first."""
    return Weights(arrays["routing"], stacked(arrays["bilinear.weight"].T), int(own["iterations"]))


def memory(own: Mapping[str, Any]) -> Memory:
    """Return the memory of a user without events."""
    return Memory(np.zeros((int(own["history"]), int(own["width"])), np.float32))


@contracted
def remember(inputs, items, first, weights, memory):
    """Map events; see ``tokenizers.arrays``."""
    x = np.empty((items.shape[0], inputs.table.shape[1]), np.float32)
    bad = gather(inputs, items, x)
    if bad >= 0:
        return bad
    for event in range(items.shape[0]):
        capsule = memory.capsules[first + event]
        capsule[:] = _ZERO
        add_product(x[event], weights.bilinear, capsule)
    return -1


@contracted
def recall(count, weights, memory, states):
    """All iterations of routing."""
    capsules, logits = memory.capsules, np.empty((count, states.shape[0]), np.float32)
    for t in range(count):
        for k in range(states.shape[0]):
            logits[t, k] = weights.routing[k, t]
    for iteration in range(weights.iterations):
        route(logits, capsules, count, states)
        if iteration + 1 < weights.iterations:
            for t in range(count):
                for k in range(states.shape[0]):
                    logits[t, k] += dot(states[k], capsules[t])


@contracted
def route(logits, capsules, count, out):
    """Set ``out[k] = squash(sum_t softmax_k(logits[t]) capsules[t])``."""
    heads, width = out.shape
    weights = np.empty(heads, np.float32)
    out[:] = _ZERO
    for t in range(count):
        weights[:] = logits[t]
        softmax_in_place(weights, heads)
        for k in range(heads):
            for i in range(width):
                out[k, i] += weights[k] * capsules[t, i]
    for k in range(heads):
        square = dot(out[k], out[k])
        factor = square / (_ONE + square) / np.sqrt(square + _SQUASH_EPSILON)
        for i in range(width):
            out[k, i] *= factor
