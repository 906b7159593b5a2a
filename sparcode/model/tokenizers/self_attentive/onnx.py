"""Self-attentive pooling as a graph."""

from __future__ import annotations

from typing import Any

from sparcode.model.tokenizers.graph import LOWEST, Arrays, Events, Graph


def states(graph: Graph, events: Events, own: dict[str, Any], part: Arrays) -> str:
    """Return the states (B, S, d) of the newest event, S = K_u for interests, else 1."""
    hidden = graph("Tanh", graph.linear(events.with_positions(part["positions"]), part["inner.weight"]))
    logits = graph("Transpose", graph.linear(hidden, part["attention.weight"]), perm=[0, 2, 1])
    weights = graph("Softmax", graph("Where", events.mask_of(1), logits, LOWEST), axis=-1)
    return str(graph("MatMul", weights, events.x))
