"""The mean-pooled DNN as a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.model.tokenizers.graph import Arrays, Events, Graph


def states(graph: Graph, events: Events, own: dict[str, Any], part: Arrays) -> str:
    """Return the states (B, S, d) of the newest event, S = K_u for interests, else 1."""
    total = graph("ReduceSum", events.x, graph.axes(1), keepdims=1)
    count = graph("Cast", graph("Max", "lengths", np.int64(1)), to=1)
    x = graph("Div", total, graph("Unsqueeze", count, graph.axes(1, 2)))
    for number in range(3):
        x = graph.linear(x, part[f"layers.{number}.weight"], part[f"layers.{number}.bias"])
        x = graph("Relu", x) if number < 2 else x
    return str(x)
