"""The measured curves: every point is a dictionary of sizes, counts and one time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from costing import formulas, worlds
from costing.beam import BeamSearch
from costing.timing import Subject, medians
from sparcode.build.score.scoring import CodeScorer
from sparcode.eval.machine import one_thread
from sparcode.index.layout import Index
from sparcode.query.search.searcher import Searcher
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.hnsw import EF_CONSTRUCTION, LINKS

Point = dict[str, Any]

BOOKS, CODEWORDS = 2, 256


@dataclass(frozen=True)
class Plan:
    """The sizes of all curves; the base (n, C, p, K_u, k) is what a curve keeps of what it does not vary."""

    items: tuple[int, ...] = (10_000, 30_000, 100_000, 300_000)
    codes: tuple[int, ...] = (1024, 4096, 16384, 65536)
    lists: tuple[int, ...] = (16, 64, 128, 256, 512, 1024)
    tokens: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    results: tuple[int, ...] = (10, 100, 1000)
    widths: tuple[int, ...] = (32, 64, 128)
    efs: tuple[int, ...] = (16, 64, 256)
    beams: tuple[int, ...] = (10, 20, 50, 100)
    candidates: tuple[int, ...] = (50, 100, 200, 400)
    scored_codes: tuple[int, ...] = (1024, 4096, 16384)
    hidden: tuple[int, ...] = (32, 64, 128)
    base: tuple[int, int, int, int, int] = (100_000, 16384, 256, 8, 10)
    crossed: tuple[tuple[int, int], ...] = ((16, 32), (64, 32), (1024, 2))
    """(p, K_u) beside the curves, without which a list and its postings cannot be told apart."""
    held_out: tuple[tuple[int, int, int, int, int], ...] = (
        (100_000, 65536, 12, 50, 100), (30_000, 4096, 512, 4, 100), (300_000, 16384, 128, 16, 10)
    )  # fmt: skip
    """Searches no constant is fitted to; the first has the shape of a default query, 50 short item lists."""
    width: int = 64
    queries: int = 200
    rounds: int = 60


SMALL = Plan(
    items=(600, 1200), codes=(16, 32), lists=(8, 16), tokens=(1, 2, 4), results=(5, 10), widths=(8, 16), efs=(8, 16),
    beams=(2, 4), candidates=(10, 20), scored_codes=(16, 32), hidden=(4, 8), base=(600, 32, 16, 4, 5),
    crossed=((8, 2),), held_out=((1200, 16, 8, 3, 10),), width=16, queries=6, rounds=2,
)  # fmt: skip
"""Everything once, in a second; the times say nothing."""


def retrieval(plan: Plan) -> tuple[list[Point], list[Point]]:
    """Return the points of all systems that find items, timed in turns, and those of building the graphs."""
    graphs, built = hnsw_graphs(plan)
    subjects = [*searches(plan), *scans(plan), *walks(plan, graphs)]
    return medians(subjects, plan.rounds), built


def search_sizes(plan: Plan) -> list[tuple[int, int, int, int, int]]:
    """Return (n, C, p, K_u, k) of every search: the base with one of the five replaced, or p and K_u, each once."""
    sweeps = (plan.items, plan.codes, plan.lists, plan.tokens, plan.results)
    replaced = [
        (*plan.base[:place], value, *plan.base[place + 1 :]) for place, sweep in enumerate(sweeps) for value in sweep
    ]
    crossed = [(*plan.base[:2], mean_list, tokens, plan.base[4]) for mean_list, tokens in plan.crossed]
    return list(dict.fromkeys([plan.base, *replaced, *crossed]))


def searches(plan: Plan) -> list[Subject]:
    """SparCode: ``Searcher.search_one`` over n, C, p, K_u and k."""
    searchers: dict[tuple[int, int, int], Searcher] = {}
    subjects = []
    for size in (*search_sizes(plan), *plan.held_out):
        items, codes, mean_list, tokens, k = size
        key = (items, codes, mean_list)
        if key not in searchers:
            searchers[key] = Searcher(worlds.posting_index(*key))
        index = searchers[key].index
        asked = worlds.code_queries(plan.queries, codes, tokens)
        point = {
            "system": "sparcode", "items": items, "codes": codes, "list": mean_list, "tokens": tokens, "k": k,
            "postings": len(index.postings), "bytes": index.cache_bytes, "held_out": size in plan.held_out,
            **counted(index, [rows for rows, _ in asked]),
        }  # fmt: skip
        subjects.append(Subject(point, searchers[key].search_one, [(*query, k) for query in asked]))
    return subjects


def counted(index: Index, queries: list[np.ndarray]) -> dict[str, float]:
    """Return the postings that queries read and the different items they touch, means a query."""
    read = [sum(len(index.row(int(row))[0]) for row in rows) for rows in queries]
    touched = [len(np.unique(np.concatenate([index.row(int(row))[0] for row in rows]))) for rows in queries]
    return {"read": round(float(np.mean(read)), 2), "touched": round(float(np.mean(touched)), 2)}


def scans(plan: Plan) -> list[Subject]:
    """Two-tower, exact: ``ExactRetriever.search_one`` over n and d."""
    sizes = list(dict.fromkeys([*((n, plan.width) for n in plan.items), *((plan.base[0], d) for d in plan.widths)]))
    subjects, nothing = [], np.zeros(0, np.int32)
    for items, width in sizes:
        found, asked = worlds.vectors(items, width, plan.queries)
        exact: Any = ExactRetriever(None, found)  # type: ignore[arg-type]
        point = {"system": "exact", "items": items, "width": width, "k": plan.base[4], "bytes": exact.bytes}
        subjects.append(Subject(point, exact.search_one, [(query, nothing, plan.base[4]) for query in asked]))
    return subjects


@one_thread()
def hnsw_graphs(plan: Plan) -> tuple[dict[int, Any], list[Point]]:
    """Build one graph and keep a copy of it at every n; return the copies and the processor seconds up to each."""
    import faiss

    found, _ = worlds.vectors(max(plan.items), plan.width, plan.queries)
    graph = faiss.IndexHNSWFlat(plan.width, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EF_CONSTRUCTION
    graphs, points, seconds, start = {}, [], 0.0, 0
    for items in sorted(plan.items):
        began = time.thread_time()
        graph.add(found[start:items])
        seconds += time.thread_time() - began
        graphs[items], start = faiss.clone_index(graph), items
        print(f"graph of {items:,} items after {seconds:.1f} s", flush=True)
        points.append({
            "system": "hnsw", "items": items, "width": plan.width, "links": LINKS, "ef_construction": EF_CONSTRUCTION,
            "seconds": round(seconds, 3), "bytes": int(faiss.serialize_index(graph).nbytes),
        })  # fmt: skip
    return graphs, points


def walks(plan: Plan, graphs: dict[int, Any]) -> list[Subject]:
    """HNSW: faiss called without anything around it, over n and ef; the distances it computes are counted."""
    import faiss

    subjects = []
    for items, graph in graphs.items():
        # Queries of the same centres as the items of the graph.
        _, asked = worlds.vectors(max(plan.items), plan.width, plan.queries)
        for ef in plan.efs:
            parameters = faiss.SearchParametersHNSW(efSearch=ef)
            faiss.cvar.hnsw_stats.reset()
            for query in asked:
                graph.search(query, plan.base[4], params=parameters)
            distances = faiss.cvar.hnsw_stats.ndis / len(asked)
            point = {
                "system": "hnsw", "items": items, "width": plan.width, "links": LINKS, "ef": ef, "k": plan.base[4],
                "distances": round(distances, 1),
            }  # fmt: skip
            subjects.append(Subject(point, _walk(graph, parameters), [(query, plan.base[4]) for query in asked]))
    return subjects


def _walk(graph: Any, parameters: Any) -> Any:
    return lambda query, k: graph.search(query, k, params=parameters)


def decoding(plan: Plan) -> list[Point]:
    """Semantic IDs: beam search over the number of beams, with output layers alone and with a decoder of 4 layers."""
    subjects = []
    for layers in (0, 4):
        sizes = formulas.Decoder(layers=layers)
        decoder = BeamSearch(sizes)
        for beams in plan.beams:
            point = {
                "system": "semantic-id", "levels": sizes.levels, "codewords": sizes.codewords, "layers": layers,
                "width": sizes.width, "inner": sizes.inner, "context": sizes.context, "beams": beams,
                "logit_products": formulas.logit_products(sizes, beams),
                "layer_products": formulas.layer_products(sizes, beams),
                "entering": sum(formulas.beams_at(sizes, beams)),
            }  # fmt: skip
            subjects.append(Subject(point, decoder.search, [(beams,)]))
    return medians(subjects, 4 * plan.rounds)


def rescoring(plan: Plan) -> list[Point]:
    """SparCode: exact scores of R candidates, dot product and Hadamard perceptron, K_u tokens as in the base."""
    subjects, random = [], np.random.default_rng(0)
    items, tokens = plan.base[0], plan.base[3]
    asked = random.normal(size=(plan.queries, tokens, plan.width)).astype(np.float32)
    for kind, hidden in (("dot", 0), ("hadamard", plan.hidden[-1])):
        scorer = worlds.scorer(kind, items, plan.width, hidden=hidden)
        for candidates in plan.candidates:
            chosen = random.integers(0, items, (plan.queries, candidates)).astype(np.int32)
            point = {
                "system": "sparcode", "kind": kind, "candidates": candidates, "tokens": tokens, "width": plan.width,
                "hidden": hidden, "bytes": scorer.bytes,
                "products": formulas.rescoring_products(candidates, tokens, plan.width, 1, hidden),
            }  # fmt: skip
            subjects.append(Subject(point, scorer.score, list(zip(asked, chosen, strict=True))))
    return medians(subjects, plan.rounds)


def scoring(plan: Plan) -> list[Point]:
    """The offline job: a few items against C codes (M = 2, N = 256), over C, H and K_c; microseconds an item."""
    items, half = 12, plan.width // BOOKS
    codebooks = np.random.default_rng(0).normal(size=(BOOKS, CODEWORDS, half)).astype(np.float32) / 8
    sizes = [(codes, plan.hidden[-1], tokens) for codes in plan.scored_codes for tokens in (1, 4)]
    sizes += [(plan.scored_codes[-1], hidden, 1) for hidden in plan.hidden[:-1]]
    subjects = []
    for codes, hidden, item_tokens in sizes:
        scorer = CodeScorer(worlds.scorer("hadamard", items, plan.width, item_tokens, hidden), codebooks, "product")
        chosen = worlds.product_codes(codes, BOOKS, CODEWORDS)
        point = {
            "system": "sparcode", "items": items, "codes": codes, "hidden": hidden, "item_tokens": item_tokens,
            "width": plan.width, "depth": half, "words": sum(len(np.unique(book)) for book in chosen.T),
        }  # fmt: skip
        subjects.append(Subject(point, scorer.scores, [(scorer.plan(chosen),)]))
    points = medians(subjects, max(plan.rounds // 3, 2))
    return [point | {"p50_us": round(point["p50_us"] / items, 3)} for point in points]
