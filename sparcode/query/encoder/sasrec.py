"""SASRec for the last position only.

All blocks but the last run over the whole history. In the last block only the newest event asks, so keys and
values of the others are never formed: with r = W_k' q the logits are r . LN(x_t) (the key bias shifts all
logits alike and drops out), and the values follow once from the weighted mean of LN(x_t), because the weights
sum to one. That is O(L d + d^2) in place of O(L d^2), exactly the same function.

``remember`` and ``recall`` do the same event by event. Position 0 is the oldest event of the window, so as long as the
window is not full one more event moves no other: keys and values of the earlier blocks and LN(x_t) of the last one stay
what they are. A full window drops its oldest event, all others move, and nothing can be kept.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcode.arithmetic import (
    add_product,
    add_products,
    affine,
    affine_relu,
    affine_rows,
    dot,
    gather,
    layer_norm,
    softmax_in_place,
)
from sparcode.index.arrays import Arrays
from sparcode.jit import contracted

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
        # With one block, what is for the blocks before the last is not even compiled.
        True if len(blocks) > 1 else None,
    )


_NORMS = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")


def _stack(parts: Any) -> np.ndarray:
    return np.array(parts, dtype=np.float32, order="C")


@contracted
def sasrec_states(
    table, items, starts, stops, scale, empty, states,
    positions, norms, matrices, biases, inner, inner_bias, outer, outer_bias, final, heads, epsilon, deep,
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
            for i in range(width):
                states[b, 0, i] = empty[0, i]
            continue
        bad = gather(table, items[starts[b] : stops[b]], scale, x)
        if bad >= 0:
            return starts[b] + bad
        for t in range(count):
            for i in range(width):
                x[t, i] += positions[t, i]
        if deep is not None:
            for m in range(last):
                full_attention(
                    x[:count], y[:count], queries[:count], keys, values[:count], mixed[:count], norms[m], matrices[m],
                    biases[m], heads, epsilon,
                )  # fmt: skip
                feed_forward_rows(
                    x[:count], norms[m], inner[m], inner_bias[m], outer[m], outer_bias[m], epsilon, hiddens[:count],
                    y[:count],
                )  # fmt: skip
        for t in range(count):
            layer_norm(x[t], norms[last, 0], norms[last, 1], epsilon, y[t])
        last_block(
            x[count - 1], y[:count], norms[last], matrices[last], biases[last], inner[last], inner_bias[last],
            outer[last], outer_bias[last], final, heads, epsilon, hidden, states[b, 0],
        )  # fmt: skip
    return -1


def memory(spec: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Return what ``remember`` fills: LN(x_t) of the last block (H, d), x of the newest event (1, d), and keys
    (B - 1, d, H) and values (B - 1, H, d) of the blocks before the last, float32."""
    history, width, before = int(spec["history"]), int(spec["width"]), int(spec["blocks"]) - 1
    shapes = ((history, width), (1, width), (before, width, history), (before, history, width))
    return tuple(np.zeros(shape, np.float32) for shape in shapes)


@contracted
def remember(
    table, items, first, scale, normed, end, keys, values,
    positions, norms, matrices, biases, inner, inner_bias, outer, outer_bias, final, heads, epsilon, deep,
):  # fmt: skip
    """Add events ``items`` at positions ``first`` ...; return -1, or the index of an unknown item."""
    width, last = table.shape[1], norms.shape[0] - 1
    y, mixed = np.empty(width, np.float32), np.empty(width, np.float32)
    hidden = np.empty(inner.shape[2], np.float32)
    for event in range(items.shape[0]):
        t = first + event
        if gather(table, items[event : event + 1], scale, end) >= 0:
            return event
        for i in range(width):
            end[0, i] += positions[t, i]
        if deep is not None:
            for m in range(last):
                add_event(end[0], t, keys[m], values[m], norms[m], matrices[m], biases[m], heads, epsilon, y, mixed)
                feed_forward(end[0], norms[m], inner[m], inner_bias[m], outer[m], outer_bias[m], epsilon, hidden, y)
        layer_norm(end[0], norms[last, 0], norms[last, 1], epsilon, normed[t])
    return -1


