"""Inverted files of faiss: IVF-Flat, and IVF-PQ with 4-bit fast scan whose best are scored again on the vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcode.scale.peers.faiss import FaissEngine
from sparcode.scale.peers.protocols import Parameters

_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
_FACTORS = (1, 2, 4, 8, 16, 32, 64)
_TRAINING_POINTS_A_LIST = 256
_FACTOR_COST = 30
"""Cost of scoring one candidate again in units of scanning one code: 256 random bytes against 16 in a row."""


def list_count(item_count: int) -> int:
    """Return about 4 * sqrt(n) lists, at most one for every four items."""
    return max(1, min(round(4 * math.sqrt(item_count)), item_count // 4))


def probes(lists: int, step: int = 1) -> list[int]:
    """Return the numbers of lists to try, every ``step``-th of a fixed series and all lists."""
    return sorted({count for count in _PROBES[::step] if count < lists} | {lists})


class IvfFlat(FaissEngine):
    """faiss ``IndexIVFFlat``; the coarse quantizer is searched exhaustively."""

    name = "faiss-ivf-flat"
    kind = "partition"

    @classmethod
    def defaults(cls, item_count: int, width: int) -> dict[str, Any]:
        """Return the number of lists."""
        return {"lists": list_count(item_count)}

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        faiss = cls._library()
        width = vectors.shape[1]
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, settings["lists"], faiss.METRIC_INNER_PRODUCT)
        _seed_clustering(index, settings["seed"])
        index.train(vectors)
        index.add(vectors)
        return index

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return values of ``nprobe``."""
        return [{"nprobe": count} for count in probes(self._index.nlist)]

    def set(self, parameters: Parameters) -> None:
        """Set ``nprobe``, the lists that are read."""
        self._index.nprobe = parameters["nprobe"]


class IvfPq(FaissEngine):
    """faiss ``IndexIVFPQFastScan`` (4 bits for every ``piece`` dimensions, residuals) inside ``IndexRefineFlat``."""

    name = "faiss-ivf-pq"
    kind = "partition"

    @classmethod
    def defaults(cls, item_count: int, width: int) -> dict[str, Any]:
        """Return the number of lists and of dimensions a code covers."""
        return {"lists": list_count(item_count), "piece": 2 if width % 2 == 0 else 1}

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        faiss = cls._library()
        width = vectors.shape[1]
        base = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(width), width, settings["lists"], width // settings["piece"], 4,
            faiss.METRIC_INNER_PRODUCT, 32,
        )  # fmt: skip
        # Off by default; costs 3 % of a query here and finds half of what codes of whole vectors miss.
        base.by_residual = True
        _seed_clustering(base, settings["seed"])
        base.pq.cp.seed = _seed31(settings["seed"])
        index = faiss.IndexRefineFlat(base)
        index.train(vectors)
        index.add(vectors)
        return index

    def _prepare(self) -> None:
        super()._prepare()
        self._lists = self._library().downcast_index(self._index.base_index)

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return pairs of ``nprobe`` and ``refine``, candidates scored again for every result."""
        share = self.item_count / self._lists.nlist
        pairs = [
            {"nprobe": count, "refine": factor}
            for count in probes(self._lists.nlist, 2)
            for factor in _FACTORS
            if k * factor <= max(k, min(self.item_count, count * share))
        ]
        return sorted(pairs, key=lambda pair: pair["nprobe"] * share + _FACTOR_COST * k * pair["refine"])

    def set(self, parameters: Parameters) -> None:
        """Set ``nprobe``, the lists that are read, and ``refine``."""
        self._lists.nprobe = parameters["nprobe"]
        self._index.k_factor = parameters["refine"]


PEERS = (IvfFlat, IvfPq)


def _seed_clustering(index: Any, seed: int) -> None:
    index.cp.seed = _seed31(seed)
    index.cp.max_points_per_centroid = _TRAINING_POINTS_A_LIST
    index.cp.min_points_per_centroid = 1  # changes nothing but a warning on standard error


def _seed31(seed: int) -> int:
    return seed % (1 << 31)
