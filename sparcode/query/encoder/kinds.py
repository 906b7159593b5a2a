"""The other tokenizer kinds for the last position: gru4rec, dnn, self-attentive, capsule.

Every ``<kind>_states`` has the same first seven arguments (item vectors, flat histories with starts and stops,
input scale, states of an empty history, output (B, S, d)) followed by its weights, which ``prepare_<kind>``
returns; the result is -1, or the index of an item that is not in the table.

``remember_<kind>`` and ``recall_<kind>`` do the same event by event on the arrays of ``memory_<kind>``, as far as a
window of H events goes; see ``encoder.state``.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.arithmetic import (
    add_product,
    affine,
    affine_relu,
    dot,
    gather,
    sigmoid_in_place,
    softmax_in_place,
    tanh_in_place,
)
from sparcode.index.arrays import Arrays
from sparcode.jit import contracted

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_SQUASH_EPSILON = np.float32(1e-9)


def prepare_gru4rec(spec: dict[str, Any], arrays: Arrays) -> tuple[Any, ...]:
    """Return input and hidden weights (layers, d, 3 d), their biases (layers, 3 d), gate order r, z, n."""
    layers = range(int(spec["blocks"]))
    return (
        _stack([arrays[f"gru.weight_ih_l{layer}"].T for layer in layers]),
        _stack([arrays[f"gru.weight_hh_l{layer}"].T for layer in layers]),
        _stack([arrays[f"gru.bias_ih_l{layer}"] for layer in layers]),
        _stack([arrays[f"gru.bias_hh_l{layer}"] for layer in layers]),
        int(spec["history"]),
    )


def prepare_dnn(spec: dict[str, Any], arrays: Arrays) -> tuple[Any, ...]:
    """Return weights (in, out) and biases of the three layers."""
    return tuple(
        part
        for layer in range(3)
        for part in (_stack(arrays[f"layers.{layer}.weight"].T), _stack(arrays[f"layers.{layer}.bias"]))
    )


def prepare_self_attentive(spec: dict[str, Any], arrays: Arrays) -> tuple[Any, ...]:
    """Return positions (H, d), inner weights (d, 4 d) and attention rows (K_u, 4 d)."""
    return arrays["positions"], _stack(arrays["inner.weight"].T), _stack(arrays["attention.weight"])


def prepare_capsule(spec: dict[str, Any], arrays: Arrays) -> tuple[Any, ...]:
    """Return initial routing logits (K_u, H), the bilinear map (in, out) and the number of iterations."""
    return arrays["routing"], _stack(arrays["bilinear.weight"].T), int(spec["iterations"])


def _stack(parts: Any) -> np.ndarray:
    return np.array(parts, dtype=np.float32, order="C")


@contracted
def gru_step(x, state, input_weight, hidden_weight, input_bias, hidden_bias, gates, recurrent):
    """Replace ``state`` by ``(1 - z) n + z state``, n = tanh(W_n x + r (U_n state)), torch's gate order r, z, n."""
    width = state.shape[0]
    affine(x, input_weight, input_bias, gates)
    affine(state, hidden_weight, hidden_bias, recurrent)
    for i in range(2 * width):
        gates[i] += recurrent[i]
    sigmoid_in_place(gates[: 2 * width])
    for i in range(width):
        gates[2 * width + i] += gates[i] * recurrent[2 * width + i]
    tanh_in_place(gates[2 * width :])
    for i in range(width):
        update = gates[width + i]
        fresh = gates[2 * width + i]
        state[i] = fresh + update * (state[i] - fresh)  # one product, see ``encoder.math.add_product``


@contracted
def gru4rec_states(
    table, items, starts, stops, scale, empty, states,
    input_weights, hidden_weights, input_biases, hidden_biases, history,
):  # fmt: skip
    """GRU layers from a zero state; see the head of the file."""
    layers, width = input_weights.shape[0], table.shape[1]
    x = np.empty((history, width), np.float32)
    hidden = np.empty((layers, width), np.float32)
    gates = np.empty(3 * width, np.float32)
    recurrent = np.empty(3 * width, np.float32)
    for b in range(starts.shape[0]):
        if stops[b] == starts[b]:
            states[b, 0] = empty[0]
            continue
        bad = gather(table, items[starts[b] : stops[b]], scale, x)
        if bad >= 0:
            return starts[b] + bad
        hidden[:] = _ZERO
        for t in range(stops[b] - starts[b]):
            gru_event(x[t], hidden, input_weights, hidden_weights, input_biases, hidden_biases, gates, recurrent)
        states[b, 0] = hidden[layers - 1]
    return -1


