"""GRU layers from a zero state: one step of every layer an event."""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparcode.arithmetic import affine, sigmoid_in_place, tanh_in_place
from sparcode.jit import contracted
from sparcode.model.tokenizers.arrays import Shapes, gather, stacked
from sparcode.spec_values import count_of

INTERESTS = False
_ZERO = np.float32(0.0)


class Layers(NamedTuple):
    """Weights (d, 3 d) and biases (3 d,) of a layer, gate order r, z, n; of all layers with one axis more in front."""

    input_weight: np.ndarray
    hidden_weight: np.ndarray
    input_bias: np.ndarray
    hidden_bias: np.ndarray


class Memory(NamedTuple):
    """``hidden`` (layers, d) float32: the hidden vectors."""

    hidden: np.ndarray


def check(own: Mapping[str, Any]) -> None:
    """Raise KeyError or ValueError for a spec whose numbers cannot be."""
    count_of(own, "blocks", 1, 256)


def shapes(own: Mapping[str, Any]) -> Shapes:
    """Return the shapes of the kind's own arrays."""
    d = int(own["width"])
    parts: Shapes = {"weight_ih": (3 * d, d), "weight_hh": (3 * d, d), "bias_ih": (3 * d,), "bias_hh": (3 * d,)}
    return {f"gru.{name}_l{layer}": shape for layer in range(int(own["blocks"])) for name, shape in parts.items()}


def prepare(own: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Layers:
    """Return the weights of all layers, inputs first."""
    layers = range(int(own["blocks"]))
    return Layers(
        stacked([arrays[f"gru.weight_ih_l{layer}"].T for layer in layers]),
        stacked([arrays[f"gru.weight_hh_l{layer}"].T for layer in layers]),
        stacked([arrays[f"gru.bias_ih_l{layer}"] for layer in layers]),
        stacked([arrays[f"gru.bias_hh_l{layer}"] for layer in layers]),
    )


def memory(own: Mapping[str, Any]) -> Memory:
    """Return the memory of a user without events."""
    return Memory(np.zeros((int(own["blocks"]), int(own["width"])), np.float32))


@contracted
def remember(inputs, items, first, weights, memory):
    """Take events through all layers; see ``tokenizers.arrays``."""
    x = np.empty((items.shape[0], inputs.table.shape[1]), np.float32)
    bad = gather(inputs, items, x)
    if bad >= 0:
        return bad
    hidden = memory.hidden
    gates, recurrent = np.empty(3 * hidden.shape[1], np.float32), np.empty(3 * hidden.shape[1], np.float32)
    if first == 0:
        hidden[:] = _ZERO
    for event in range(items.shape[0]):
        for layer in range(hidden.shape[0]):
            one = Layers(
                weights.input_weight[layer], weights.hidden_weight[layer], weights.input_bias[layer],
                weights.hidden_bias[layer],
            )  # fmt: skip
            step(x[event] if layer == 0 else hidden[layer - 1], hidden[layer], one, gates, recurrent)
    return -1


@contracted
def step(x, state, layer, gates, recurrent):
    """Replace ``state`` by ``(1 - z) n + z state``, n = tanh(W_n x + r (U_n state)), torch's gate order r, z, n."""
    width = state.shape[0]
    affine(x, layer.input_weight, layer.input_bias, gates)
    affine(state, layer.hidden_weight, layer.hidden_bias, recurrent)
    for i in range(2 * width):
        gates[i] += recurrent[i]
    sigmoid_in_place(gates[: 2 * width])
    for i in range(width):
        gates[2 * width + i] += gates[i] * recurrent[2 * width + i]
    tanh_in_place(gates[2 * width :])
    for i in range(width):
        update = gates[width + i]
        fresh = gates[2 * width + i]
        state[i] = fresh + update * (state[i] - fresh)  # one product, see ``arithmetic.add_product``


@contracted
def recall(count, weights, memory, states):
    """The hidden vector of the last layer."""
    states[0] = memory.hidden[memory.hidden.shape[0] - 1]
