"""Does sparcode hold against the two-tower over several seeds, and what does training cost?

For every seed: train sparcode and the two-tower with the same encoder, loop and budget, build the index with the
configured policy, evaluate all retrievers on test. Reported: means over seeds, the paired bootstrap interval of
NDCG@10 sparcode minus two-tower (exact search) of each seed, the same pooled (each query's difference averaged over
the seeds, then users resampled), seconds and positions/s of training, share of padding. Finished runs are reused,
finished seeds are not measured again.

    python benchmarks/seeds.py ml-100k --config configs/ml-100k.toml --seeds 0,1,2
    python benchmarks/seeds.py DATA --config FILE --columns user=u,item=i,time=t --where 'in_sasrec=true'
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from shared import Results, Row, config_of, folders, label, notes, parser_of, table, trained

from sparcode.build.job import build_index
from sparcode.config import Config, updated
from sparcode.eval.bootstrap import paired_difference
from sparcode.eval.evaluate import EvaluationResult, compare, evaluate, exhaustive_sample
from sparcode.eval.machine import one_thread
from sparcode.eval.pairing import ordinals
from sparcode.index.arrays import read_arrays, write_arrays
from sparcode.retrievers.evaluation import EXHAUSTIVE, evaluation_set_of
from sparcode.retrievers.registry import default_retrievers, open_retrievers
from sparcode.run import Run

OURS, THEIRS = "sparcode", "two-tower"
METRICS = ("recall@10", "ndcg@10", "recall@50")
BUILT = ("policy", "codes", "density_percent", "cache_bytes", "postings_per_query", "empty_lists", "build_s")
VALUES = "seeds_ndcg.safetensors"
"""Per-query NDCG@10 of a seed, kept in its run: users (B,) int32, and (B,) float64 by retriever."""


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure the seeds that are missing, write JSON and Markdown, print the tables."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2], metavar="S,...")
    parser.add_argument(
        "--retrievers", metavar="NAME,...", help="absent: all the run holds; sparcode and two-tower stay"
    )
    options = parser.parse_args(arguments)
    work, out = folders(options, "seeds")
    config = updated(config_of(options), {"baselines.two_tower": True})
    names = options.retrievers and list(dict.fromkeys([OURS, THEIRS, *options.retrievers.split(",")]))
    question = f"{label(options.data)}: sparcode against the two-tower over seeds {options.seeds}"
    results = Results(out, question, lambda rows: markdown_of(rows, work))
    for seed in options.seeds:
        _measure_seed(results, options.data, work, updated(config, {"seed": seed}), names)
    results.show()
    return results


def _measure_seed(results: Results, data: str, work: Path, config: Config, names: list[str] | None) -> None:
    run = trained(data, work, f"seed-{config.seed}", config, baselines=True)
    identity = {
        "data": label(data), "run": config.model_dump(), "retrievers": names, "folder": run.folder.name,
        "model_hash": run.model_hash,
    }  # fmt: skip
    if not (run.folder / VALUES).exists():  # the pooled interval needs every user's values: measure again
        results.rows = [row for row in results.rows if row["config"] != identity]
    results.cell(identity, lambda: measure(run, names))


def measure(run: Run, names: list[str] | None) -> Row:
    """Build and evaluate one seed on one thread; the per-user values go into the run folder."""
    print(f"{run.folder.name}: building and evaluating", flush=True)
    with one_thread():
        built = build_index(run.folder)
        results = {each.retriever: each for each in _evaluated(run, names or default_retrievers(run))}
    ours, theirs = results[OURS], results[THEIRS]
    values = {OURS: ours.values["ndcg@10"], THEIRS: theirs.values["ndcg@10"]}
    write_arrays(run.folder / VALUES, {"users": ours.evaluation_set.users, **values}, {})
    return {
        "seed": run.config.seed,
        "training": run.record["training"],
        "index": {key: built[key] for key in BUILT if key in built},
        "results": [result.to_json() for result in results.values()],
        "difference": compare(ours, theirs, "ndcg@10", seed=run.config.seed)._asdict(),
    }


def _evaluated(run: Run, names: list[str]) -> list[EvaluationResult]:
    full, items, seed = evaluation_set_of(run, "test"), run.dataset.item_count, run.config.seed
    results = []
    for retriever in open_retrievers(run, names):
        sampled = retriever.name == EXHAUSTIVE
        part, note = exhaustive_sample(full, items, seed=seed) if sampled else (full, None)
        results.append(evaluate(retriever, part, items, seed=seed, note=note))
    return results


def pooled(rows: list[Row], work: Path) -> Row:
    """Average each query's values over the seeds, then bootstrap the users: means, difference, interval."""
    parts = [read_arrays(work / row["config"]["folder"] / VALUES) for row in rows]
    # Item ids differ between seeds, so that a query is known by its user and its place among the user's.
    keys = [list(zip(part["users"].tolist(), ordinals(part["users"]).tolist(), strict=True)) for part in parts]
    queries = sorted(set(keys[0]).intersection(*keys[1:]))
    places = [[{key: row for row, key in enumerate(own)}[key] for key in queries] for own in keys]
    means = [
        np.mean([part[name][rows] for part, rows in zip(parts, places, strict=True)], axis=0) for name in (OURS, THEIRS)
    ]
    users = np.array([user for user, _ in queries])
    difference = paired_difference(*means, users=users)._asdict()
    figures = {OURS: float(means[0].mean()), THEIRS: float(means[1].mean())}
    return figures | {"users": len(np.unique(users)), "queries": len(queries), "difference": difference}


