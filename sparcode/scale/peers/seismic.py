"""Seismic over our lists: items are its documents, rows its terms, blocks of a list are skipped by their summaries."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparcode.index.layout import unpack
from sparcode.scale.peers.protocols import load_library
from sparcode.scale.peers.quiet import quiet
from sparcode.scale.peers.sparse import SparseEngine


class _Built(NamedTuple):
    index: Any
    bytes: int


class Seismic(SparseEngine):
    """``SeismicIndexRaw``, its form without strings. Minutes of build from some ten thousand items on.

    By default whole summaries, so that nothing is lost by them; ``summary_energy`` below 1 is smaller and less exact,
    and so is ``heap_factor`` near 1 then.
    """

    name = "seismic"
    exact = False
    most_items = 20_000

    @classmethod
    def _library(cls) -> Any:
        return load_library("seismic", "pyseismic-lsr")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the settings of index and search."""
        return {"summary_energy": 1.0, "centroid_fraction": 0.1, "heap_factor": 1.0}

    @classmethod
    def _construct(cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, settings: dict[str, Any]) -> _Built:
        longest = max(1, int(np.diff(indptr.astype(np.int64)).max(initial=1)))
        with tempfile.TemporaryDirectory() as folder, quiet():
            documents, saved = Path(folder) / "documents.bin", Path(folder) / "index"
            documents.write_bytes(_documents(indptr, postings, item_count))
            index = cls._library().SeismicIndexRaw.build(
                str(documents), n_postings=longest, max_fraction=float(longest), doc_cut=len(indptr),
                centroid_fraction=settings["centroid_fraction"], summary_energy=settings["summary_energy"],
            )  # fmt: skip
            documents.unlink()
            index.save(str(saved))
            return _Built(index, sum(path.stat().st_size for path in Path(folder).iterdir()))

    def _prepare(self) -> None:
        self._query = self._lists.index.search
        self._factor = float(self.settings["heap_factor"])

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return at most k int64 ids."""
        order = np.argsort(rows)
        values = weights[order].astype(np.float32)
        found = self._query(rows[order], values, k, len(rows), self._factor, 0, True)
        return np.array([item for _, item in found], np.int64)

    @property
    def bytes(self) -> int:
        """Bytes of the saved index, its copy of the documents included."""
        return self._lists.bytes


PEERS = (Seismic,)


def _documents(indptr: np.ndarray, postings: np.ndarray, item_count: int) -> bytes:
    """Return Seismic's own format: number of items, then for each its length, rows (uint32) and impacts (float32)."""
    ids, impacts = unpack(postings)
    rows = np.repeat(np.arange(len(indptr) - 1, dtype=np.uint32), np.diff(indptr.astype(np.int64)).astype(np.int64))
    order = np.argsort(ids, kind="stable")
    rows, values = rows[order], impacts[order].astype(np.float32)
    edges = np.searchsorted(ids[order], np.arange(item_count + 1)).tolist()
    parts = [np.uint32(item_count).tobytes()]
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        parts += [np.uint32(high - low).tobytes(), rows[low:high].tobytes(), values[low:high].tobytes()]
    return b"".join(parts)
