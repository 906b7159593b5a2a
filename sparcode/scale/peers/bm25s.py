"""bm25s over our lists: its index is a matrix of precomputed scores, which ours replaces.

It has no weights in a query; a term given twice counts twice, so rows are repeated ``weight`` times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.index.layout import unpack
from sparcode.scale.peers.protocols import load_library
from sparcode.scale.peers.sparse import SparseEngine


class Bm25s(SparseEngine):
    """``BM25.retrieve`` with the numba backend, given token ids."""

    name = "bm25s-numba"

    @classmethod
    def _library(cls) -> Any:
        return load_library("bm25s", "bm25s")

    @classmethod
    def _construct(cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, settings: dict[str, Any]) -> Any:
        ids, impacts = unpack(postings)
        engine = cls._library().BM25(backend="numba")
        engine.scores = {
            "data": impacts.astype(np.float32),
            "indices": ids,
            "indptr": indptr.astype(np.int64),
            "num_docs": item_count,
        }
        engine.vocab_dict = {str(row): row for row in range(len(indptr) - 1)}
        engine.unique_token_ids_set = set(engine.vocab_dict.values())
        engine.nonoccurrence_array = None
        return engine

    def _prepare(self) -> None:
        self._scores = self._lists.scores
        # Compiling takes bm25s ten seconds, which it repeats in every process unless told to keep the result.
        kernel = load_library("bm25s.numba.retrieve_utils", "bm25s")._retrieve_internal_jitted_serial
        if not kernel.stats.cache_path:
            kernel.enable_caching()
        self.search(np.zeros(1, np.int32), np.ones(1, np.int32), 1)  # compiles

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return min(k, n) int32 ids."""
        terms = np.repeat(rows, weights).tolist()
        return self._retrieve([terms], k)[0]

    def search_batch(self, rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray, k: int) -> np.ndarray:
        """Return (B, min(k, n)) int32 ids."""
        terms, edges = _repeated(rows, weights, indptr)
        return self._retrieve([part.tolist() for part in np.split(terms, edges[1:-1])], k)

    def _retrieve(self, terms: list[list[int]], k: int) -> np.ndarray:
        width = min(k, self.item_count)
        return self._lists.retrieve(terms, k=width, n_threads=1, show_progress=False).documents

    @property
    def bytes(self) -> int:
        """Bytes of scores, ids and offsets."""
        return int(sum(self._scores[name].nbytes for name in ("data", "indices", "indptr")))


class Bm25sKernel(Bm25s):
    """The compiled function behind ``retrieve``, called with arrays: bm25s without its checks and lists."""

    name = "bm25s-kernel"

    def _prepare(self) -> None:
        self._kernel = load_library("bm25s.numba.retrieve_utils", "bm25s")._retrieve_internal_jitted_serial
        self._types = np.dtype(np.float32), np.dtype(np.int32)
        super()._prepare()

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return min(k, n) int32 ids."""
        terms = np.repeat(rows, weights)
        return self._run(terms, np.array([0, len(terms)], np.int32), k)[0]

    def search_batch(self, rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray, k: int) -> np.ndarray:
        """Return (B, min(k, n)) int32 ids."""
        return self._run(*_repeated(rows, weights, indptr), k)

    def _run(self, terms: np.ndarray, edges: np.ndarray, k: int) -> np.ndarray:
        scores, width = self._scores, min(k, self.item_count)
        lists = scores["data"], scores["indptr"], scores["indices"], scores["num_docs"]
        return self._kernel(terms, edges, width, True, *self._types, *lists, None, None)[1]


PEERS = (Bm25s, Bm25sKernel)


def _repeated(rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms of all queries and (B + 1,) int32 where each begins."""
    low, high = int(indptr[0]), int(indptr[-1])
    counts = weights[low:high]
    totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return np.repeat(rows[low:high], counts), totals[indptr - low].astype(np.int32)
