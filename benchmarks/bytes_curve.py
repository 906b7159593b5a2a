"""What does a byte buy? NDCG@10 of one trained run under indexes of many sizes, beside dense search at its own sizes.

One run is trained with the defaults, or given with --run; its index is built anew for each point under a byte budget,
a share of the bytes of an HNSW index over the same items: all families, and item lists alone. Dense points are exact
search over the two-tower's float32 vectors, and those with the graph of HNSW (64 links of 4 bytes an item; M = 32).
Quality is measured on test; the sizes are points of a curve, none of them is chosen.

    python benchmarks/bytes_curve.py DATA [--run RUN] [--set KEY=VALUE]
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared import Results, Row, config_of, folders, label, notes, parser_of, table, trained

from sparcode.build.job import build_index
from sparcode.config import updated
from sparcode.errors import BudgetError
from sparcode.eval.evaluate import EvaluationResult, evaluate
from sparcode.eval.machine import one_thread
from sparcode.files import atomic_path
from sparcode.retrievers.evaluation import evaluation_set_of
from sparcode.retrievers.registry import open_retriever
from sparcode.run import Run

SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Byte budgets, as shares of HNSW's bytes."""
KINDS: dict[str, Row] = {"all families": {}, "item lists alone": {"families.learned.enabled": False}}
LINK_BYTES = 2 * 32 * 4
SYSTEMS = ("sparcode-cache", "sparcode")
METRICS = ("recall@10", "ndcg@10", "recall@50")


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure what is missing, write JSON, Markdown and the plot, print the table."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--run", type=Path, metavar="RUN", help="a trained run; absent: one is trained")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="absent: beside the results")
    options = parser.parse_args(arguments)
    work, out = folders(options, "bytes_curve")
    config = updated(config_of(options), {"baselines.two_tower": True})
    run = Run.open(options.run) if options.run else trained(options.data, work, "run", config, baselines=True)
    results = Results(out, f"{label(options.data)}: quality against bytes", markdown_of)
    identity = {"data": label(options.data), "model_hash": run.model_hash}
    results.cell(identity | {"system": "two-tower"}, lambda: measure_dense(run))
    budget = hnsw_bytes(run) / 1e6
    for kind in KINDS:
        for share in SHARES:
            point = {"kind": kind, "share": share, "budget_mb": share * budget}
            results.cell(identity | point, lambda p=point: measure(run, work, p))
    plot(results.asked, options.plot or out.with_suffix(".png"))
    results.show()
    return results


def hnsw_bytes(run: Run) -> int:
    """Return the bytes of an HNSW index over the two-tower's item vectors."""
    exact: Any = open_retriever(run, "two-tower")
    return int(exact.bytes + LINK_BYTES * run.record["items"])


def measure_dense(run: Run) -> Row:
    """Evaluate exact two-tower search; bytes of its vectors, and with the graph of an HNSW index."""
    with one_thread():
        exact: Any = open_retriever(run, "two-tower")
        row = _figures(_evaluated(run, "two-tower"))
    return {"two-tower": row, "vector_bytes": exact.bytes, "hnsw_bytes": hnsw_bytes(run)}


def measure(run: Run, work: Path, point: Row) -> Row:
    """Build one index beside the run, which stays as it is, and evaluate it with and without rescoring."""
    copy = work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run.folder, copy, ignore=shutil.ignore_patterns("index", "index-work", "query.json"))
    with one_thread():
        try:
            built = build_index(copy, policy="budget", budget_mb=point["budget_mb"], overrides=KINDS[point["kind"]])
        except BudgetError as problem:
            return {"infeasible": str(problem)}
        row: Row = {name: _figures(_evaluated(Run.open(copy), name)) for name in SYSTEMS}
    shutil.rmtree(copy)
    return row | {"cache_bytes": built["cache_bytes"], "build_s": built["build_s"]}


def _evaluated(run: Run, name: str) -> EvaluationResult:
    return evaluate(open_retriever(run, name), evaluation_set_of(run, "test"), run.record["items"])


def _figures(result: EvaluationResult) -> Row:
    figures = {name: result.metrics[name] for name in METRICS}
    return {"metrics": figures, "intervals": {name: list(result.intervals[name]) for name in METRICS}}


def markdown_of(rows: list[Row]) -> str:
    """Return the table of all points."""
    header = ["index", "MB", "ndcg@10 cache", "ndcg@10 rescored", "recall@50 cache", "recall@50 rescored"]
    lines = [
        "MB of the cache (lists, offsets, fallback); rescoring reads item vectors besides, as exact search does",
        "brackets: 95 % bootstrap interval over test users; one seed",
    ]
    lines += [f"{_name(row)}: {row['infeasible']}" for row in rows if "infeasible" in row]
    built = [row for row in rows if "infeasible" not in row]
    return table(header, [cells for row in built for cells in _cells(row)]) + notes(lines)


def _cells(row: Row) -> list[list[str]]:
    if "two-tower" in row:
        shown = [_interval(row["two-tower"]), "-", f"{row['two-tower']['metrics']['recall@50']:.4f}", "-"]
        sizes = (("two-tower, exact", row["vector_bytes"]), ("two-tower, HNSW at best", row["hnsw_bytes"]))
        return [[name, f"{size / 1e6:.2f}", *shown] for name, size in sizes]
    quality = [_interval(row[name]) for name in SYSTEMS]
    recall = [f"{row[name]['metrics']['recall@50']:.4f}" for name in SYSTEMS]
    return [[_name(row), f"{row['cache_bytes'] / 1e6:.2f}", *quality, *recall]]


def _name(row: Row) -> str:
    return f"{row['config']['kind']}, {row['config']['share']:.0%} of HNSW"


def _interval(figures: Row) -> str:
    low, high = figures["intervals"]["ndcg@10"]
    return f"{figures['metrics']['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]"


def plot(rows: list[Row], path: Path) -> None:
    """Draw NDCG@10 of the cache against its bytes, one line a kind of index, and dense search beside."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for kind in KINDS:
        points = [row for row in rows if "cache_bytes" in row and row["config"]["kind"] == kind]
        sizes = [row["cache_bytes"] / 1e6 for row in points]
        quality = [row["sparcode-cache"]["metrics"]["ndcg@10"] for row in points]
        axes.plot(sizes, quality, marker="o", label=f"sparcode-cache: {kind}")
    for row in rows:
        if "two-tower" in row:
            value = row["two-tower"]["metrics"]["ndcg@10"]
            axes.plot([row["vector_bytes"] / 1e6], [value], "D", color="#2c3e50", label="two-tower, exact (vectors)")
            axes.plot([row["hnsw_bytes"] / 1e6], [value], "s", color="#2980b9", label="two-tower, HNSW at best")
    axes.set_xlabel("MB read by retrieval (sparcode: cache, without rescoring)")
    axes.set_ylabel("test NDCG@10")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=140)


if __name__ == "__main__":
    main()
