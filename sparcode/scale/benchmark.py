"""`sparcode benchmark --scale`: every size from world to tables; cells are kept and a later start goes on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import ConfigError, MissingExtraError
from sparcode.eval.machine import git_commit, machine_info, one_thread
from sparcode.files import write_json, write_text
from sparcode.run import Run
from sparcode.scale.dense_cells import DenseCells
from sparcode.scale.full_run import Codes
from sparcode.scale.opening import measure_opening
from sparcode.scale.peers.registry import dense_peers
from sparcode.scale.plan import Plan
from sparcode.scale.prepare import Prepared, Report, prepare, world_of
from sparcode.scale.retrieval import measure_retrieval
from sparcode.scale.whole_queries import measure_quality, measure_whole
from sparcode.scale.workload import Workload

DIAL = (0.0, 0.5, 1.0)
WARM_UP = Plan(1_000, 200, 100, Codes(codewords=8, length=32), epochs=1)
"""Built before all others, so that the time of no build holds the compilation of kernels."""
OPTIMUM_USERS = 256


def benchmark_scale(plans: Sequence[Plan], out: Path, report: Report) -> dict[str, Any]:
    """Measure all sizes and return the document, which is also written to ``out/scale.json`` after every size.

    Raises ConfigError when there is no size, RunError when a build fails.
    """
    if not plans:
        raise ConfigError("--scale: no size given; expected numbers of items such as 10000,100000")
    document: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"), "commit": git_commit(), "machine": machine_info(),
        "threads": 1, "sizes": [],
    }  # fmt: skip
    for plan in plans:
        document["sizes"].append(measure_size(plan, out, report))
        write_json(out / "scale.json", document)
    return document


def sizes_of(text: str) -> list[int]:
    """Read numbers of items separated by commas; ConfigError unless all are whole numbers from 1,000 to 2^24 - 1."""
    sizes = []
    for part in text.split(","):
        digits = part.strip().replace("_", "")
        if not digits.isdecimal() or not 1_000 <= int(digits) < 1 << 24:
            raise ConfigError(f"--scale {text!r}: found {part.strip()!r}, expected items as whole numbers from 1000 on")
        sizes.append(int(digits))
    return sizes


@one_thread("torch")
def run_scale_benchmark(
    sizes: Sequence[int], out: Path, *, interaction: float = 0.5, seed: int = 0, report: Report = print
) -> dict[str, Any]:
    """Measure worlds of the given sizes in one thread; write ``scale.json``, ``scale.md`` and plots into ``out``."""
    from sparcode.report.scale.plots import plot_scale
    from sparcode.report.scale.tables import scale_markdown

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    plans = [Plan.of(items, interaction=interaction, seed=seed) for items in sizes]
    prepare(WARM_UP, out, lambda line: None)
    document = benchmark_scale(plans, out, report)
    document["dial"] = measure_dial(min(sizes), out, seed=seed, report=report)
    write_json(out / "scale.json", document)
    write_text(out / "scale.md", scale_markdown(document))
    written = [out / "scale.json", out / "scale.md"]
    try:
        written += plot_scale(document, out)
    except MissingExtraError as problem:
        report(f"no plots: {problem}")
    for path in written:
        report(f"wrote {path}")
    return document


def measure_size(plan: Plan, out: Path, report: Report) -> dict[str, Any]:
    """Return the figures of one size."""
    prepared = prepare(plan, out, report)
    workload = Workload(prepared)
    cells = DenseCells(prepared, workload, report)
    found = {name: cells.measure(name) for name in plan.dense}
    report(f"{plan.items:,} items: timing")
    retrieval = measure_retrieval(workload, cells, found)
    graph = best_graph(retrieval, found)
    peer = cells.opened(graph, found[graph])
    peer.set(found[graph]["10"]["parameters"])
    return {
        "items": plan.items, "interaction": plan.interaction, "seed": plan.seed, "users": plan.users,
        "codes": vars(plan.codes),
        "index": {run.folder.name: _index(run) for run in (prepared.learned, prepared.default)},
        "optimum_ndcg@10": _optimum(plan), "dense": found, "retrieval": retrieval, "best_graph": graph,
        "whole": measure_whole(workload, peer), "opening": measure_opening(workload, cells, found),
        "postings_of": _bytes(prepared, workload),
    }  # fmt: skip


def measure_dial(items: int, out: Path, *, seed: int = 0, report: Report = print) -> list[dict[str, Any]]:
    """Return the quality of index and two-tower beside the optimum, from dot product to interaction."""
    rows = []
    for interaction in DIAL:
        plan = Plan.of(items, interaction=interaction, seed=seed)
        report(f"{items:,} items, interaction {interaction:g}")
        quality = measure_quality(Workload(prepare(plan, out, report)))
        rows.append({"interaction": interaction, "items": items, "optimum_ndcg@10": _optimum(plan), "systems": quality})
    return rows


def best_graph(retrieval: dict[str, Any], found: dict[str, Any]) -> str:
    """Return the graph engine with the lowest p50 at k = 10 among those that reach their index recall."""
    latency = retrieval["latency_us"]["10"]
    graphs = [name for name in latency if name in found and dense_peers()[name].kind == "graph"]
    reached = [name for name in graphs if found[name]["10"]["reached"]] or graphs
    if not reached:
        raise ConfigError(
            "no graph engine is installed to compare with; install the extra: pip install sparcode[bench]"
        )
    return min(reached, key=lambda name: float(latency[name]["p50"]))


def _index(run: Run) -> dict[str, Any]:
    from sparcode.files import read_json

    return dict(read_json(run.folder / "built.json"))


def _optimum(plan: Plan) -> float:
    """Return the largest NDCG@10 that a ranking which knows the law and the users can expect."""
    users = np.arange(min(OPTIMUM_USERS, plan.users))
    return round(float(world_of(plan).expected_ndcg(users, 10)), 5)


def _bytes(prepared: Prepared, workload: Workload) -> dict[str, dict[str, int]]:
    """Return what the online path opens, by part, for both indexes."""
    result = {}
    for run in (prepared.learned, prepared.default):
        pipeline = workload.pipelines[run.folder.name]
        parts = {stem: run.model_folder / f"{stem}.safetensors" for stem in ("rescorer", "encoder")}
        sizes = {f"{stem}_bytes": path.stat().st_size for stem, path in parts.items()}
        result[run.folder.name] = {"cache_bytes": int(pipeline.searcher.index.cache_bytes)} | sizes
    return result
