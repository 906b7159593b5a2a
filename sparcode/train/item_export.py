"""A trained item autoencoder as arrays that need no torch."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from sparcode.model.item_autoencoder import ItemAutoencoder, Mlp
from sparcode.quantize.normalize import Normalizer


def export_arrays(model: ItemAutoencoder, normalizer: Normalizer) -> dict[str, np.ndarray]:
    """Return what encoding and decoding need, float32; weights (in, out), projections folded into their neighbours.

    Names: mean, scale, encoder.I.weight, encoder.I.bias, decoder.I.weight, decoder.I.bias, codebook.L, skip.
    """
    arrays = {"mean": normalizer.mean, "scale": normalizer.scale}
    for name, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        for number, (weight, bias) in enumerate(folded_layers(network)):
            arrays |= {f"{name}.{number}.weight": weight, f"{name}.{number}.bias": bias}
    for number, book in enumerate(model.codebooks):
        arrays[f"codebook.{number}"] = _numpy(book.words)
    if model.skip is not None:
        arrays["skip"] = _numpy(model.skip)
    return arrays


def folded_layers(network: Mlp) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (in, out) weights and biases of linear layers that have a ReLU between any two of them."""
    result: list[tuple[np.ndarray, np.ndarray]] = []
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, nn.Linear)
        weight, bias = _numpy(layer.weight).T.astype(np.float64), _numpy(layer.bias).astype(np.float64)
        if number > 0 and network.projections[number - 1]:
            before, shift = result.pop()
            weight, bias = before @ weight, shift @ weight + bias
        result.append((weight, bias))
    return [(np.ascontiguousarray(w, np.float32), b.astype(np.float32)) for w, b in result]


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32)
