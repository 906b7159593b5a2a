"""Exhaustive search over the vectors: numpy (BLAS, then a selection) and faiss flat; the reference of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sparcode.scale.peers.build_clock import BuildTime
from sparcode.scale.peers.dense import DenseEngine
from sparcode.scale.peers.faiss import FaissEngine

_FILE = "vectors.npy"
_BLOCK_SCORES = 1 << 24
_STRIPES = 64


class ExactNumpy(DenseEngine):
    """Matrix times vector, then a selection of the best k."""

    name = "exact-numpy"
    kind = "exact"

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
        return vectors.copy()

    def _prepare(self) -> None:
        self._scores = np.zeros(self.item_count, np.float32)

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return (k,) int64 ids of one query (d,)."""
        np.dot(self._index, query, out=self._scores)
        return _padded(_best(self._scores, min(k, self.item_count)), k)

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
    return ExactNumpy(vectors, vectors.shape, BuildTime(0.0, 0.0), {}).search_batch(queries, k)


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the ids of the k largest scores, ties by id ascending."""
    count = len(scores) // _STRIPES
    bounds = scores
    if count >= 4 * k:
        # Of disjoint groups, the k-th largest maximum is at most the k-th largest score, and not far below it.
        bounds = scores[: _STRIPES * count].reshape(_STRIPES, count).max(axis=0)
    if k < len(bounds):
        ids = np.flatnonzero(scores >= np.partition(bounds, len(bounds) - k)[len(bounds) - k])
    else:
        ids = np.arange(len(scores))
    return ids[np.argsort(-scores[ids], kind="stable")[:k]]


def _padded(ids: np.ndarray, k: int) -> np.ndarray:
    return ids if len(ids) == k else np.concatenate([ids, np.full(k - len(ids), -1, ids.dtype)])
