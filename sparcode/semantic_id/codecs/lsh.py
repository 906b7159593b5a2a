"""Locality-sensitive hashing: every digit packs the signs of some random projections. Only the mean is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparcode.errors import ConfigError
from sparcode.quantize import hashing
from sparcode.quantize.hashing import Hashing
from sparcode.semantic_id.codec import BaseCodec, FitContext, digit_sizes, take_options


class SignHashes(BaseCodec):
    """Signs of projections; decoded by the linear map that fits the training vectors best."""

    kind = "lsh"

    def __init__(self, fitted: Hashing, options: Mapping[str, Any]) -> None:
        bits, width = sum(fitted.bits), len(fitted.mean)
        if fitted.planes.shape != (width, bits) or fitted.decoder.shape != (bits, width):
            raise ValueError(f"planes {fitted.planes.shape} and decoder {fitted.decoder.shape} for {bits} bits")
        self.fitted, self.sizes, self.width = fitted, tuple(1 << b for b in fitted.bits), width
        self.options = dict(options)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32 of vectors (n, d); a row's code depends on that row alone."""
        return hashing.encode(self.checked_vectors(vectors), self.fitted)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 that the signs predict."""
        return hashing.decode(self.checked_codes(codes), self.fitted)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return mean, planes and decoder."""
        return {"mean": self.fitted.mean, "planes": self.fitted.planes, "decoder": self.fitted.decoder}


def fit(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> SignHashes:
    """Draw the planes; ConfigError unless every ``codebook_size`` is a power of two."""
    taken = take_options("lsh", options, codebooks=4, codebook_size=256)
    sizes = digit_sizes(taken["codebooks"], taken["codebook_size"])
    if any(size & (size - 1) for size in sizes):
        raise ConfigError(f"lsh: codebook_size={taken['codebook_size']!r}: powers of two expected, a digit packs bits")
    return SignHashes(hashing.fit(vectors, sizes, seed), {})


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> SignHashes:
    """Open a fitted codec."""
    bits = tuple(int(size).bit_length() - 1 for size in spec["sizes"])
    return SignHashes(Hashing(arrays["mean"], arrays["planes"], arrays["decoder"], bits), spec["options"])
