"""Capsule routing as a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.model.tokenizers.graph import Arrays, Events, Graph


def states(graph: Graph, events: Events, own: dict[str, Any], part: Arrays) -> str:
    """Return the states (B, S, d) of the newest event, S = K_u for interests, else 1."""
    capsules = graph.linear(events.x, part["bilinear.weight"])
    turned = graph("Transpose", capsules, perm=[0, 2, 1])
    stop = graph("Unsqueeze", events.length, graph.axes(0))
    logits = graph("Slice", part["routing"][None], graph.axes(0), stop, graph.axes(2))
    out = ""
    for iteration in range(int(own["iterations"])):
        if iteration:
            logits = graph("Add", logits, graph("MatMul", out, turned))
        weights = graph("Where", events.mask_of(1), graph("Softmax", logits, axis=1), np.float32(0))
        out = _squashed(graph, graph("MatMul", weights, capsules))
    return out


def _squashed(graph: Graph, x: str) -> str:
    square = graph("ReduceSum", graph("Mul", x, x), graph.axes(-1), keepdims=1)
    length = graph("Sqrt", graph("Add", square, np.float32(1e-9)))
    return str(graph("Mul", x, graph("Div", graph("Div", square, graph("Add", square, np.float32(1))), length)))
