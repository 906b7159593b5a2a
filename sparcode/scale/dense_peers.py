"""Exhaustive search over the vectors: numpy (BLAS, then a partial sort) and faiss flat; the reference of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sparcode.scale.dense_engine import DenseEngine
from sparcode.scale.faiss_engine import FaissEngine

_FILE = "vectors.npy"
_BLOCK_SCORES = 1 << 24


class ExactNumpy(DenseEngine):
    """Matrix times vector, ``argpartition``, then a sort of the best k."""

    name = "exact-numpy"
    kind = "exact"

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
        return vectors.copy()

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return (k,) int64 ids of one query (d,)."""
        return _padded(_best(self._index @ query, min(k, self.item_count)), k)

    def search_batch(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) int64 ids, in blocks of at most 64 MB of scores."""
        block = max(1, _BLOCK_SCORES // self.item_count)
        ids = np.full((len(queries), k), -1, np.int64)
        width = min(k, self.item_count)
        for low in range(0, len(queries), block):
            for row, scores in enumerate(queries[low : low + block] @ self._index.T, start=low):
                ids[row, :width] = _best(scores, width)
        return ids

    def _write(self, folder: Path) -> None:
        np.save(folder / _FILE, self._index, allow_pickle=False)

    @classmethod
    def _read(cls, folder: Path, shape: tuple[int, int], settings: dict[str, Any]) -> np.ndarray:
        vectors: np.ndarray = np.load(folder / _FILE, allow_pickle=False)
        if vectors.shape != shape or vectors.dtype != np.float32:
            raise ValueError(f"{_FILE} is {vectors.dtype} of shape {vectors.shape}, expected float32 of {shape}")
        return vectors


class FaissFlat(FaissEngine):
    """faiss ``IndexFlatIP``."""

    name = "faiss-flat"
    kind = "exact"

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        index = cls._library().IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index


PEERS = (ExactNumpy, FaissFlat)


def exact_ids(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return (B, k) int64: the true best items of each query, against which index recall is taken."""
    return ExactNumpy(vectors, vectors.shape, 0.0, {}).search_batch(queries, k)


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the ids of the k largest scores, ties by id ascending except at the border."""
    if k < len(scores):
        ids = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        ids.sort()
    else:
        ids = np.arange(len(scores))
    return ids[np.argsort(-scores[ids], kind="stable")]


def _padded(ids: np.ndarray, k: int) -> np.ndarray:
    return ids if len(ids) == k else np.concatenate([ids, np.full(k - len(ids), -1, ids.dtype)])
