"""HNSW graphs: hnswlib, faiss over float32 and over 8-bit scalars, usearch over float32 and float16.

``links`` is M; the bottom layer has 2 M. With 16, the default of hnswlib and usearch, a graph is smaller, built in half
the time and faster at k = 10 than with 32, which is about even at k = 100 where the graph has to be searched wide. Both
stand here, so that the best graph is the best for its purpose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sparcode.eval.operating_points import EF_GRID
from sparcode.retrievers.hnsw import EF_CONSTRUCTION, LINKS
from sparcode.scale.peers.dense import DenseEngine
from sparcode.scale.peers.faiss import FaissEngine
from sparcode.scale.peers.protocols import Parameters, load_library

FEW_LINKS = 16
MOST_ITEMS = 300_000
"""Items up to which every graph is measured; beyond, one graph stands for all: each would build for many minutes."""


def ef_grid(k: int, item_count: int) -> list[Parameters]:
    """Return values of ``ef`` from k on: every library raises a smaller one to k."""
    limit = max(k, item_count)
    return [{"ef": ef} for ef in sorted({k, *(ef for ef in EF_GRID if k < ef <= limit)})]


class Hnswlib(DenseEngine):
    """hnswlib ``Index`` in the inner product space."""

    name = "hnswlib"
    kind = "graph"
    _links = FEW_LINKS
    _file = "index.hnswlib"

    @classmethod
    def defaults(cls, item_count: int, width: int) -> dict[str, Any]:
        """Return links and ef_construction."""
        return {"links": cls._links, "ef_construction": EF_CONSTRUCTION}

    @classmethod
    def _library(cls) -> Any:
        return load_library("hnswlib", "hnswlib")

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        index = cls._library().Index(space="ip", dim=vectors.shape[1])
        links, ef = settings["links"], settings["ef_construction"]
        index.init_index(max_elements=len(vectors), M=links, ef_construction=ef, random_seed=settings["seed"])
        index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        return index

    def _prepare(self) -> None:
        self._index.set_num_threads(1)
        self._query = self._index.knn_query

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return values of ``ef``."""
        return ef_grid(k, self.item_count)

    def set(self, parameters: Parameters) -> None:
        """Set ``ef``, the candidates kept while searching."""
        self._index.set_ef(parameters["ef"])

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return (k,) int64 ids of one query (d,)."""
        try:
            return self._query(query, k, 1)[0][0].view(np.int64)
        except RuntimeError:
            return self._search_short(query, k)

    def search_batch(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) int64 ids."""
        try:
            return self._query(queries, k, 1)[0].view(np.int64)
        except RuntimeError:
            return np.stack([self.search(query, k) for query in queries])

    def _search_short(self, query: np.ndarray, k: int) -> np.ndarray:
        # hnswlib refuses to answer at all when the graph reaches fewer than k items.
        ids, width = np.full(k, -1, np.int64), k // 2
        while width:
            try:
                ids[:width] = self._query(query, width, 1)[0][0]
                break
            except RuntimeError:
                width //= 2
        return ids

    def _measure_bytes(self) -> int:
        return int(self._index.index_file_size())

    def _write(self, folder: Path) -> None:
        self._index.save_index(str(folder / self._file))

    @classmethod
    def _read(cls, folder: Path, shape: tuple[int, int], settings: dict[str, Any]) -> Any:
        index = cls._library().Index(space="ip", dim=shape[1])
        index.load_index(str(folder / cls._file))
        return index


class HnswlibWide(Hnswlib):
    """hnswlib with twice the links."""

    name = "hnswlib-m32"
    most_items = MOST_ITEMS
    _links = LINKS


