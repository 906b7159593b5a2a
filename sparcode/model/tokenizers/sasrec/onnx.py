"""SASRec as a graph; the formulas are those of ``arrays``, whose file says more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcode.model.tokenizers.graph import LOWEST, Arrays, Events, Graph


def states(graph: Graph, events: Events, own: dict[str, Any], part: Arrays) -> str:
    """Return the states (B, S, d) of the newest event, S = K_u for interests, else 1."""
    x = events.with_positions(part["positions"])
    blocks = int(own["blocks"])
    for number in range(blocks):
        block = {name.removeprefix(f"blocks.{number}."): array for name, array in part.items()}
        y = _layer_norm(graph, x, block["norm1.weight"], block["norm1.bias"], own)
        asking, seen = y, _causal(graph, events)
        if number + 1 == blocks:
            x, asking, seen = events.newest(x), events.newest(y), events.mask_of(1)
        x = graph("Add", x, _attention(graph, asking, y, seen, own, block))
        y = _layer_norm(graph, x, block["norm2.weight"], block["norm2.bias"], own)
        hidden = graph("Relu", graph.linear(y, block["inner.weight"], block["inner.bias"]))
        x = graph("Add", x, graph.linear(hidden, block["outer.weight"], block["outer.bias"]))
    return _layer_norm(graph, x, part["norm.weight"], part["norm.bias"], own)


def _layer_norm(graph: Graph, x: str, gain: np.ndarray, offset: np.ndarray, own: dict[str, Any]) -> str:
    return str(graph("LayerNormalization", x, gain, offset, axis=-1, epsilon=float(own["epsilon"])))


def _causal(graph: Graph, events: Events) -> str:
    """Return (1, L, L) bool: event s (column) is not after position t (row)."""
    places = graph("Range", np.int64(0), events.length, np.int64(1))
    row, column = (graph("Unsqueeze", places, graph.axes(axis)) for axis in (0, 1))
    return str(graph("Unsqueeze", graph("LessOrEqual", row, column), graph.axes(0)))


def _attention(graph: Graph, asking: str, y: str, seen: str, own: dict[str, Any], block: Arrays) -> str:
    """Return attention (B, Q, d) of rows ``asking`` (B, Q, d) over ``y`` (B, L, d) where ``seen`` (., Q or 1, L)."""
    heads, width = int(own["attention_heads"]), int(own["width"])
    split = graph.axes(0, -1, heads, width // heads)

    def part_of(rows: str, number: int, order: list[int]) -> str:
        weight = block["qkv.weight"].reshape(3, width, width)[number]
        own_part = graph.linear(rows, weight, block["qkv.bias"].reshape(3, width)[number])
        return str(graph("Transpose", graph("Reshape", own_part, split), perm=order))

    query, value = part_of(asking, 0, [0, 2, 1, 3]), part_of(y, 2, [0, 2, 1, 3])
    logits = graph("MatMul", query, part_of(y, 1, [0, 2, 3, 1]))  # (B, heads, Q, L)
    logits = graph("Mul", logits, np.float32(1 / math.sqrt(width // heads)))
    logits = graph("Where", graph("Unsqueeze", seen, graph.axes(1)), logits, LOWEST)
    mixed = graph("MatMul", graph("Softmax", logits, axis=-1), value)
    joined = graph("Reshape", graph("Transpose", mixed, perm=[0, 2, 1, 3]), graph.axes(0, -1, width))
    return graph.linear(joined, block["out.weight"], block["out.bias"])
