"""ScaNN: a partition tree, 4-bit codes with anisotropic loss, and reordering on the vectors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.scale.peers.dense import DenseEngine
from sparcode.scale.peers.partitions import probes
from sparcode.scale.peers.protocols import Parameters, load_library
from sparcode.scale.peers.quiet import quiet

_REORDER = (1, 2, 4, 8, 16, 32)
_REORDER_COST = 30
_TRAINING = 250_000


class Scann(DenseEngine):
    """ScaNN's own searcher object, without its Python wrapper.

    Seeds are set in its configuration, yet two builds differ: answers repeat within one built or loaded index only.
    """

    name = "scann"
    kind = "partition"
    most_items = 300_000
    _assets = "scann_assets.pbtxt"

    @classmethod
    def defaults(cls, item_count: int, width: int) -> dict[str, Any]:
        """Return leaves (about 2 sqrt(n)), dimensions a code and the anisotropic threshold its guide recommends."""
        leaves = max(1, min(round(2 * math.sqrt(item_count)), item_count // 16))
        return {"leaves": leaves, "piece": 2, "threshold": 0.2}

    @classmethod
    def _library(cls) -> Any:
        return load_library("scann.scann_ops.py.scann_ops_pybind", "scann")

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        library = cls._library()
        with quiet():
            return library.scann_pybind.ScannNumpy(vectors, _configuration(library, vectors, settings), 1)

    def _prepare(self) -> None:
        self._pair = (-1, -1)

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return pairs of ``leaves`` searched and ``reorder``, candidates scored again."""
        leaves = self.settings["leaves"]
        share = self.item_count / leaves
        pairs = [
            {"leaves": count, "reorder": k * factor}
            for count in probes(leaves, 2)
            for factor in _REORDER
            if k * factor <= max(k, min(self.item_count, count * share))
        ]
        return sorted(pairs, key=lambda pair: pair["leaves"] * share + _REORDER_COST * pair["reorder"])

    def set(self, parameters: Parameters) -> None:
        """Set ``leaves`` searched and ``reorder``."""
        self._pair = (parameters["reorder"], parameters["leaves"])

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return (k,) int32 ids of one query (d,)."""
        ids = self._index.search(query, k, *self._pair)[0].view(np.int32)
        return ids if len(ids) == k else np.concatenate([ids, np.full(k - len(ids), -1, np.int32)])

    def search_batch(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) int32 ids."""
        found, distances = self._index.search_batched(queries, k, *self._pair, False, 0)
        ids: np.ndarray = found.view(np.int32)
        ids[np.isnan(distances)] = -1
        return ids if ids.shape[1] == k else np.pad(ids, ((0, 0), (0, k - ids.shape[1])), constant_values=-1)

    def _write(self, folder: Path) -> None:
        self._index.serialize(str(folder), True)

    @classmethod
    def _read(cls, folder: Path, shape: tuple[int, int], settings: dict[str, Any]) -> Any:
        # Not the library's loader, which would read a pickle of names if the folder held one.
        assets = (folder / cls._assets).read_text(encoding="utf-8")
        with quiet():
            return cls._library().scann_pybind.ScannNumpy(str(folder), assets)


PEERS = (Scann,)


def _configuration(library: Any, vectors: np.ndarray, settings: dict[str, Any]) -> str:
    sample = min(len(vectors), _TRAINING)
    builder = library.builder(vectors, 10, "dot_product")
    builder = builder.tree(settings["leaves"], 1, training_sample_size=sample, random_init=True)
    builder = builder.score_ah(
        settings["piece"], anisotropic_quantization_threshold=settings["threshold"], training_sample_size=sample
    )
    seed = settings["seed"] % (1 << 31)
    text: str = builder.reorder(100).create_config()
    text = text.replace("partitioning {", f"partitioning {{\n clustering_seed: {seed}", 1)
    return text.replace("asymmetric_hash {", f"asymmetric_hash {{\n clustering_seed: {seed} sampling_seed: {seed}", 1)
