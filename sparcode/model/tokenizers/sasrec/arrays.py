"""SASRec for the last position only.

All blocks but the last run over the whole history. In the last block only the newest event asks, so keys and
values of the others are never formed: with r = W_k' q the logits are r . LN(x_t) (the key bias shifts all
logits alike and drops out), and the values follow once from the weighted mean of LN(x_t), because the weights
sum to one. That is O(L d + d^2) in place of O(L d^2), exactly the same function.

Position 0 is the oldest event of the window, so as long as the window is not full one more event moves no other: keys
and values of the earlier blocks and LN(x_t) of the last one stay what they are. A full window drops its oldest event,
all others move, and nothing can be kept.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparcode.arithmetic import (
    add_product,
    add_products,
    affine,
    affine_relu,
    affine_rows,
    dot,
    layer_norm,
    softmax_in_place,
)
from sparcode.jit import contracted
from sparcode.model.tokenizers.arrays import Shapes, gather, stacked
from sparcode.spec_values import count_of, number_of

INTERESTS = False
QUERY, KEY_ROWS, KEY, VALUE, OUT = range(5)
_ZERO = np.float32(0.0)
_NORMS = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")


class Blocks(NamedTuple):
    """Weights of a block, of all blocks with one axis more in front; float32.

    ``norms`` (4, d): gains and offsets of both norms; ``matrices`` (5, d, d) and ``biases`` (4, d) of attention;
    ``inner`` (d, 2 d), ``inner_bias`` (2 d,), ``outer`` (2 d, d), ``outer_bias`` (d,) of the feed-forward layer.
    """

    norms: np.ndarray
    matrices: np.ndarray
    biases: np.ndarray
    inner: np.ndarray
    inner_bias: np.ndarray
    outer: np.ndarray
    outer_bias: np.ndarray


class Weights(NamedTuple):
    """``positions`` (H, d), ``blocks``, ``final`` (2, d) gain and offset of the last norm, attention ``heads``.

    ``deep``: True, or None with one block: what is for the blocks before the last is then not even compiled.
    """

    positions: np.ndarray
    blocks: Blocks
    final: np.ndarray
    heads: int
    epsilon: np.float32
    deep: bool | None


class Memory(NamedTuple):
    """LN(x_t) of the last block ``normed`` (H, d), x of the newest event ``newest`` (1, d), and ``keys`` (B - 1, d, H)
    and ``values`` (B - 1, H, d) of the blocks before the last, float32."""

    normed: np.ndarray
    newest: np.ndarray
    keys: np.ndarray
    values: np.ndarray


def check(own: Mapping[str, Any]) -> None:
    """Raise KeyError or ValueError for a spec whose numbers cannot be."""
    width = int(own["width"])
    count_of(own, "blocks", 1, 256)
    if width % count_of(own, "attention_heads", 1, width):
        raise ValueError(f"attention_heads: {own['attention_heads']} found, expected a divisor of the width {width}")
    number_of(own, "epsilon", 0.0, 1.0)


def shapes(own: Mapping[str, Any]) -> Shapes:
    """Return the shapes of the kind's own arrays."""
    d, history, blocks = int(own["width"]), int(own["history"]), int(own["blocks"])
    block: Shapes = {
        "norm1.weight": (d,),
        "norm1.bias": (d,),
        "qkv.weight": (3 * d, d),
        "qkv.bias": (3 * d,),
        "out.weight": (d, d),
        "out.bias": (d,),
        "norm2.weight": (d,),
        "norm2.bias": (d,),
        "inner.weight": (2 * d, d),
        "inner.bias": (2 * d,),
        "outer.weight": (d, 2 * d),
        "outer.bias": (d,),
    }
    every: Shapes = {"positions": (history, d), "norm.weight": (d,), "norm.bias": (d,)}
    return every | {f"blocks.{b}.{name}": shape for b in range(blocks) for name, shape in block.items()}


