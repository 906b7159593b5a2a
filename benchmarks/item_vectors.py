"""What do rescoring's item vectors lose, and cost, as float16 and int8?

Takes a trained and indexed run, stores its item vectors again in memory as each kind, and answers the test queries
with the same lists and weights: ndcg@10, the share of the ten best answers that stay, bytes, and the time to score R
candidates of a query, kinds interleaved call by call. (``query.item_vectors`` chooses the kind when a run is trained.)

    python benchmarks/item_vectors.py RUN [--queries 2000] [--out benchmarks/results/item_vectors.json]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from encoding import timed
from shared import ROOT, Results, Row, table

from sparcode.errors import DataError
from sparcode.eval.evaluate import take
from sparcode.eval.machine import one_thread
from sparcode.eval.metrics import overlap, per_query_metrics
from sparcode.index.arrays import open_encoder_files
from sparcode.query.pipeline import Pipeline
from sparcode.query.rescore.item_vectors import KINDS, stored_arrays
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.run import Run
from sparcode.types import Queries


@one_thread()
def main(arguments: list[str] | None = None) -> Results:
    """Measure every kind on one run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a trained and indexed run")
    parser.add_argument("--queries", type=int, default=2000, help="test queries, the first ones")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "item_vectors.json")
    given = parser.parse_args(arguments)
    run = Run.open(given.run)
    results = Results(given.out, (__doc__ or "").splitlines()[0], rendered)
    config = {"model": run.model_hash[:12], "items": len(run.dataset.item_ids), "queries": given.queries}
    results.cell(config, lambda: measure(run, given.queries))
    results.show()
    return results


def measure(run: Run, queries: int) -> Row:
    """Return the figures of every kind; float32 is the reference."""
    held = run.held_out("test")
    if held is None:
        raise DataError(f"{run.folder} holds no test set; train with --split-by leave-last-out")
    part = take(held, np.arange(min(queries, len(held))))
    pipelines = {kind: with_items(run, kind) for kind in KINDS}
    answers = {kind: pipeline.retrieve(part.queries, 10) for kind, pipeline in pipelines.items()}
    gains = {
        kind: per_query_metrics(hits.ids, part.target_indptr, part.target_items, (10,))["ndcg@10"]
        for kind, hits in answers.items()
    }
    times = timed({kind: scoring(pipeline, part.queries) for kind, pipeline in pipelines.items()}, 3000)
    row: Row = {}
    for kind, pipeline in pipelines.items():
        row[kind] = {
            "rescoring_bytes": pipeline.rescorer.bytes,
            "ndcg@10": round(float(gains[kind].mean()), 5),
            "difference": round(float((gains[kind] - gains["float32"]).mean()), 6),
            "overlap@10": round(float(overlap(answers[kind].ids, answers["float32"].ids, 10).mean()), 5),
            "score_us": times[kind],
        }
    return row | {"candidates": pipelines["float32"].default_rescore}


def with_items(run: Run, kind: str) -> Pipeline:
    """Return the pipeline of a run with its item vectors stored as ``kind``."""
    spec, arrays = open_encoder_files(run.model_folder, "rescorer")
    tokens = Rescorer(spec, arrays).flat.reshape(int(spec["items"]), int(spec["item_tokens"]), int(spec["width"]))
    other = {name: array for name, array in arrays.items() if name not in ("item_tokens", "item_scales")}
    pipeline = Pipeline.open(run.folder)
    pipeline.rescorer = Rescorer(spec | {"item_vectors": kind}, other | stored_arrays(tokens, kind))
    return pipeline.with_settings(pipeline.settings)


def scoring(pipeline: Pipeline, queries: Queries) -> Callable[[int], object]:
    """Return an action that scores the R candidates of one of 64 queries."""
    state = pipeline.encode(queries.slice(0, min(64, len(queries))))
    found = pipeline.search(state, pipeline.default_rescore)
    ready = [(state.tokens[b], found.ids[b][found.ids[b] >= 0]) for b in range(len(state.tokens))]
    return lambda i: pipeline.rescorer.score(*ready[i % len(ready)])


def rendered(rows: list[Row]) -> str:
    """Return one table, a line a kind."""
    body = [
        [
            kind, f"{own['rescoring_bytes'] / 1e6:.3f}", f"{own['ndcg@10']:.4f}", f"{own['difference']:+.5f}",
            f"{own['overlap@10']:.4f}", f"{own['score_us']['p50']:.2f}", f"{own['score_us']['p95']:.2f}",
        ]
        for row in rows for kind, own in ((kind, row[kind]) for kind in KINDS)
    ]  # fmt: skip
    header = ["item vectors", "rescoring MB", "ndcg@10", "difference", "overlap@10", "score p50 us", "p95 us"]
    return table(header, body)


if __name__ == "__main__":
    main()
