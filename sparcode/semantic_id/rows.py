"""Rows of a matrix as numbers: equal rows have equal hashes. For counting duplicates and for random codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.errors import DataError
from sparcode.jit import exact
from sparcode.seeding import derive

BLOCK_ROWS = 65_536


def as_array(vectors: Any) -> np.ndarray:
    """Return what a caller gave as an array: an array as it is, torch tensors, frames and nested lists as numbers.

    A tensor may lie on any device, ask for gradients, and be of a type that numpy has not (bfloat16). Masked values
    become NaN. DataError for rows of different lengths.
    """
    if isinstance(vectors, np.ma.MaskedArray):
        return np.ma.filled(vectors.astype(np.float32), np.nan)
    if isinstance(vectors, np.ndarray):
        return vectors
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().cpu()
        return np.asarray(vectors.float() if vectors.is_floating_point() else vectors)
    try:
        return np.asarray(vectors)
    except ValueError:
        raise DataError("vectors whose rows differ in length found, (items, width) expected") from None


def row_hashes(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return (n,) uint64, one hash of the values of every row (n, d) float32; -0 counts as 0.

    64 bits: among 5 million distinct rows two share a hash with a probability below 10^-6.
    """
    start = np.uint64(derive(seed, "row hashes"))
    hashes = np.empty(len(vectors), np.uint64)
    for low in range(0, len(vectors), BLOCK_ROWS):
        # Adding zero turns -0 into 0 and copies a mapped block.
        block = np.ascontiguousarray(vectors[low : low + BLOCK_ROWS], dtype=np.float32) + np.float32(0)
        hashes[low : low + BLOCK_ROWS] = _hash_rows(block.view(np.uint32), start)
    return hashes


@exact
def mix(value: np.uint64) -> np.uint64:
    """Return the finaliser of splitmix64 (Steele et al. 2014): every bit of the result depends on every bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@exact
def _hash_rows(words: np.ndarray, start: np.uint64) -> np.ndarray:
    hashes = np.empty(words.shape[0], np.uint64)
    for r in range(words.shape[0]):
        state = start
        for j in range(words.shape[1]):
            state = mix((state ^ np.uint64(words[r, j])) + np.uint64(0x9E3779B97F4A7C15))
        hashes[r] = state
    return hashes
