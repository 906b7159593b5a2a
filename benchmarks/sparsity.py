"""What sets the sparsity of the lists best: a bias steered in training, a bias set afterwards, or a budget?

For every density P (percent of stored codes x items) four indexes are built, one after the other, and each is evaluated
on test right after its build:

    trained       sparsity.target_density=P in training; build-index uses the bias that came out
    post-hoc      a model trained without sparsity; build-index --density P
    budget-bytes  the same model, policy budget, budget_mb = cache bytes of post-hoc
    budget-reads  the same model, policy budget, postings_per_query = that of post-hoc (validation)

The learned family alone answers (families.item.enabled=false) and reads one code a token (families.learned.probes=1),
so that neither counted lists nor the number of probes blurs the comparison. Finished cells are not measured again.

    python benchmarks/sparsity.py ml-100k [--densities 0.5,1,5] [--trained 0.5,5] [--epochs 16] [--set model.heads=4]
    python benchmarks/sparsity.py ml-100k --run RUN --densities 0.05,0.1,0.5,1,5,10

With ``--run`` nothing is trained: the index of that finished run is built again and again (in a copy by hard links) and
the trained arm is left out. A fourth arm is added, ``whole``: post-hoc with all families and probes of the run, which
shows what the density of the learned lists is worth beside item lists.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared import Results, Row, config_of, folders, hold_run, label, notes, parser_of, table, trained

from sparcode.build.job import build_index
from sparcode.config import Config, updated
from sparcode.errors import BudgetError
from sparcode.eval.evaluate import evaluate
from sparcode.eval.machine import one_thread
from sparcode.files import read_json
from sparcode.query.pipeline import Pipeline
from sparcode.retrievers.evaluation import evaluation_set_of
from sparcode.retrievers.learned import SparcodeRetriever
from sparcode.run import Run
from sparcode.types import Queries

ALONE = {"families.item.enabled": False, "families.learned.probes": 1}
UNSTEERED = {"sparsity.target_density": None, "sparsity.bias": None}
TOLERANCE = 10.0
"""Largest accepted distance of a built index from its target density, percent of the target."""
METRICS = ("ndcg@10", "recall@10", "recall@50")
BUILT = (
    "policy", "offset", "mu", "lambda", "codes", "items", "learned_postings", "density_percent", "mean_list",
    "longest_list", "empty_lists", "items_in_no_list", "cache_bytes", "build_s",
)  # fmt: skip
HEADER = [
    "density %", "cut", "built density %", "off target %", "ndcg@10 cache", "ndcg@10 rescored", "recall@50 cache",
    "recall@50 rescored", "cache MB", "codes", "postings a query", "empty lists", "items in no list",
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure what is missing, write JSON and Markdown, print the table."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--densities", type=_numbers, default=[0.5, 1.0, 5.0], metavar="P,...", help="percent")
    parser.add_argument("--trained", type=_numbers, metavar="P,...", help="densities to train for; absent: all")
    parser.add_argument("--run", type=Path, metavar="RUN", help="build the index of this run; train nothing")
    options = parser.parse_args(arguments)
    work, out = folders(options, "sparsity")
    config = updated(config_of(options), ALONE | {"baselines.two_tower": False} | UNSTEERED)
    question = f"{label(options.data)}: bias steered in training, bias set afterwards, or budget; learned family alone"
    results = Results(out, question, markdown_of)
    for density in options.densities:
        if options.run is not None:
            _rebuild_density(results, label(options.data), Run.open(options.run), work, density)
        else:
            steered = options.trained is None or density in options.trained
            _measure_density(results, options.data, work, config, density, steered)
    results.show()
    return results


def _measure_density(results: Results, data: str, work: Path, config: Config, density: float, steered: bool) -> None:
    def cell(cut: str, used: Config, **build: float) -> Row:
        identity = {"data": label(data), "cut": cut, "density": density, "run": used.model_dump(), "build": build}
        name = "plain" if used is config else f"density-{density:g}"
        return results.cell(identity, lambda: measure(trained(data, work, name, used, baselines=False), cut, build))

    if steered:
        cell("trained", updated(config, {"sparsity.target_density": density}))
    reference = cell("post-hoc", config, density=density)
    cell("budget-bytes", config, budget_mb=reference["cache_bytes"] / 1e6)
    cell("budget-reads", config, postings_per_query=reference["postings_per_query_validation"])


def _rebuild_density(results: Results, data: str, run: Run, work: Path, density: float) -> None:
    copy = work / f"copy-{run.model_hash[:8]}"

    def cell(cut: str, changes: Row, **build: float) -> Row:
        identity = {
            "data": data, "cut": cut, "density": density, "model": run.model_hash, "overrides": changes,
            "run": run.config.model_dump(), "build": build,
        }  # fmt: skip

        def rebuilt() -> Row:
            hold_run(run.folder, copy)
            return measure(Run.open(copy), cut, build, changes)

        return results.cell(identity, rebuilt)

    reference = cell("post-hoc", ALONE, density=density)
    cell("budget-bytes", ALONE, budget_mb=reference["cache_bytes"] / 1e6)
    cell("budget-reads", ALONE, postings_per_query=reference["postings_per_query_validation"])
    cell("whole", {}, density=density)


def measure(run: Run, cut: str, build: dict[str, float], changes: Row | None = None) -> Row:
    """Build the index of a run with one cut and evaluate it on test, on one thread; ``changes``: for the build."""
    print(f"{run.folder.name}: {cut} {build or ''}", flush=True)
    with one_thread():
        try:
            built = _build_trained(run) if cut == "trained" else None
            row = built or _built(build_index(run.folder, overrides=changes, **_arguments(build)))
        except BudgetError as problem:
            return {"infeasible": str(problem)}
        return row | _quality(run)


def _arguments(build: dict[str, float]) -> dict[str, Any]:
    return {"policy": "global-bias" if "density" in build else "budget", **build}


def _build_trained(run: Run) -> Row:
    """Build with default settings, which must mean the trained bias; with that bias by name where they do not."""
    bias = float(read_json(run.model_folder / "rescorer.json")["bias"])
    summary = build_index(run.folder)
    default = {"default_offset": summary["offset"], "default_density_percent": summary["density_percent"]}
    honoured = math.isclose(summary["offset"], bias, rel_tol=1e-6, abs_tol=1e-6)
    if not honoured:
        summary = build_index(run.folder, policy="global-bias", bias=bias)
    return _built(summary) | default | {"trained_bias": bias, "default_uses_trained_bias": honoured}


def _built(summary: Row) -> Row:
    return {key: summary[key] for key in BUILT} | {"postings_per_query_validation": summary["postings_per_query"]}


def _quality(run: Run) -> Row:
    evaluation_set = evaluation_set_of(run, "test")
    row: Row = {"training": run.record["training"]["sparcode"]}
    pipeline = Pipeline.open(run.folder)
    for name, rescore in (("sparcode-cache", 0), ("sparcode", run.config.query.rescore)):
        retriever = SparcodeRetriever(pipeline, rescore=rescore, name=name)
        result = evaluate(retriever, evaluation_set, run.dataset.item_count, seed=run.config.seed)
        row[name] = {
            "metrics": {metric: result.metrics[metric] for metric in METRICS},
            "intervals": {metric: list(result.intervals[metric]) for metric in METRICS},
            "queries": len(evaluation_set),
            "fill_rate": result.fill_rate,
        }
    return row | {"postings_per_query": postings_read(pipeline, evaluation_set.queries)}


def postings_read(pipeline: Pipeline, queries: Queries) -> float:
    """Return the mean number of postings the queries read: the sum of the lengths of their lists."""
    lengths, total = pipeline.searcher.index.lengths(), 0
    for start in range(0, len(queries), 4096):
        state = pipeline.encode(queries.slice(start, min(start + 4096, len(queries))))
        total += int(np.sum(lengths[state.rows]))
    return total / len(queries)


def off_target(row: Row) -> float:
    """Return the distance of the built density from the one asked for, percent of the latter."""
    return 100.0 * (row["density_percent"] / row["config"]["density"] - 1.0)


def markdown_of(rows: list[Row]) -> str:
    """Return the table of all cells and what must be known to read it."""
    built = [row for row in rows if "infeasible" not in row]
    lines = [f"{_name(row)}: {row['infeasible']}" for row in rows if "infeasible" in row]
    if built:
        queries = built[0]["sparcode"]["queries"]
        lines.append(
            f"test, {queries:,} queries; brackets: 95 % bootstrap interval over users; one probe a token but in `whole`"
        )
        lines.append(
            "postings a query: mean over test; budget-bytes is given the cache bytes of post-hoc, budget-reads its "
            "postings a query on validation"
        )
        if any(row["config"]["cut"] == "whole" for row in built):
            lines.append("whole: post-hoc beside the item lists of the run, probes fitted; density of learned lists")
        lines.append("a budget in bytes stores only as many codes, the busiest, as it can give 16 postings each")
    for row in built:
        if row["config"]["cut"] == "trained" and abs(off_target(row)) > TOLERANCE:
            lines.append(f"{_name(row)}: more than {TOLERANCE:g} % off the target")
        if not row.get("default_uses_trained_bias", True):
            lines.append(
                f"{_name(row)}: build-index by itself used offset {row['default_offset']:.4g} (density "
                f"{row['default_density_percent']:.3g} %) in place of the trained {row['trained_bias']:.4g}; "
                "this row was built with --bias"
            )
    return table(HEADER, [_cells(row) for row in built]) + notes(lines)


def _name(row: Row) -> str:
    return f"{row['config']['cut']} at {row['config']['density']:g} %"


def _cells(row: Row) -> list[str]:
    cut = row["config"]["cut"]
    cells = [f"{row['config']['density']:g}", cut, f"{row['density_percent']:.3f}"]
    cells.append(f"{off_target(row):+.1f}" if cut in ("trained", "post-hoc", "whole") else "-")
    for system in ("sparcode-cache", "sparcode"):
        low, high = row[system]["intervals"]["ndcg@10"]
        cells.append(f"{row[system]['metrics']['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]")
    cells += [f"{row[system]['metrics']['recall@50']:.4f}" for system in ("sparcode-cache", "sparcode")]
    cells += [f"{row['cache_bytes'] / 1e6:.3f}", f"{row['codes']:,}", f"{row['postings_per_query']:,.1f}"]
    return [*cells, f"{row['empty_lists']:,}", f"{row['items_in_no_list']:,}"]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, e.g. 0.5,1,5") from None


if __name__ == "__main__":
    main()