@contracted
def gru_event(x, hidden, input_weights, hidden_weights, input_biases, hidden_biases, gates, recurrent):
    """Take one event through all layers."""
    for layer in range(hidden.shape[0]):
        below = x if layer == 0 else hidden[layer - 1]
        gru_step(
            below, hidden[layer], input_weights[layer], hidden_weights[layer], input_biases[layer],
            hidden_biases[layer], gates, recurrent,
        )  # fmt: skip


def memory_gru4rec(spec: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Return the hidden vectors (layers, d)."""
    return (np.zeros((int(spec["blocks"]), int(spec["width"])), np.float32),)


@contracted
def remember_gru4rec(
    table, items, first, scale, hidden, input_weights, hidden_weights, input_biases, hidden_biases, history
):
    """One step of every layer an event."""
    width = table.shape[1]
    x = np.empty((1, width), np.float32)
    gates, recurrent = np.empty(3 * width, np.float32), np.empty(3 * width, np.float32)
    for event in range(items.shape[0]):
        if gather(table, items[event : event + 1], scale, x) >= 0:
            return event
        gru_event(x[0], hidden, input_weights, hidden_weights, input_biases, hidden_biases, gates, recurrent)
    return -1


@contracted
def recall_gru4rec(count, states, hidden, input_weights, hidden_weights, input_biases, hidden_biases, history):
    """The hidden vector of the last layer."""
    states[0] = hidden[hidden.shape[0] - 1]


@contracted
def dnn_states(table, items, starts, stops, scale, empty, states, weight0, bias0, weight1, bias1, weight2, bias2):
    """Mean of the events through two ReLU layers; see the head of the file."""
    n, width = table.shape
    mean = np.empty(width, np.float32)
    hidden0 = np.empty(bias0.shape[0], np.float32)
    hidden1 = np.empty(bias1.shape[0], np.float32)
    for b in range(starts.shape[0]):
        if stops[b] == starts[b]:
            states[b, 0] = empty[0]
            continue
        mean[:] = _ZERO
        for event in range(starts[b], stops[b]):
            item = items[event]
            if item < 0 or item >= n:
                return event
            for i in range(width):
                mean[i] += table[item, i]
        layers(mean, stops[b] - starts[b], scale, weight0, bias0, weight1, bias1, weight2, bias2, hidden0, hidden1,
               states[b, 0])  # fmt: skip
    return -1


@contracted
def layers(mean, count, scale, weight0, bias0, weight1, bias1, weight2, bias2, hidden0, hidden1, out):
    """Set ``out`` from the sum ``mean`` of ``count`` item vectors, which becomes their scaled mean."""
    factor = scale / np.float32(count)
    for i in range(mean.shape[0]):
        mean[i] *= factor
    affine_relu(mean, weight0, bias0, hidden0)
    affine_relu(hidden0, weight1, bias1, hidden1)
    affine(hidden1, weight2, bias2, out)


def memory_dnn(spec: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Return the sum (d,) of the item vectors, and the input scale (1,)."""
    return np.zeros(int(spec["width"]), np.float32), np.zeros(1, np.float32)


@contracted
def remember_dnn(table, items, first, scale, total, kept_scale, weight0, bias0, weight1, bias1, weight2, bias2):
    """One sum an event."""
    kept_scale[0] = scale
    for event in range(items.shape[0]):
        item = items[event]
        if item < 0 or item >= table.shape[0]:
            return event
        for i in range(table.shape[1]):
            total[i] += table[item, i]
    return -1


@contracted
def recall_dnn(count, states, total, kept_scale, weight0, bias0, weight1, bias1, weight2, bias2):
    """The three layers."""
    hidden0, hidden1 = np.empty(bias0.shape[0], np.float32), np.empty(bias1.shape[0], np.float32)
    layers(total.copy(), count, kept_scale[0], weight0, bias0, weight1, bias1, weight2, bias2, hidden0, hidden1,
           states[0])  # fmt: skip


@contracted
def self_attentive_states(table, items, starts, stops, scale, empty, states, positions, inner, attention):
    """K_u softmax-weighted means of the events; see the head of the file."""
    heads, width = empty.shape
    history = positions.shape[0]
    x = np.empty((history, width), np.float32)
    placed = np.empty(width, np.float32)
    hidden = np.empty(inner.shape[1], np.float32)
    weights = np.empty((heads, history), np.float32)
    for b in range(starts.shape[0]):
        count = stops[b] - starts[b]
        if count == 0:
            states[b] = empty
            continue
        bad = gather(table, items[starts[b] : stops[b]], scale, x)
        if bad >= 0:
            return starts[b] + bad
        for t in range(count):
            attention_logits(x[t], positions[t], inner, attention, placed, hidden, weights[:, t])
        states[b] = _ZERO
        for k in range(heads):
            softmax_in_place(weights[k], count)
            add_product(weights[k, :count], x[:count], states[b, k])
    return -1


@contracted
def attention_logits(x, position, inner, attention, placed, hidden, logits):
    """Set ``logits`` (K_u,) of one event to ``attention . tanh(inner (x + position))``."""
    for i in range(x.shape[0]):
        placed[i] = x[i] + position[i]
    hidden[:] = _ZERO
    add_product(placed, inner, hidden)
    tanh_in_place(hidden)
    for k in range(logits.shape[0]):
        logits[k] = dot(attention[k], hidden)


def memory_self_attentive(spec: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Return the scaled item vectors (H, d) and the attention logits (K_u, H)."""
    history, width, heads = (int(spec[name]) for name in ("history", "width", "heads"))
    return np.zeros((history, width), np.float32), np.zeros((heads, history), np.float32)


@contracted
def remember_self_attentive(table, items, first, scale, x, logits, positions, inner, attention):
    """The logits of every event."""
    placed, hidden = np.empty(table.shape[1], np.float32), np.empty(inner.shape[1], np.float32)
    for event in range(items.shape[0]):
        t = first + event
        if gather(table, items[event : event + 1], scale, x[t : t + 1]) >= 0:
            return event
        attention_logits(x[t], positions[t], inner, attention, placed, hidden, logits[:, t])
    return -1


@contracted
def recall_self_attentive(count, states, x, logits, positions, inner, attention):
    """K_u softmax-weighted means."""
    weights = logits[:, :count].copy()
    states[:] = _ZERO
    for k in range(states.shape[0]):
        softmax_in_place(weights[k], count)
        add_product(weights[k], x[:count], states[k])


@contracted
def capsule_states(table, items, starts, stops, scale, empty, states, routing, bilinear, iterations):
    """Dynamic routing into K_u capsules; see the head of the file."""
    heads, width = empty.shape
    history = routing.shape[1]
    x = np.empty((history, width), np.float32)
    capsules = np.empty((history, width), np.float32)
    logits = np.empty((history, heads), np.float32)
    for b in range(starts.shape[0]):
        count = stops[b] - starts[b]
        if count == 0:
            states[b] = empty
            continue
        bad = gather(table, items[starts[b] : stops[b]], scale, x)
        if bad >= 0:
            return starts[b] + bad
        capsules[:] = _ZERO
        for t in range(count):
            add_product(x[t], bilinear, capsules[t])
        route_all(capsules, count, routing, iterations, logits, states[b])
    return -1


@contracted
def route_all(capsules, count, routing, iterations, logits, out):
    """Set ``out`` (K_u, d) by ``iterations`` of routing ``count`` capsules; ``logits`` (H, K_u) is scratch."""
    for t in range(count):
        for k in range(out.shape[0]):
            logits[t, k] = routing[k, t]
    for iteration in range(iterations):
        route(logits, capsules, count, out)
        if iteration + 1 < iterations:
            for t in range(count):
                for k in range(out.shape[0]):
                    logits[t, k] += dot(out[k], capsules[t])


def memory_capsule(spec: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Return the mapped events (H, d)."""
    return (np.zeros((int(spec["history"]), int(spec["width"])), np.float32),)


@contracted
def remember_capsule(table, items, first, scale, capsules, routing, bilinear, iterations):
    """The bilinear map of every event; routing looks at all events and is left to ``recall_capsule``."""
    x = np.empty((1, table.shape[1]), np.float32)
    for event in range(items.shape[0]):
        if gather(table, items[event : event + 1], scale, x) >= 0:
            return event
        capsules[first + event] = _ZERO
        add_product(x[0], bilinear, capsules[first + event])
    return -1


@contracted
def recall_capsule(count, states, capsules, routing, bilinear, iterations):
    """All iterations of routing."""
    logits = np.empty((count, states.shape[0]), np.float32)
    route_all(capsules, count, routing, iterations, logits, states)


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
