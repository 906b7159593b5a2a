"""Random all-to-all scorers and the literal formula they are checked against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcode.index.rescorer import Rescorer


def random_rescorer(
    kind: str, *, layers: int = 1, item_tokens: int = 2, hidden: int = 5, width: int = 12, items: int = 37,
    skip: bool = True, activation: str = "none", bias: float | None = None, seed: int = 0,
) -> tuple[Rescorer, dict[str, Any], dict[str, np.ndarray]]:  # fmt: skip
    """Return a rescorer with its spec and arrays."""
    rng = np.random.default_rng(seed)
    perceptron = kind in ("hadamard", "concatenation")
    spec = {
        "kind": kind, "hidden": hidden if perceptron else 0, "layers": layers if perceptron else 0, "skip": skip,
        "temperature": 0.2, "item_tokens": item_tokens, "width": width, "items": items, "bias": bias,
        "activation": activation,
    }  # fmt: skip
    tokens = rng.normal(size=(items, item_tokens, width))
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    arrays = {"item_tokens": tokens, "item_bias": rng.normal(size=items)}
    if perceptron:
        inputs = item_tokens * width + (width if kind == "concatenation" else 0)
        arrays |= {"mlp.0.weight": rng.normal(size=(hidden, inputs)), "mlp.0.bias": rng.normal(size=hidden)}
        for layer in range(1, layers):
            arrays[f"mlp.{layer}.weight"] = rng.normal(size=(hidden, hidden))
            arrays[f"mlp.{layer}.bias"] = rng.normal(size=hidden)
        arrays |= {"mlp.out.weight": rng.normal(size=hidden), "mlp.out.bias": rng.normal(size=())}
    stored = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return Rescorer(spec, stored), spec, stored


def literal(spec: dict[str, Any], arrays: dict[str, np.ndarray], token: np.ndarray, item: int) -> float:
    """S(t, c) written out from the equations, in float64."""
    t, tokens = token.astype(np.float64), arrays["item_tokens"][item].astype(np.float64)
    score = float(arrays["item_bias"][item])
    perceptron = spec["kind"] in ("hadamard", "concatenation")
    if spec["skip"] or not perceptron:
        score += sum(float(t @ c) for c in tokens) / (spec["temperature"] * spec["item_tokens"])
    if not perceptron:
        return score
    parts = [t * c for c in tokens] if spec["kind"] == "hadamard" else [t, *tokens]
    x = math.sqrt(spec["width"]) * np.concatenate(parts)
    for layer in range(spec["layers"]):
        x = np.maximum(arrays[f"mlp.{layer}.weight"] @ x + arrays[f"mlp.{layer}.bias"], 0)
    return score + float(arrays["mlp.out.weight"] @ x + arrays["mlp.out.bias"])


SETTINGS = [
    ("hadamard", 1, 1), ("hadamard", 1, 3), ("hadamard", 2, 2), ("hadamard", 3, 1),
    ("concatenation", 1, 2), ("concatenation", 2, 1), ("dot", 0, 2), ("counts", 0, 1),
]  # fmt: skip
"""kind, layers, item tokens"""
