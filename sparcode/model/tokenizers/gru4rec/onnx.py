"""GRU4Rec as a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.model.tokenizers.graph import Arrays, Events, Graph


def states(graph: Graph, events: Events, own: dict[str, Any], part: Arrays) -> str:
    """Return the states (B, S, d) of the newest event, S = K_u for interests, else 1."""
    width = int(own["width"])
    rows = graph("Transpose", events.x, perm=[1, 0, 2])
    lengths = graph("Cast", graph("Max", "lengths", np.int64(1)), to=6)
    last = ""
    for layer in range(int(own["blocks"])):
        weights = [_gates(part[f"gru.{name}_l{layer}"], width)[None] for name in ("weight_ih", "weight_hh")]
        biases = [_gates(part[f"gru.{name}_l{layer}"], width) for name in ("bias_ih", "bias_hh")]
        # linear_before_reset: r times (U h + b), as torch has it.
        every, last = graph(
            "GRU", rows, *weights, np.concatenate(biases)[None], lengths,
            outputs=2, hidden_size=width, linear_before_reset=1,
        )  # fmt: skip
        rows = graph("Squeeze", every, graph.axes(1))
    return str(graph("Transpose", last, perm=[1, 0, 2]))


def _gates(array: np.ndarray, width: int) -> np.ndarray:
    """Reorder torch's gates r, z, n to z, r, n, which ONNX calls z, r, h."""
    reset, update, new = array[:width], array[width : 2 * width], array[2 * width :]
    return np.concatenate([update, reset, new])
