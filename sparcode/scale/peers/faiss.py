"""What the peers of faiss share: one query past its Python wrapper, files, bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sparcode.scale.peers.dense import DenseEngine
from sparcode.scale.peers.protocols import load_library

FILE = "index.faiss"


class FaissEngine(DenseEngine):
    """Base of the faiss peers. ``search`` calls the compiled entry point with buffers of its own.

    The wrapper that faiss puts around it checks and allocates for some 1.5 microseconds, which would count against
    faiss. Not for use from several threads at once.
    """

    @classmethod
    def _library(cls) -> Any:
        return load_library("faiss", "faiss-cpu")

    def _prepare(self) -> None:
        faiss = self._library()
        self._pointer_to = faiss.swig_ptr
        self._search_c = self._index.search_c
        self._query = np.zeros(self.width, np.float32)
        self._query_pointer = self._pointer_to(self._query)
        self._made_for = 0

    def _make_buffers(self, k: int) -> None:
        self._ids = np.full(k, -1, np.int64)
        self._scores = np.zeros(k, np.float32)
        self._ids_pointer, self._scores_pointer = self._pointer_to(self._ids), self._pointer_to(self._scores)
        self._made_for = k

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return (k,) int64 ids of one query (d,)."""
        if k != self._made_for:
            self._make_buffers(k)
        self._query[:] = query
        self._search_c(1, self._query_pointer, k, self._scores_pointer, self._ids_pointer)
        return self._ids.copy()

    def search_batch(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) int64 ids."""
        return self._index.search(queries, k)[1]

    def _measure_bytes(self) -> int:
        faiss, sizes = self._library(), [0]

        def count(piece: bytes) -> None:
            sizes[0] += len(piece)

        # Counts as it writes: a serialised copy of a million vectors would show in the peak of memory.
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(count))
        return sizes[0]

    def _write(self, folder: Path) -> None:
        self._library().write_index(self._index, str(folder / FILE))

    @classmethod
    def _read(cls, folder: Path, shape: tuple[int, int], settings: dict[str, Any]) -> Any:
        return cls._library().read_index(str(folder / FILE))