def prepare(own: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Weights:
    """Return the weights from a spec and arrays without their prefix."""
    width, heads = int(own["width"]), int(own["attention_heads"])
    scale = np.float32(1.0 / math.sqrt(width // heads))
    blocks = [f"blocks.{block}." for block in range(int(own["blocks"]))]
    matrices, biases = [], []
    for block in blocks:
        query, key, value = arrays[block + "qkv.weight"].reshape(3, width, width)
        matrices.append([query.T * scale, key, key.T, value.T, arrays[block + "out.weight"].T])
        query_bias, key_bias, value_bias = arrays[block + "qkv.bias"].reshape(3, width)
        biases.append([query_bias * scale, key_bias, value_bias, arrays[block + "out.bias"]])
    every = Blocks(
        stacked([[arrays[block + name] for name in _NORMS] for block in blocks]),
        stacked(matrices),
        stacked(biases),
        stacked([arrays[block + "inner.weight"].T for block in blocks]),
        stacked([arrays[block + "inner.bias"] for block in blocks]),
        stacked([arrays[block + "outer.weight"].T for block in blocks]),
        stacked([arrays[block + "outer.bias"] for block in blocks]),
    )
    final, deep = stacked([arrays["norm.weight"], arrays["norm.bias"]]), True if len(blocks) > 1 else None
    return Weights(arrays["positions"], every, final, heads, np.float32(own["epsilon"]), deep)


def memory(own: Mapping[str, Any]) -> Memory:
    """Return the memory of a user without events."""
    history, width, before = int(own["history"]), int(own["width"]), int(own["blocks"]) - 1
    sizes = ((history, width), (1, width), (before, width, history), (before, history, width))
    return Memory(*(np.zeros(size, np.float32) for size in sizes))


@contracted
def remember(inputs, items, first, weights, memory):
    """Take events through all blocks, as far as they do not wait for later ones; see ``tokenizers.arrays``."""
    count, width = items.shape[0], inputs.table.shape[1]
    last = weights.blocks.norms.shape[0] - 1
    x = np.empty((count, width), np.float32)
    bad = gather(inputs, items, x)
    if bad >= 0:
        return bad
    for t in range(count):
        for i in range(width):
            x[t, i] += weights.positions[first + t, i]
    before_last(x, first, weights, weights.deep, memory)
    for t in range(count):
        layer_norm(
            x[t], weights.blocks.norms[last, 0], weights.blocks.norms[last, 1], weights.epsilon,
            memory.normed[first + t],
        )  # fmt: skip
    for i in range(width):
        memory.newest[0, i] = x[count - 1, i]
    return -1


@contracted
def before_last(x, first, weights, deep, memory):
    """Take rows ``x`` (T, d) at positions ``first`` ... through the blocks before the last."""
    if deep is not None:
        for m in range(weights.blocks.norms.shape[0] - 1):
            block = block_of(weights.blocks, m)
            full_attention(x, first, block, weights.heads, weights.epsilon, memory.keys[m], memory.values[m])
            feed_forward_rows(x, block, weights.epsilon)


@contracted
def block_of(blocks, m):
    """Return the weights of block m."""
    return Blocks(
        blocks.norms[m], blocks.matrices[m], blocks.biases[m], blocks.inner[m], blocks.inner_bias[m], blocks.outer[m],
        blocks.outer_bias[m],
    )  # fmt: skip


@contracted
def full_attention(x, first, block, heads, epsilon, keys, values):
    """Add causal attention to every row of ``x`` (T, d); keep their keys (d, H) and values (H, d)."""
    count, width = x.shape
    stop, size = first + count, width // heads
    y, queries = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
    mixed, weights = np.empty((count, width), np.float32), np.empty(stop, np.float32)
    for t in range(count):
        layer_norm(x[t], block.norms[0], block.norms[1], epsilon, y[t])
    affine_rows(y, block.matrices[KEY], block.biases[1], queries)
    # Keys lie transposed, so that the logits of one query are a sum of rows, which vectorises over the events.
    for t in range(count):
        for i in range(width):
            keys[i, first + t] = queries[t, i]
    affine_rows(y, block.matrices[VALUE], block.biases[2], values[first:stop])
    affine_rows(y, block.matrices[QUERY], block.biases[0], queries)
    for t in range(count):
        attend(queries[t], keys, values, weights[: first + t + 1], size, mixed[t])
    for t in range(count):
        for i in range(width):
            x[t, i] += block.biases[3, i]
    add_products(mixed, block.matrices[OUT], x)


@contracted
def attend(query, keys, values, weights, size, mixed):
    """Set ``mixed`` (d,) to the values (>= T, d) of T events, weighted by ``keys`` (d, >= T); heads of ``size``.

    ``weights`` (T,) is scratch.
    """
    count = weights.shape[0]
    mixed[:] = _ZERO
    for low in range(0, query.shape[0], size):
        high = low + size
        weights[:] = _ZERO
        add_product(query[low:high], keys[low:high, :count], weights)
        softmax_in_place(weights, count)
        add_product(weights, values[:count, low:high], mixed[low:high])


@contracted
def feed_forward_rows(x, block, epsilon):
    """Add ``relu(LN(x) @ inner + inner_bias) @ outer + outer_bias`` to every row of ``x`` (T, d)."""
    normed = np.empty(x.shape, np.float32)
    hidden = np.empty((x.shape[0], block.inner.shape[1]), np.float32)
    for t in range(x.shape[0]):
        layer_norm(x[t], block.norms[2], block.norms[3], epsilon, normed[t])
    affine_rows(normed, block.inner, block.inner_bias, hidden)
    for t in range(x.shape[0]):
        for j in range(hidden.shape[1]):
            hidden[t, j] = max(hidden[t, j], _ZERO)
        for i in range(x.shape[1]):
            x[t, i] += block.outer_bias[i]
    add_products(hidden, block.outer, x)


@contracted
def recall(count, weights, memory, states):
    """The output of the last block for the newest event."""
    x, block = memory.newest[0].copy(), block_of(weights.blocks, weights.blocks.norms.shape[0] - 1)
    last_attention(x, memory.normed[:count], block, weights.heads)
    normed, hidden = np.empty(x.shape[0], np.float32), np.empty(block.inner.shape[1], np.float32)
    layer_norm(x, block.norms[2], block.norms[3], weights.epsilon, normed)
    affine_relu(normed, block.inner, block.inner_bias, hidden)
    for i in range(x.shape[0]):
        x[i] += block.outer_bias[i]
    add_product(hidden, block.outer, x)
    layer_norm(x, weights.final[0], weights.final[1], weights.epsilon, states[0])


@contracted
def last_attention(x, y, block, heads):
    """Add attention to the newest event ``x`` (d,), see the head of the file; ``y`` (T, d): LN of all events."""
    count, width = y.shape
    size, matrices = width // heads, block.matrices
    query = np.empty(width, np.float32)
    mixed = np.empty(width, np.float32)
    request = np.empty(width, np.float32)
    mean = np.empty(width, np.float32)
    weights = np.empty(count, np.float32)
    affine(y[count - 1], matrices[QUERY], block.biases[0], query)
    for i in range(width):
        mixed[i] = block.biases[2, i]
    for h in range(heads):
        low, high = h * size, (h + 1) * size
        request[:] = _ZERO
        add_product(query[low:high], matrices[KEY_ROWS, low:high], request)
        for t in range(count):
            weights[t] = dot(request, y[t])
        softmax_in_place(weights, count)
        mean[:] = _ZERO
        add_product(weights, y, mean)
        add_product(mean, matrices[VALUE, :, low:high], mixed[low:high])
    for i in range(width):
        x[i] += block.biases[3, i]
    add_product(mixed, matrices[OUT], x)