@contracted
def recall(
    count, states, normed, end, keys, values,
    positions, norms, matrices, biases, inner, inner_bias, outer, outer_bias, final, heads, epsilon, deep,
):  # fmt: skip
    """Fill ``states`` (1, d) from the memory of ``count`` events."""
    last = norms.shape[0] - 1
    last_block(
        end[0].copy(), normed[:count], norms[last], matrices[last], biases[last], inner[last], inner_bias[last],
        outer[last], outer_bias[last], final, heads, epsilon, np.empty(inner.shape[2], np.float32), states[0],
    )  # fmt: skip


@contracted
def add_event(x, t, keys, values, norms, matrices, biases, heads, epsilon, y, mixed):
    """Add attention to event t, whose row is ``x``, as ``full_attention`` does; keep its key and value."""
    width = x.shape[0]
    size = width // heads
    query, weights = np.empty(width, np.float32), np.empty(t + 1, np.float32)
    layer_norm(x, norms[0], norms[1], epsilon, y)
    affine(y, matrices[KEY], biases[1], query)
    for i in range(width):
        keys[i, t] = query[i]
    affine(y, matrices[VALUE], biases[2], values[t])
    affine(y, matrices[QUERY], biases[0], query)
    attend(query, keys, values, weights, size, mixed)
    for i in range(width):
        x[i] += biases[3, i]
    add_product(mixed, matrices[OUT], x)


@contracted
def attend(query, keys, values, weights, size, mixed):
    """Set ``mixed`` (d,) to the values (>= T, d) of T events, weighted by ``keys`` (d, >= T); heads of ``size``.

    ``weights`` (T,) is scratch.
    """
    count = weights.shape[0]
    mixed[:] = np.float32(0.0)
    for low in range(0, query.shape[0], size):
        high = low + size
        weights[:] = np.float32(0.0)
        add_product(query[low:high], keys[low:high, :count], weights)
        softmax_in_place(weights, count)
        add_product(weights, values[:count, low:high], mixed[low:high])


@contracted
def last_block(
    x, y, norms, matrices, biases, inner, inner_bias, outer, outer_bias, final, heads, epsilon, hidden, state
):
    """Set ``state`` (d,) to the output for the newest event ``x`` (d,), which changes; ``y`` (T, d): LN of all."""
    last_attention(x, y, matrices, biases, heads)
    feed_forward(x, norms, inner, inner_bias, outer, outer_bias, epsilon, hidden, np.empty(x.shape[0], np.float32))
    layer_norm(x, final[0], final[1], epsilon, state)


@contracted
def feed_forward(x, norms, inner, inner_bias, outer, outer_bias, epsilon, hidden, normed):
    """Add ``relu(LN(x) @ inner + inner_bias) @ outer + outer_bias`` to ``x``."""
    layer_norm(x, norms[2], norms[3], epsilon, normed)
    affine_relu(normed, inner, inner_bias, hidden)
    for i in range(x.shape[0]):
        x[i] += outer_bias[i]
    add_product(hidden, outer, x)


@contracted
def last_attention(x, y, matrices, biases, heads):
    """Add attention to the newest event ``x`` (d,), see the head of the file; ``y`` (T, d): LN of all events."""
    count, width = y.shape
    size = width // heads
    query = np.empty(width, np.float32)
    mixed = np.empty(width, np.float32)
    request = np.empty(width, np.float32)
    mean = np.empty(width, np.float32)
    weights = np.empty(count, np.float32)
    affine(y[count - 1], matrices[QUERY], biases[0], query)
    for i in range(width):
        mixed[i] = biases[2, i]
    for h in range(heads):
        low, high = h * size, (h + 1) * size
        request[:] = np.float32(0.0)
        add_product(query[low:high], matrices[KEY_ROWS, low:high], request)
        for t in range(count):
            weights[t] = dot(request, y[t])
        softmax_in_place(weights, count)
        mean[:] = np.float32(0.0)
        add_product(weights, y, mean)
        add_product(mean, matrices[VALUE, :, low:high], mixed[low:high])
    for i in range(width):
        x[i] += biases[3, i]
    add_product(mixed, matrices[OUT], x)


@contracted
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
        attend(queries[t], keys, values, weights[: t + 1], size, mixed[t])
    for t in range(count):
        for i in range(width):
            x[t, i] += biases[3, i]
    add_products(mixed, matrices[OUT], x)


@contracted
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
