"""Whole queries at one size, history to answer: sparcode beside the two-tower, exact and with a dense engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.eval.evaluate import evaluate
from sparcode.eval.latency import Stages, measure
from sparcode.eval.machine import one_thread
from sparcode.jit import exact
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.learned import SparcodeRetriever
from sparcode.retrievers.ranking import empty_hits
from sparcode.retrievers.systems import dense_stages, pipeline_stages
from sparcode.scale.peers.protocols import DensePeer
from sparcode.scale.retrieval import SHAPES
from sparcode.scale.timing import RUN
from sparcode.scale.workload import Workload
from sparcode.types import NO_ITEM, Hits, Queries

RESCORED = 100
K = 10
"""Results of a whole query."""


class PeerRetriever:
    """The two-tower over a dense engine; what the history holds is dropped from more results than asked for."""

    def __init__(self, exact: ExactRetriever, peer: DensePeer) -> None:
        self.name, self.encoder, self.peer = f"two-tower-{peer.name}", exact.encoder, peer
        self.item_count = len(exact.item_vectors)

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Answer every query on its own."""
        ids, scores = empty_hits(len(queries), k)
        for row in range(len(queries)):
            history = queries.history(row)
            hits = self.search_one(self.encoder.encode_one(history), history[:0] if include_seen else history, k)
            ids[row], scores[row] = hits.ids[0], hits.scores[0]
        return Hits(ids, scores)

    def search_one(self, tokens: np.ndarray, history: np.ndarray, k: int) -> Hits:
        """Search for one query, in the engine's order; asks for more while fewer than k unseen items come back."""
        ids, scores = empty_hits(1, k)
        wanted, limit = k + min(len(history), k), self.item_count
        while unseen(self.peer.search(tokens[0], min(wanted, limit)), history, ids[0]) < k and wanted < limit:
            wanted *= 2
        return Hits(ids, scores)

    def retrieve_one(self, history: np.ndarray, k: int, features: np.ndarray | None = None) -> Hits:
        """Encode and search one history; hits of shape (1, k)."""
        return self.search_one(self.encoder.encode_one(history, features), history, k)


@exact
def unseen(found: np.ndarray, history: np.ndarray, ids: np.ndarray) -> int:
    """Write the first ids of ``found`` that are not in ``history`` to ``ids`` (k,) int32; return how many there are."""
    count = 0
    for place in range(len(found)):
        item = found[place]
        known = item == NO_ITEM
        for event in range(len(history)):
            known |= history[event] == item
        if not known and count < len(ids):
            ids[count] = item
            count += 1
    return count


def measure_whole(workload: Workload, peer: DensePeer) -> list[dict[str, Any]]:
    """Return rows of quality and latency; ``peer``: the best graph, set to its operating point for k = 10.

    The exact scan is timed by itself: it reads all vectors, and would leave the others no cache.
    """
    systems: list[tuple[str, Any, Stages]] = []
    for shape in SHAPES:
        pipeline = workload.pipelines[shape]
        for rescore in (0, RESCORED):
            name = f"sparcode-{shape}" + ("-cache" if not rescore else "")
            retriever = SparcodeRetriever(pipeline, rescore=rescore, name=name)
            systems.append((name, retriever, pipeline_stages(pipeline, K, rescore)))
    graph = PeerRetriever(workload.exact, peer)
    systems.append((graph.name, graph, dense_stages(graph, K)))
    systems.append(("two-tower-exact", workload.exact, dense_stages(workload.exact, K)))
    stages = [stages for _, _, stages in systems]
    with one_thread():
        times = measure(stages[:-1], workload.timed, run=RUN)
        times += measure(stages[-1:], workload.timed.slice(0, min(RUN, len(workload.timed))), rounds=1, warmup=1)
    return [
        {"system": name, "latency_us": latency} | _quality(retriever, workload)
        for (name, retriever, _), latency in zip(systems, times, strict=True)
    ]


def measure_quality(workload: Workload) -> list[dict[str, Any]]:
    """Return rows of quality alone: the exact two-tower, and both indexes with and without rescoring."""
    systems: dict[str, Any] = {"two-tower-exact": workload.exact}
    for shape in SHAPES:
        for rescore, suffix in ((0, "-cache"), (RESCORED, "")):
            name = f"sparcode-{shape}{suffix}"
            systems[name] = SparcodeRetriever(workload.pipelines[shape], rescore=rescore, name=name)
    return [{"system": name} | _quality(retriever, workload) for name, retriever in systems.items()]


def _quality(retriever: Any, workload: Workload) -> dict[str, Any]:
    count = workload.exact.item_vectors.shape[0]
    result = evaluate(retriever, workload.evaluated, count, cutoffs=(K,), depth=K)
    return {"metrics": result.metrics, "intervals": {name: list(pair) for name, pair in result.intervals.items()}}
