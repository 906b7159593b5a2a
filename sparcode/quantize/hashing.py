"""Locality-sensitive hashing: signs of random projections, packed into digits (Charikar 2002)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparcode.quantize.rotation import mapped
from sparcode.seeding import generator


@dataclass(frozen=True)
class Hashing:
    """``mean`` (d,), ``planes`` (d, bits), ``decoder`` (bits, d) float32; ``bits`` of every digit."""

    mean: np.ndarray
    planes: np.ndarray
    decoder: np.ndarray
    bits: tuple[int, ...]


def fit(vectors: np.ndarray, sizes: Sequence[int], seed: int) -> Hashing:
    """Draw planes through the mean of ``vectors`` (n, d); sizes[l], a power of two, is the number of digits l can be.

    Vectors are decoded by the least-squares map of the signs (-1, 1) to what lies off the mean. ValueError for other
    sizes.
    """
    bits = tuple(int(size).bit_length() - 1 for size in sizes)
    if any(size < 2 or 1 << b != size for size, b in zip(sizes, bits, strict=True)):
        raise ValueError(f"{list(sizes)}: hashing needs powers of two")
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    planes = generator(seed, "hashing").standard_normal((vectors.shape[1], sum(bits))).astype(np.float32)
    return Hashing(mean, planes, _decoder(vectors, mean, planes), bits)


def _decoder(vectors: np.ndarray, mean: np.ndarray, planes: np.ndarray) -> np.ndarray:
    width, bits = planes.shape
    together, sums = np.zeros((bits, bits)), np.zeros((bits, width))
    for start in range(0, len(vectors), 8192):
        rows = vectors[start : start + 8192]
        signs = np.where(mapped(rows, planes, mean) > 0, 1.0, -1.0)
        together += signs.T @ signs
        sums += signs.T @ (rows - mean.astype(np.float64))
    # A bit in a million of ridge: planes more than dimensions make dependent signs.
    return np.linalg.solve(together + 1e-6 * len(vectors) * np.eye(bits), sums).astype(np.float32)


def encode(vectors: np.ndarray, fitted: Hashing) -> np.ndarray:
    """Return codes (n, L) int32: bit j of a digit, from the highest, is 1 above plane j; each row on its own."""
    above = mapped(vectors, fitted.planes, fitted.mean) > 0
    parts = np.split(above, np.cumsum(fitted.bits)[:-1], axis=1)
    return np.stack([part @ (1 << np.arange(part.shape[1])[::-1]) for part in parts], axis=1).astype(np.int32)


def decode(codes: np.ndarray, fitted: Hashing) -> np.ndarray:
    """Return the vectors (n, d) float32 that codes (n, L) stand for."""
    columns = [
        column[:, None] >> np.arange(b)[::-1] & 1 for column, b in zip(np.asarray(codes).T, fitted.bits, strict=True)
    ]
    signs = np.where(np.concatenate(columns, axis=1) > 0, np.float32(1.0), np.float32(-1.0))
    return mapped(signs, fitted.decoder) + fitted.mean