def markdown_of(rows: list[Row], work: Path) -> str:
    """Return the three tables: quality, difference, training."""
    return "\n".join([_quality_table(rows), _difference_table(rows, work), _training_table(rows)])


def _quality_table(rows: list[Row]) -> str:
    names = [result["retriever"] for result in rows[0]["results"]]
    body = []
    for name in names:
        found = [result["metrics"] for row in rows for result in row["results"] if result["retriever"] == name]
        body.append([name, *(_mean_and_range([metrics[metric] for metrics in found]) for metric in METRICS)])
    queries = rows[0]["results"][0]["queries"]
    remarks = {f"{each['retriever']}: {each['note']}" for row in rows for each in row["results"] if each.get("note")}
    lines = [f"test, {queries:,} queries; mean over {len(rows)} seeds, in brackets the least and greatest seed"]
    return table(["retriever", *METRICS], body) + notes([*lines, *sorted(remarks)])


def _mean_and_range(values: list[float]) -> str:
    return f"{np.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}]"


def _difference_table(rows: list[Row], work: Path) -> str:
    body = []
    for row in rows:
        metrics = {result["retriever"]: result["metrics"]["ndcg@10"] for result in row["results"]}
        body.append([str(row["seed"]), *_difference(metrics, row["difference"])])
    together = pooled(rows, work)
    body.append(["all", *_difference(together, together["difference"])])
    header = ["seed", f"{OURS} ndcg@10", f"{THEIRS} ndcg@10", "difference", "95 % interval", "share of resamples <= 0"]
    line = "paired bootstrap over users; all: each user's difference averaged over the seeds first, so the interval is "
    return table(header, body) + notes([line + "about users, for these seeds"])


def _difference(metrics: Row, difference: Row) -> list[str]:
    interval = f"[{difference['low']:+.4f}, {difference['high']:+.4f}]"
    share = f"{difference['share_not_above']:.3f}"
    return [f"{metrics[OURS]:.4f}", f"{metrics[THEIRS]:.4f}", f"{difference['difference']:+.4f}", interval, share]


def _training_table(rows: list[Row]) -> str:
    body = []
    for row in rows:
        for name in (OURS, THEIRS):
            part = row["training"][name]
            cells = [f"{part['seconds']:.1f}", f"{part['positions_per_second']:,.0f}", f"{part['padding_share']:.1%}"]
            body.append([f"{row['seed']} {name}", *cells, str(part["epochs_run"]), str(part["best_epoch"] + 1)])
    header = ["seed, model", "training s", "positions/s", "padding", "epochs", "best epoch"]
    return table(header, body) + notes(
        ["seconds of a shared machine count what else ran; load averages are in the JSON"]
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers, e.g. 0,1,2") from None


if __name__ == "__main__":
    main()
