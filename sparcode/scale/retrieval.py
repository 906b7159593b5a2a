"""Retrieval alone at one size: posting lists against dense engines and against other engines on the same lists."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sparcode.errors import MissingExtraError
from sparcode.eval.metrics import overlap
from sparcode.scale.dense_cells import CUTOFFS, DenseCells
from sparcode.scale.peers.protocols import DensePeer, SparsePeer
from sparcode.scale.peers.registry import sparse_peers
from sparcode.scale.timing import RUN, Call, interleaved, rates
from sparcode.scale.workload import SparseQueries, Workload

SHAPES = ("learned", "default")
"""Query shapes by the run that has them: 8 lists of 256 postings, and what building without options gives."""
BATCH = 1000


def measure_retrieval(workload: Workload, cells: DenseCells, found: dict[str, Any]) -> dict[str, Any]:
    """Time single queries and batches of all engines; ``found``: the measured cells of the dense ones by name."""
    engines = {name: cells.opened(name, cell) for name, cell in found.items() if "missing" not in cell}
    sparse, missing = _sparse_engines(workload, cells.prepared.plan.sparse)
    result: dict[str, Any] = {
        "missing": missing, "latency_us": {}, "alternating_us": {}, "batch_qps": {}, "index_recall": {},
    }  # fmt: skip
    for k in CUTOFFS:
        for name, engine in engines.items():
            engine.set(found[name][str(k)]["parameters"])
        calls = _dense_calls(cells, engines, k) | _sparse_calls(workload, sparse, k)
        result["latency_us"][str(k)] = interleaved(calls, len(workload.timed), run=RUN)
        result["alternating_us"][str(k)] = interleaved(calls, len(workload.timed))
        result["index_recall"][str(k)] = _recalls(workload, cells, found, k)
        result["batch_qps"][str(k)] = _rates(workload, cells, engines, sparse, k)
    return result | {"sparse": _described(workload, sparse), "postings": _postings(workload)}


def _sparse_engines(workload: Workload, names: tuple[str, ...]) -> tuple[dict[str, SparsePeer], list[str]]:
    """Build the engines over the learned lists; ours stands under its own name for each shape."""
    index = workload.pipelines["learned"].searcher.index
    engines: dict[str, SparsePeer] = {}
    missing = []
    for name in names:
        try:
            engines[name] = sparse_peers()[name].build(
                np.array(index.indptr), np.array(index.postings), index.item_count
            )
        except MissingExtraError as problem:
            missing.append(str(problem))
    return engines, missing


def _dense_calls(cells: DenseCells, engines: dict[str, DensePeer], k: int) -> dict[str, Call]:
    queries = [np.ascontiguousarray(query) for query in cells.queries("timed")]

    def call(engine: DensePeer, query: int) -> Any:
        return engine.search(queries[query], k)

    return {name: partial(call, engine) for name, engine in engines.items()}


def _sparse_calls(workload: Workload, engines: dict[str, SparsePeer], k: int) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for shape in SHAPES:
        lists = workload.lists(shape, workload.timed)
        singles = [lists.one(query) for query in range(len(lists))]
        calls[f"sparcode-{shape}"] = _ours(workload.pipelines[shape].searcher.search_one, singles, k)
        if shape == "learned":
            calls |= {name: _ours(engine.search, singles, k) for name, engine in engines.items()}
    return calls


def _ours(search: Callable[..., Any], singles: list[tuple[np.ndarray, np.ndarray]], k: int) -> Call:
    def call(query: int) -> Any:
        rows, weights = singles[query]
        return search(rows, weights, k)

    return call


def _recalls(workload: Workload, cells: DenseCells, found: dict[str, Any], k: int) -> dict[str, float]:
    """Return the share of the exact two-tower's best k that each engine finds."""
    recalls = {name: cell[str(k)]["index_recall"] for name, cell in found.items() if "missing" not in cell}
    for shape in SHAPES:
        lists = workload.lists(shape, workload.timed)
        ids = workload.pipelines[shape].searcher.search(lists.rows, lists.weights, lists.indptr, k).ids
        recalls[f"sparcode-{shape}"] = float(overlap(ids, cells.exact("timed"), k).mean())
    return recalls


def _rates(
    workload: Workload, cells: DenseCells, engines: dict[str, DensePeer], sparse: dict[str, SparsePeer], k: int
) -> dict[str, float]:
    queries = workload.evaluated.queries
    queries = queries.slice(0, min(BATCH, len(queries)))
    vectors = workload.vectors(queries)
    batches: dict[str, Callable[[], Any]] = {
        name: partial(engine.search_batch, vectors, k) for name, engine in engines.items() if engine.kind != "exact"
    }
    for shape in SHAPES:
        lists, searcher = workload.lists(shape, queries), workload.pipelines[shape].searcher
        for threads in (1, 2):
            name = f"sparcode-{shape}" + ("" if threads == 1 else f"-{threads}-threads")
            batches[name] = partial(searcher.search, lists.rows, lists.weights, lists.indptr, k, threads=threads)
    lists = workload.lists("learned", queries)
    for name, engine in sparse.items():
        batches[name] = partial(engine.search_batch, lists.rows, lists.weights, lists.indptr, k)
    return rates(batches, len(queries))


def _described(workload: Workload, engines: dict[str, SparsePeer]) -> dict[str, Any]:
    return {name: {"bytes": int(each.bytes), "build_seconds": each.build_seconds} for name, each in engines.items()}


def _postings(workload: Workload) -> dict[str, dict[str, float]]:
    """Return lists and postings a timed query reads, on average."""
    result = {}
    for shape in SHAPES:
        lists: SparseQueries = workload.lists(shape, workload.timed)
        lengths = workload.pipelines[shape].searcher.index.lengths()[lists.rows]
        result[shape] = {"lists": len(lists.rows) / len(lists), "postings": float(lengths.sum()) / len(lists)}
    return result
