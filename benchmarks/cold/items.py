"""Part ``items`` of the benchmark: systems asked for withheld items, among all items and among the withheld only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from shared import Row, hold_run

from cold.values import CACHE, METRICS, OURS, THEIRS, evaluated, facts, values_of
from cold.withheld import cold_queries, withheld_items
from sparcode.build.job import build_index
from sparcode.eval.machine import one_thread
from sparcode.index.arrays import write_arrays
from sparcode.query.search.searcher import open as open_searcher
from sparcode.retrievers.evaluation import evaluation_set_of
from sparcode.retrievers.learned import SparcodeRetriever
from sparcode.retrievers.registry import available, open_retrievers
from sparcode.run import Run
from sparcode.types import NO_ITEM, Hits, Queries, Retriever

OF_ITEMS = (OURS, CACHE, THEIRS, "additive", "content-knn", "counts", "popular")


class Among:
    """A retriever that may answer with ``allowed`` (n,) bool items only.

    SparCode gets them as its allow list, so that it finds what its lists hold and fills up by popularity, which for
    items without training events is a random order. Any other retriever ranks everything, and the rest is struck out.
    """

    def __init__(self, retriever: Retriever, allowed: np.ndarray) -> None:
        self.retriever, self.allowed, self.name = retriever, allowed, retriever.name

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits, padded where fewer than k items are allowed."""
        inner = self.retriever
        if isinstance(inner, SparcodeRetriever):
            pipeline: Any = inner.pipeline
            answer: Hits = pipeline.retrieve(
                queries, k, rescore=inner.rescore, include_seen=include_seen, allow=self.allowed
            )
            return answer
        return first_allowed(inner.retrieve(queries, len(self.allowed), include_seen=include_seen), self.allowed, k)


def first_allowed(hits: Hits, allowed: np.ndarray, k: int) -> Hits:
    """Return the first k hits of each row whose items are allowed, in their order."""
    kept = (hits.ids != NO_ITEM) & allowed[hits.ids]
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept, ids, scores = (np.take_along_axis(array, order, axis=1) for array in (kept, hits.ids, hits.scores))
    missing = ((0, 0), (0, max(k - order.shape[1], 0)))
    ids = np.pad(np.where(kept, ids, NO_ITEM), missing, constant_values=NO_ITEM)
    scores = np.pad(np.where(kept, scores, -np.inf), missing, constant_values=-np.inf)
    return Hits(ids.astype(np.int32), scores.astype(np.float32))


def measure_items(run: Run, values: Path, names: list[str] | None) -> Row:
    """Build the index of a run on ``cold_tables``, ask for withheld and for ordinary items, and write ``values``."""
    print(f"{run.folder.name}: building and evaluating", flush=True)
    names = names or [name for name in OF_ITEMS if name in available(run)]
    withheld = withheld_items(run.dataset)
    cold, without_history = cold_queries(run)
    with one_thread():
        built = build_index(run.folder)
        opened = open_retrievers(run, names)
        found = {
            "withheld": evaluated(run, opened, cold),
            "among": evaluated(run, [Among(each, withheld) for each in opened], cold),
            "ordinary": evaluated(run, opened, evaluation_set_of(run, "validation")),
        }
    write_arrays(values, values_of(found), {})
    return {
        **facts(run, built, found),
        "items": len(withheld),
        "withheld": int(withheld.sum()),
        "items_without_training": run.dataset.summary["items_without_training"],
        "users_without_history": without_history,
        "reach": reach(run, withheld),
    }


def measure_gain(run: Run, gain: float) -> Row:
    """Build a copy of a run on ``cold_tables`` with one gain of new items; means over queries, by set and system."""
    print(f"{run.folder.name}: gain {gain:g}", flush=True)
    copy = run.folder.with_name(f"{run.folder.name}-gain")
    hold_run(run.folder, copy)
    run = Run.open(copy)
    sets = {"withheld": cold_queries(run)[0], "ordinary": evaluation_set_of(run, "validation")}
    with one_thread():
        build_index(run.folder, overrides={"families.item.new_gain": gain})
        opened = open_retrievers(run, [OURS, CACHE])
        found = {name: evaluated(run, opened, held) for name, held in sets.items()}
    return {
        name: {each.retriever: {key: each.metrics[key] for key in METRICS} for each in results}
        for name, results in found.items()
    }


def reach(run: Run, withheld: np.ndarray) -> Row:
    """Say for each code family how well lists hold items: share of items in any list, mean lists an item is in."""
    index = open_searcher(run.index_folder).index
    rows: Row = {}
    for family in index.families:
        low, high = int(index.indptr[family.first_row]), int(index.indptr[family.stop_row])
        lists = np.bincount(np.asarray(index.postings[low:high]) >> 8, minlength=len(withheld))
        rows[family.name] = {
            name: {"in_any_list": float((lists[mask] > 0).mean()), "lists_an_item": float(lists[mask].mean())}
            for name, mask in (("withheld", withheld), ("others", ~withheld))
        }
    return rows
