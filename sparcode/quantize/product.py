"""Product quantization: M sub-spaces of width d/M, one book of N codewords each (Jegou et al. 2011)."""

from __future__ import annotations

import numpy as np

from sparcode.quantize.kmeans import kmeans, nearest
from sparcode.seeding import derive


def fit(vectors: np.ndarray, books: int, codewords: int, seed: int) -> np.ndarray:
    """Return codebooks (M, N, d/M) float32 fitted to ``vectors`` (rows, d); ValueError if M does not divide d."""
    parts = _split(vectors, books)
    fitted = [kmeans(part, codewords, seed=derive(seed, "product", m)).centroids for m, part in enumerate(parts)]
    return np.stack(fitted)


def encode(vectors: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Return codes (rows, M) uint16: in every sub-space the nearest codeword, ties to the smaller."""
    parts = _split(vectors, len(codebooks))
    codes = np.empty((len(vectors), len(codebooks)), np.uint16)
    for m, part in enumerate(parts):
        codes[:, m] = nearest(part, codebooks[m])[0]
    return codes


def decode(codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Return the vectors (rows, d) float32 that codes (rows, M) stand for."""
    words = [book[column] for book, column in zip(codebooks, np.asarray(codes).T, strict=True)]
    return np.concatenate(words, axis=1).astype(np.float32)


def _split(vectors: np.ndarray, books: int) -> list[np.ndarray]:
    width = vectors.shape[1]
    if width % books:
        raise ValueError(f"{books} books do not divide a width of {width}")
    return np.split(np.asarray(vectors, np.float32), books, axis=1)