class FaissHnsw(FaissEngine):
    """faiss ``IndexHNSWFlat``: vectors as float32."""

    name = "faiss-hnsw"
    kind = "graph"
    most_items = MOST_ITEMS
    _links = LINKS

    @classmethod
    def defaults(cls, item_count: int, width: int) -> dict[str, Any]:
        """Return links and ef_construction."""
        return {"links": cls._links, "ef_construction": EF_CONSTRUCTION}

    @classmethod
    def _empty(cls, width: int, links: int) -> Any:
        faiss = cls._library()
        return faiss.IndexHNSWFlat(width, links, faiss.METRIC_INNER_PRODUCT)

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        index = cls._empty(vectors.shape[1], settings["links"])
        index.hnsw.efConstruction = settings["ef_construction"]
        index.hnsw.rng = cls._library().RandomGenerator(settings["seed"])
        index.train(vectors)
        index.add(vectors)
        return index

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return values of ``ef``."""
        return ef_grid(k, self.item_count)

    def set(self, parameters: Parameters) -> None:
        """Set ``ef``, the candidates kept while searching."""
        self._index.hnsw.efSearch = parameters["ef"]


class FaissHnswSq8(FaissHnsw):
    """faiss ``IndexHNSWSQ``: vectors as 8-bit scalars, a range a dimension."""

    name = "faiss-hnsw-sq8"

    @classmethod
    def _empty(cls, width: int, links: int) -> Any:
        faiss = cls._library()
        return faiss.IndexHNSWSQ(width, faiss.ScalarQuantizer.QT_8bit, links, faiss.METRIC_INNER_PRODUCT)


class UsearchF32(DenseEngine):
    """usearch ``Index`` with the inner product over float32. It takes no seed: one thread is what fixes the graph."""

    name = "usearch-f32"
    kind = "graph"
    most_items = MOST_ITEMS
    _links = FEW_LINKS
    _scalar = "f32"
    _file = "index.usearch"

    @classmethod
    def defaults(cls, item_count: int, width: int) -> dict[str, Any]:
        """Return links and ef_construction."""
        return {"links": cls._links, "ef_construction": EF_CONSTRUCTION}

    @classmethod
    def _library(cls) -> Any:
        return load_library("usearch.index", "usearch")

    @classmethod
    def _empty(cls, width: int, settings: dict[str, Any]) -> Any:
        return cls._library().Index(
            ndim=width, metric="ip", dtype=cls._scalar,
            connectivity=settings["links"], expansion_add=settings["ef_construction"],
        )  # fmt: skip

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        index = cls._empty(vectors.shape[1], settings)
        index.add(np.arange(len(vectors), dtype=np.uint64), vectors, threads=1)
        return index

    def _prepare(self) -> None:
        # The compiled object behind the Python class: same call, less wrapping.
        self._many = self._index._compiled.search_many

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return values of ``ef``."""
        return ef_grid(k, self.item_count)

    def set(self, parameters: Parameters) -> None:
        """Set ``ef``, the candidates kept while searching."""
        self._index.expansion_search = parameters["ef"]

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return (k,) int64 ids of one query (d,)."""
        keys, _, counts, *_ = self._many(query[None], k, False, 1)
        ids = keys[0].view(np.int64)
        if counts[0] < k:
            ids[int(counts[0]) :] = -1
        return ids

    def search_batch(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) int64 ids."""
        keys, _, counts, *_ = self._many(queries, k, False, 1)
        ids: np.ndarray = keys.view(np.int64)
        ids[np.arange(k) >= counts[:, None].astype(np.int64)] = -1
        return ids

    def _measure_bytes(self) -> int:
        return int(self._index.serialized_length)

    def _write(self, folder: Path) -> None:
        self._index.save(str(folder / self._file))

    @classmethod
    def _read(cls, folder: Path, shape: tuple[int, int], settings: dict[str, Any]) -> Any:
        index = cls._empty(shape[1], settings)
        index.load(str(folder / cls._file))
        return index


class UsearchF16(UsearchF32):
    """usearch ``Index`` with the inner product over float16."""

    name = "usearch-f16"
    _scalar = "f16"


PEERS = (Hnswlib, HnswlibWide, FaissHnsw, FaissHnswSq8, UsearchF32, UsearchF16)
