"""SASRec for the last position only.

All blocks but the last run over the whole history. In the last block only the newest event asks, so keys and
values of the others are never formed: with r = W_k' q the logits are r . LN(x_t) (the key bias shifts all
logits alike and drops out), and the values follow once from the weighted mean of LN(x_t), because the weights
sum to one. That is O(L d + d^2) in place of O(L d^2), exactly the same function.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcode.index.arrays import Arrays
from sparcode.index.encoder_math import (
    add_product,
    add_products,
    affine,
    affine_relu,
    affine_rows,
    dot,
    gather,
    kernel,
    layer_norm,
    softmax_in_place,
)

QUERY, KEY_ROWS, KEY, VALUE, OUT = range(5)


def prepare(spec: dict[str, Any], arrays: Arrays) -> tuple[Any, ...]:
    """Return the weight arguments of ``sasrec_states`` from a spec and arrays without their prefix."""
    width, heads = int(spec["width"]), int(spec["attention_heads"])
    scale = np.float32(1.0 / math.sqrt(width // heads))
    blocks = [f"blocks.{block}." for block in range(int(spec["blocks"]))]
    matrices, biases = [], []
    for block in blocks:
        query, key, value = arrays[block + "qkv.weight"].reshape(3, width, width)
        matrices.append([query.T * scale, key, key.T, value.T, arrays[block + "out.weight"].T])
        query_bias, key_bias, value_bias = arrays[block + "qkv.bias"].reshape(3, width)
        biases.append([query_bias * scale, key_bias, value_bias, arrays[block + "out.bias"]])
    norms = [[arrays[block + name] for name in _NORMS] for block in blocks]
    return (
        arrays["positions"],
        _stack(norms),
        _stack(matrices),
        _stack(biases),
        _stack([arrays[block + "inner.weight"].T for block in blocks]),
        _stack([arrays[block + "inner.bias"] for block in blocks]),
        _stack([arrays[block + "outer.weight"].T for block in blocks]),
        _stack([arrays[block + "outer.bias"] for block in blocks]),
        _stack([arrays["norm.weight"], arrays["norm.bias"]]),
        heads,
        np.float32(spec["epsilon"]),
    )


_NORMS = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")


def _stack(parts: Any) -> np.ndarray:
    return np.array(parts, dtype=np.float32, order="C")


@kernel
def sasrec_states(
    table, items, starts, stops, scale, empty, states,
    positions, norms, matrices, biases, inner, inner_bias, outer, outer_bias, final, heads, epsilon,
):  # fmt: skip
    """Fill ``states`` (B, 1, d) from histories ``items[starts[b]:stops[b]]``; -1, or the index of an unknown item."""
    width = table.shape[1]
    history = positions.shape[0]
    x = np.empty((history, width), np.float32)
    y = np.empty((history, width), np.float32)
    hidden = np.empty(inner.shape[2], np.float32)
    last = norms.shape[0] - 1
    longest = history if last > 0 else 0
    keys = np.empty((width, longest), np.float32)
    queries = np.empty((longest, width), np.float32)
    values = np.empty((longest, width), np.float32)
    mixed = np.empty((longest, width), np.float32)
    hiddens = np.empty((longest, inner.shape[2]), np.float32)
    for b in range(starts.shape[0]):
        count = stops[b] - starts[b]
        if count == 0:
            states[b, 0] = empty[0]
            continue
        bad = gather(table, items[starts[b] : stops[b]], scale, x)
        if bad >= 0:
            return starts[b] + bad
        for t in range(count):
            for i in range(width):
                x[t, i] += positions[t, i]
        for m in range(last):
            full_attention(
                x[:count], y[:count], queries[:count], keys, values[:count], mixed[:count], norms[m], matrices[m],
                biases[m], heads, epsilon,
            )  # fmt: skip
            feed_forward_rows(
                x[:count], norms[m], inner[m], inner_bias[m], outer[m], outer_bias[m], epsilon, hiddens[:count],
                y[:count],
            )  # fmt: skip
        last_attention(x, count, y, norms[last], matrices[last], biases[last], heads, epsilon)
        end = x[count - 1]
        feed_forward(
            end, norms[last], inner[last], inner_bias[last], outer[last], outer_bias[last], epsilon, hidden, y[0]
        )
        layer_norm(end, final[0], final[1], epsilon, states[b, 0])
    return -1


@kernel
def feed_forward(x, norms, inner, inner_bias, outer, outer_bias, epsilon, hidden, normed):
    """Add ``relu(LN(x) @ inner + inner_bias) @ outer + outer_bias`` to ``x``."""
    layer_norm(x, norms[2], norms[3], epsilon, normed)
    affine_relu(normed, inner, inner_bias, hidden)
    for i in range(x.shape[0]):
        x[i] += outer_bias[i]
    add_product(hidden, outer, x)


@kernel
def last_attention(x, count, y, norms, matrices, biases, heads, epsilon):
    """Add attention to ``x[count - 1]`` only, see the head of the file."""
    width = x.shape[1]
    size = width // heads
    query = np.empty(width, np.float32)
    mixed = np.empty(width, np.float32)
    request = np.empty(width, np.float32)
    mean = np.empty(width, np.float32)
    weights = np.empty(count, np.float32)
    for t in range(count):
        layer_norm(x[t], norms[0], norms[1], epsilon, y[t])
    affine(y[count - 1], matrices[QUERY], biases[0], query)
    mixed[:] = biases[2]
    for h in range(heads):
        low, high = h * size, (h + 1) * size
        request[:] = np.float32(0.0)
        add_product(query[low:high], matrices[KEY_ROWS, low:high], request)
        for t in range(count):
            weights[t] = dot(request, y[t])
        softmax_in_place(weights, count)
        mean[:] = np.float32(0.0)
        add_product(weights, y[:count], mean)
        add_product(mean, matrices[VALUE, :, low:high], mixed[low:high])
    end = x[count - 1]
    for i in range(width):
        end[i] += biases[3, i]
    add_product(mixed, matrices[OUT], end)


@kernel
def full_attention(x, y, queries, keys, values, mixed, norms, matrices, biases, heads, epsilon):
    """Add causal attention to every row of ``x`` (T, d); the rest is scratch: (T, d), ``keys`` (d, >= T)."""
    count, width = x.shape
    size = width // heads
    weights = np.empty(count, np.float32)
    for t in range(count):
        layer_norm(x[t], norms[0], norms[1], epsilon, y[t])
    affine_rows(y, matrices[KEY], biases[1], values)
    # Keys lie transposed, so that the logits of one query are a sum of rows, which vectorises over the events.
    for t in range(count):
        for i in range(width):
            keys[i, t] = values[t, i]
    affine_rows(y, matrices[VALUE], biases[2], values)
    affine_rows(y, matrices[QUERY], biases[0], queries)
    for t in range(count):
        mixed[t] = np.float32(0.0)
        for h in range(heads):
            low, high = h * size, (h + 1) * size
            weights[: t + 1] = np.float32(0.0)
            add_product(queries[t, low:high], keys[low:high, : t + 1], weights[: t + 1])
            softmax_in_place(weights, t + 1)
            add_product(weights[: t + 1], values[: t + 1, low:high], mixed[t, low:high])
    for t in range(count):
        for i in range(width):
            x[t, i] += biases[3, i]
    add_products(mixed, matrices[OUT], x)


@kernel
def feed_forward_rows(x, norms, inner, inner_bias, outer, outer_bias, epsilon, hidden, normed):
    """``feed_forward`` of every row of ``x`` (T, d)."""
    for t in range(x.shape[0]):
        layer_norm(x[t], norms[2], norms[3], epsilon, normed[t])
    affine_rows(normed, inner, inner_bias, hidden)
    for t in range(x.shape[0]):
        for j in range(hidden.shape[1]):
            hidden[t, j] = max(hidden[t, j], np.float32(0.0))
        for i in range(x.shape[1]):
            x[t, i] += outer_bias[i]
    add_products(hidden, outer, x)
