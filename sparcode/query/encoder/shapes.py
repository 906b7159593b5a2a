"""The shape of every array a tokenizer spec calls for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparcode.spec_values import count_of, number_of

Shapes = dict[str, tuple[int, ...]]

INTERESTS = ("self-attentive", "capsule")
"""Kinds that give K_u states themselves and have no head."""


def checked_sizes(own: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return width, heads, history and feature width of a tokenizer spec; ValueError or KeyError names a bad value.

    Every number that kernels take from the spec is checked, so that shapes compared with it can be trusted.
    """
    width, heads = count_of(own, "width", 1, 1 << 16), count_of(own, "heads", 1, 1 << 12)
    history, features = count_of(own, "history", 1, 1 << 16), count_of(own, "feature_width", 0)
    kind = own["kind"]
    if kind in ("sasrec", "gru4rec"):
        count_of(own, "blocks", 1, 256)
    if kind == "sasrec":
        if width % count_of(own, "attention_heads", 1, width):
            raise ValueError(
                f"attention_heads: {own['attention_heads']} found, expected a divisor of the width {width}"
            )
        number_of(own, "epsilon", 0.0, 1.0)
    if kind == "capsule":
        count_of(own, "iterations", 1, 1000)
    return width, heads, history, features


def tokenizer_shapes(own: Mapping[str, Any]) -> Shapes:
    """Return name (without "tokenizer.") -> shape for a tokenizer spec; KeyError for an unknown kind."""
    d, heads, history, kind = int(own["width"]), int(own["heads"]), int(own["history"]), own["kind"]
    shapes: Shapes = {"empty_state": (heads if kind in INTERESTS else 1, d)}
    if own["feature_width"]:
        shapes["features.weight"] = (d, int(own["feature_width"]))
    if kind not in INTERESTS:
        shapes |= {"head.weight": (heads * d, d), "head.bias": (heads * d,)}
    if kind == "sasrec":
        return shapes | _sasrec_shapes(d, history, int(own["blocks"]))
    if kind == "gru4rec":
        return shapes | _gru4rec_shapes(d, int(own["blocks"]))
    if kind == "dnn":
        return shapes | _dnn_shapes(d)
    if kind == "self-attentive":
        return shapes | {"positions": (history, d), "inner.weight": (4 * d, d), "attention.weight": (heads, 4 * d)}
    if kind == "capsule":
        return shapes | {"routing": (heads, history), "bilinear.weight": (d, d)}
    raise KeyError(f"tokenizer kind {kind!r}")


def _sasrec_shapes(d: int, history: int, blocks: int) -> Shapes:
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
    shapes: Shapes = {"positions": (history, d), "norm.weight": (d,), "norm.bias": (d,)}
    return shapes | {f"blocks.{b}.{name}": shape for b in range(blocks) for name, shape in block.items()}


def _gru4rec_shapes(d: int, layers: int) -> Shapes:
    parts: Shapes = {
        "weight_ih": (3 * d, d),
        "weight_hh": (3 * d, d),
        "bias_ih": (3 * d,),
        "bias_hh": (3 * d,),
    }
    return {f"gru.{name}_l{layer}": shape for layer in range(layers) for name, shape in parts.items()}


def _dnn_shapes(d: int) -> Shapes:
    sizes = (d, 2 * d, 2 * d, d)
    weights = {f"layers.{i}.weight": (sizes[i + 1], sizes[i]) for i in range(3)}
    biases = {f"layers.{i}.bias": (sizes[i + 1],) for i in range(3)}
    return {**weights, **biases}
