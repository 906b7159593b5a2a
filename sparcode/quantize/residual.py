"""Residual quantization: M books of full width in sequence, each quantises what the earlier ones left over."""

from __future__ import annotations

import numpy as np

from sparcode.quantize.kmeans import kmeans, nearest
from sparcode.seeding import derive


def fit(vectors: np.ndarray, books: int, codewords: int, seed: int) -> np.ndarray:
    """Return codebooks (M, N, d) float32 fitted to ``vectors`` (rows, d)."""
    rest = np.array(vectors, np.float32)
    codebooks = []
    for m in range(books):
        fitted = kmeans(rest, codewords, seed=derive(seed, "residual", m))
        codebooks.append(fitted.centroids)
        rest = rest - fitted.centroids[nearest(rest, fitted.centroids)[0]]
    return np.stack(codebooks)


def encode(vectors: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Return codes (rows, M) uint16, chosen greedily: the nearest codeword of each book in turn."""
    rest = np.array(vectors, np.float32)
    codes = np.empty((len(rest), len(codebooks)), np.uint16)
    for m, book in enumerate(codebooks):
        codes[:, m] = nearest(rest, book)[0]
        rest -= book[codes[:, m]]
    return codes


def decode(codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Return the vectors (rows, d) float32 that codes (rows, M) stand for."""
    words = [book[column] for book, column in zip(codebooks, np.asarray(codes).T, strict=True)]
    return np.sum(words, axis=0).astype(np.float32)
