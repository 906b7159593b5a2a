"""The mean of the events through two ReLU layers and a linear one; events add to one sum."""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparcode.arithmetic import affine, affine_relu
from sparcode.jit import contracted
from sparcode.model.tokenizers.arrays import Shapes, stacked

INTERESTS = False
_ZERO = np.float32(0.0)


class Weights(NamedTuple):
    """Weights (in, out) and biases of the three layers, float32; ``scale``: that of the inputs."""

    weight0: np.ndarray
    bias0: np.ndarray
    weight1: np.ndarray
    bias1: np.ndarray
    weight2: np.ndarray
    bias2: np.ndarray
    scale: np.float32


class Memory(NamedTuple):
    """``total`` (d,) float32: the sum of the item vectors."""

    total: np.ndarray


def check(own: Mapping[str, Any]) -> None:
    """Accept every spec: the kind has no numbers of its own."""


def shapes(own: Mapping[str, Any]) -> Shapes:
    """Return the shapes of the kind's own arrays."""
    d = int(own["width"])
    sizes = (d, 2 * d, 2 * d, d)
    weights = {f"layers.{i}.weight": (sizes[i + 1], sizes[i]) for i in range(3)}
    biases = {f"layers.{i}.bias": (sizes[i + 1],) for i in range(3)}
    return {**weights, **biases}


def prepare(own: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Weights:
    """Return the weights, inputs first."""
    parts = [
        part
        for layer in range(3)
        for part in (stacked(arrays[f"layers.{layer}.weight"].T), stacked(arrays[f"layers.{layer}.bias"]))
    ]
    return Weights(*parts, np.float32(math.sqrt(int(own["width"]))))  # type: ignore[call-arg, arg-type]


def memory(own: Mapping[str, Any]) -> Memory:
    """Return the memory of a user without events."""
    return Memory(np.zeros(int(own["width"]), np.float32))


@contracted
def remember(inputs, items, first, weights, memory):
    """Add the vectors of events to the sum; see ``tokenizers.arrays``."""
    table, total = inputs.table, memory.total
    if first == 0:
        total[:] = _ZERO
    for event in range(items.shape[0]):
        item = items[event]
        if item < 0 or item >= table.shape[0]:
            return event
        for i in range(table.shape[1]):
            total[i] += table[item, i]
    return -1


@contracted
def recall(count, weights, memory, states):
    """The three layers on the scaled mean."""
    mean = np.empty(memory.total.shape[0], np.float32)
    hidden0, hidden1 = np.empty(weights.bias0.shape[0], np.float32), np.empty(weights.bias1.shape[0], np.float32)
    factor = weights.scale / np.float32(count)
    for i in range(mean.shape[0]):
        mean[i] = memory.total[i] * factor
    affine_relu(mean, weights.weight0, weights.bias0, hidden0)
    affine_relu(hidden0, weights.weight1, weights.bias1, hidden1)
    affine(hidden1, weights.weight2, weights.bias2, states[0])
