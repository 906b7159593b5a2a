"""One dense engine at one size: built, kept on disk, tuned on validation queries for k = 10 and 100."""

from __future__ import annotations

import gc
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import MissingExtraError
from sparcode.eval.metrics import overlap
from sparcode.files import read_json, write_json
from sparcode.scale.peers.exact import exact_ids
from sparcode.scale.peers.protocols import DensePeer
from sparcode.scale.peers.registry import dense_peers
from sparcode.scale.prepare import Prepared, Report
from sparcode.scale.tuning import tune
from sparcode.scale.workload import Workload

CUTOFFS = (10, 100)
RECALL = 0.95


class DenseCells:
    """The dense engines of one size; a cell that is on disk is not measured again."""

    def __init__(self, prepared: Prepared, workload: Workload, report: Report) -> None:
        self.prepared, self.workload, self.report = prepared, workload, report
        self.vectors = np.ascontiguousarray(workload.exact.item_vectors)
        self._exact: dict[str, np.ndarray] = {}

    def measure(self, name: str) -> dict[str, Any]:
        """Return the cell of an engine: build, bytes and, for every cutoff, the parameters that reach the recall."""
        path = self.prepared.folder / "cells" / f"{name}.json"
        if path.exists():
            return dict(read_json(path))
        self.report(f"{self.prepared.plan.items:,} items: {name}")
        try:
            peer = dense_peers()[name].build(self.vectors, seed=self.prepared.plan.seed)
        except MissingExtraError as problem:
            return {"missing": str(problem)}
        peer.save(self.folder(name))
        found = {"build_seconds": round(peer.build_seconds, 3), "bytes": peer.bytes, "settings": peer.settings}
        for k in CUTOFFS:
            found[str(k)] = self._tuned(peer, k)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
        del peer
        gc.collect()
        return found

    def folder(self, name: str) -> Path:
        """Return where the index of an engine is kept."""
        return self.prepared.folder / "peers" / name

    def opened(self, name: str, cell: dict[str, Any]) -> DensePeer:
        """Open the index of a measured cell."""
        return dense_peers()[name].load(self.folder(name))

    def exact(self, part: str) -> np.ndarray:
        """Return (B, 100): the true best items of the queries ``tuned`` or ``timed``."""
        if part not in self._exact:
            self._exact[part] = exact_ids(self.vectors, self.queries(part), max(CUTOFFS))
        return self._exact[part]

    def queries(self, part: str) -> np.ndarray:
        """Return the vectors of the queries ``tuned`` or ``timed``."""
        return self.workload.vectors(self.workload.tuned.queries if part == "tuned" else self.workload.timed)

    def _tuned(self, peer: DensePeer, k: int) -> dict[str, Any]:
        choice = tune(peer, self.queries("tuned"), self.exact("tuned"), k, recall=RECALL)
        ids = peer.search_batch(self.queries("timed"), k)
        recall = float(overlap(ids, self.exact("timed"), k).mean())
        return {
            "parameters": choice.parameters, "reached": choice.reached, "index_recall": recall,
            "curve": [asdict(point) for point in choice.curve],
        }  # fmt: skip
