"""What does item coverage cost, and what does it bring? One run under one byte budget, with and without an item floor.

One run is trained with the defaults, or given with --run. The budget is half the bytes that a build without one takes,
for all families and for learned lists alone; then every item with a training event must be in 0, 1, 2, ... lists.
Quality and coverage@10 (share of the catalogue among all answers) are measured on test; nothing is chosen.

    python benchmarks/item_floor.py DATA [--run RUN] [--set KEY=VALUE]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared import Results, Row, config_of, folders, hold_run, label, notes, parser_of, table, trained

from sparcode.build.job import build_index
from sparcode.errors import BudgetError
from sparcode.eval.evaluate import evaluate
from sparcode.eval.machine import one_thread
from sparcode.retrievers.evaluation import evaluation_set_of
from sparcode.retrievers.registry import open_retriever
from sparcode.run import Run

KINDS: dict[str, Row] = {"all families": {}, "learned lists alone": {"families.item.enabled": False}}
FLOORS = (0, 1, 2, 5, 20)
SHARE = 0.5
SYSTEMS = ("sparcode-cache", "sparcode")
METRICS = ("ndcg@10", "coverage@10")
BUILT = ("cache_bytes", "codes", "learned_postings", "item_floor_postings", "items_in_no_list_of", "build_s")


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure what is missing, write JSON and Markdown, print the table."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--run", type=Path, metavar="RUN", help="a trained run; absent: one is trained")
    options = parser.parse_args(arguments)
    work, out = folders(options, "item_floor")
    config = config_of(options)
    run = Run.open(options.run) if options.run else trained(options.data, work, "run", config, baselines=False)
    results = Results(out, f"{label(options.data)}: item coverage under a byte budget", markdown_of)
    identity = {"data": label(options.data), "model_hash": run.model_hash}
    for kind in KINDS:
        whole = results.cell(identity | {"kind": kind, "floor": None}, lambda k=kind: measure(run, work, k))
        budget = SHARE * whole["cache_bytes"] / 1e6
        for floor in FLOORS:
            point = {"kind": kind, "floor": floor, "budget_mb": budget}
            given = {"policy": "budget", "budget_mb": budget, "item_floor": floor}
            results.cell(identity | point, lambda k=kind, g=given: measure(run, work, k, **g))
    results.show()
    return results


def measure(run: Run, work: Path, kind: str, **given: Any) -> Row:
    """Build one index beside the run, which stays as it is, and evaluate it with and without rescoring."""
    copy = work / "copy"
    hold_run(run.folder, copy)
    with one_thread():
        try:
            built = build_index(copy, overrides=KINDS[kind], **given)
        except BudgetError as problem:
            return {"infeasible": str(problem)}
        opened = Run.open(copy)
        test, items = evaluation_set_of(opened, "test"), int(opened.record["items"])
        row: Row = {}
        for name in SYSTEMS:
            result = evaluate(open_retriever(opened, name), test, items)
            row[name] = {metric: result.metrics[metric] for metric in METRICS}
            row[name]["interval"] = list(result.intervals["ndcg@10"])
    return row | {name: built[name] for name in BUILT}


def markdown_of(rows: list[Row]) -> str:
    """Return the table of all builds."""
    header = [
        "lists", "item floor", "MB", "only for items", "items in no list: learned", "of any family",
        "ndcg@10 cache", "ndcg@10 rescored", "coverage@10 cache", "coverage@10 rescored",
    ]  # fmt: skip
    lines = [
        f"default: built without a budget; the others have {SHARE:.0%} of its bytes",
        "only for items: postings that nothing but the item floor keeps",
        "brackets: 95 % bootstrap interval over test users; one seed",
    ]
    lines += [f"{_name(row)}: {row['infeasible']}" for row in rows if "infeasible" in row]
    built = [row for row in rows if "infeasible" not in row]
    return table(header, [_cells(row) for row in built]) + notes(lines)


def _name(row: Row) -> str:
    floor = row["config"]["floor"]
    return f"{row['config']['kind']}, {'default' if floor is None else f'floor {floor}'}"


def _cells(row: Row) -> list[str]:
    kind, floor = row["config"]["kind"], row["config"]["floor"]
    missing = row["items_in_no_list_of"]
    cells = [kind, "default" if floor is None else str(floor), f"{row['cache_bytes'] / 1e6:.3f}"]
    cells += [f"{row['item_floor_postings']:,}", f"{missing['learned']:,}", f"{missing['any']:,}"]
    for name in SYSTEMS:
        low, high = row[name]["interval"]
        cells.append(f"{row[name]['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]")
    return cells + [f"{row[name]['coverage@10']:.3f}" for name in SYSTEMS]


if __name__ == "__main__":
    main()
