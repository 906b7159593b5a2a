"""Random all-to-all scorers and the literal formula they are checked against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcode.query.rescore.mixture import mixture_shapes
from sparcode.query.rescore.rescorer import Rescorer


def random_rescorer(
    kind: str, *, layers: int = 1, item_tokens: int = 2, hidden: int = 5, width: int = 12, items: int = 37,
    skip: bool = True, activation: str = "none", bias: float | None = None, seed: int = 0,
) -> tuple[Rescorer, dict[str, Any], dict[str, np.ndarray]]:  # fmt: skip
    """Return a rescorer with its spec and arrays."""
    rng = np.random.default_rng(seed)
    perceptron, mixture = kind in ("hadamard", "concatenation"), kind == "mixture"
    spec = {
        "kind": kind, "hidden": hidden if perceptron or mixture else 0, "layers": layers if perceptron else 0,
        "skip": skip, "temperature": 0.2, "item_tokens": item_tokens, "width": width, "items": items, "bias": bias,
        "activation": activation,
    }  # fmt: skip
    if mixture:
        spec |= {"query_components": 3, "item_components": 2}
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
    if mixture:
        # Half the size: with the full one a single logit would take the whole gate.
        arrays |= {name: 0.5 * rng.normal(size=shape) for name, shape in mixture_shapes(spec).items()}
    stored = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return Rescorer(spec, stored), spec, stored


def literal(spec: dict[str, Any], arrays: dict[str, np.ndarray], token: np.ndarray, item: int) -> float:
    """S(t, c) written out from the equations, in float64."""
    t, tokens = token.astype(np.float64), arrays["item_tokens"][item].astype(np.float64)
    score = float(arrays["item_bias"][item])
    perceptron = spec["kind"] in ("hadamard", "concatenation")
    if spec["skip"] or spec["kind"] in ("dot", "counts"):
        score += sum(float(t @ c) for c in tokens) / (spec["temperature"] * spec["item_tokens"])
    if spec["kind"] == "mixture":
        return score + literal_mixture(spec, arrays, t, np.concatenate(tokens))
    if not perceptron:
        return score
    parts = [t * c for c in tokens] if spec["kind"] == "hadamard" else [t, *tokens]
    x = math.sqrt(spec["width"]) * np.concatenate(parts)
    for layer in range(spec["layers"]):
        x = np.maximum(arrays[f"mlp.{layer}.weight"] @ x + arrays[f"mlp.{layer}.bias"], 0)
    return score + float(arrays["mlp.out.weight"] @ x + arrays["mlp.out.bias"])


def literal_mixture(spec: dict[str, Any], arrays: dict[str, np.ndarray], t: np.ndarray, item: np.ndarray) -> float:
    """The gated sum of the logits of a token (d,) and an item's tokens in a row (K_c d,), one logit at a time."""
    parts = {name.removeprefix("mixture."): array.astype(np.float64) for name, array in arrays.items()}
    logits = []
    for query_map in parts["query.maps"]:
        for item_map in parts["item.maps"]:
            q, e = query_map @ t, item_map @ item
            logits.append(q @ e / (np.linalg.norm(q) * np.linalg.norm(e) * spec["temperature"]))
    hidden = np.maximum(parts["hidden.weight"] @ logits + parts["hidden.bias"], 0)
    gates = parts["query.gate"] @ t + parts["item.gate"] @ item + parts["out.weight"] @ hidden + parts["out.bias"]
    shares = np.exp(gates - gates.max())
    return float(parts["scale"][0] * (shares @ logits) / shares.sum())


SETTINGS = [
    ("hadamard", 1, 1), ("hadamard", 1, 3), ("hadamard", 2, 2), ("hadamard", 3, 1),
    ("concatenation", 1, 2), ("concatenation", 2, 1), ("mixture", 1, 1), ("mixture", 1, 3),
    ("dot", 0, 2), ("counts", 0, 1),
]  # fmt: skip
"""kind, layers, item tokens"""
