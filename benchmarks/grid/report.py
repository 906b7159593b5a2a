"""docs/results.md, results.json and the README's table, from the cells that are finished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from shared import Row, notes, table

from grid.beside import sections
from grid.cells import EXHAUSTIVE, OWN, RETRIEVERS, Cell, Grid, Target
from grid.figures import Book, Paired, figure, minutes, missed_by, reached
from grid.measure import HNSW_FORMULA, record_of
from sparcode.files import read_json, write_json, write_text

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PAIRS = (("sparcode", "two-tower"), ("sparcode-cache", "two-tower"))
QUALITY = ("recall@10", "ndcg@10", "recall@50")
DEEP = ("precision@10", "precision@50", "recall@50", "ndcg@50", "hit_rate@10", "mrr")
IN_README = ("sparcode", "sparcode-cache", "two-tower", "two-tower+counts+additive", "counts")


def write_report(grid: Grid, cells: Sequence[Cell], work: Path, *, json: Path, markdown: Path, readme: Path) -> None:
    """Write cells as JSON (no per-user values), the report as Markdown, and the README's table if it has markers."""
    book = Book(cells, work)
    failed = [read_json(record_of(work, cell.digest)) for cell, _ in book.failed]
    rows = list(book.rows.values())
    write_json(json, {"commits": commits_of(rows), "cells": rows + failed})
    write_text(markdown, report_of(grid, book, sections(json.parent)))
    update_readme(readme, readme_table(grid, book))
    print(f"wrote {markdown} and {json}")


def update_readme(path: Path, text: str) -> bool:
    """Put ``text`` between the markers of a file; tells whether it has them."""
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        write_text(path, f"{before}{BEGIN}\n{text}{END}{after}")
    return bool(begin and end)


def report_of(grid: Grid, book: Book, beside: Sequence[str] = ()) -> str:
    """Return the whole report as Markdown; ``beside``: sections of other scripts."""
    parts = ["# Results\n", _preface(book), _section("Targets", _targets(grid, book))]
    for data in grid.data_sets:
        if book.mains(data.name):
            parts.append(_section(data.name, *_data_set(data.name, book)))
    parts += [
        _section("What each family of lists gives", *_ablations(grid, book)),
        _section("Bytes and minutes", _costs(grid, book)),
        _section("Other protocols", *_splits(grid, book)),
        _section("Variants", *_variants(grid, book)),
        _section("What the index keeps of all-to-all", _kept(grid, book)),
        *beside,
        _section("Not measured", _absent(book)),
    ]
    return "\n".join(part for part in parts if part)


def _section(title: str, *parts: str) -> str:
    held = [part for part in parts if part]
    return f"## {title}\n\n" + "\n".join(held) if held else ""


def commits_of(rows: Sequence[Row]) -> list[str]:
    """Return the commits at which the cells were trained or measured."""
    return sorted({commit for row in rows for commit in row["commits"]})


def _preface(book: Book) -> str:
    rows = list(book.rows.values())
    if not rows:
        return "No cell is finished: run `make results`.\n"
    commits = commits_of(rows)
    lines = [
        "`make results` measures every cell below in a process of its own, on one thread, and writes this page.",
        "Full ranking over the items the user has not had; validation selects, test reports. Default configuration.",
        f"{len(rows)} of {len(book.cells)} cells are finished; what is missing stands at the end.",
        *(f"machine: {machine}" for machine in _machines(rows)),
    ]
    if len(commits) == 1:
        return _warning(commits) + notes([*lines, f"commit {commits[0]}"]).lstrip()
    return _warning(commits) + notes([*lines, f"commits {', '.join(commits)}"]).lstrip()


def _warning(commits: Sequence[str]) -> str:
    text = ""
    if len(commits) > 1:
        text += f"> **WARNING: these cells come from {len(commits)} states of the code; do not compare them.**\n"
    if any(commit.endswith("+") for commit in commits):
        text += "> **WARNING: files differed from the commits marked `+`; they are not what the repository holds.**\n"
    return text + "\n" if text else ""


def _machines(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        machine, threads = row["machine"], row["machine"]["threads"]
        used = f"threads: training {threads['torch']}, evaluation {threads['evaluation']}"
        found.append(f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}; {used}")
    return list(dict.fromkeys(found))


# Targets


def _targets(grid: Grid, book: Book) -> str:
    body = [_target(target, book) for target in grid.targets]
    header = ["target", "measured", "bound", "outcome", "by", "seeds"]
    lines = ["means over the seeds that are finished; differences: 95 % interval of the paired difference, pooled"]
    return table(header, body) + notes(lines) if body else ""


def _target(target: Target, book: Book) -> list[str]:
    outcome = reached(target, book)
    name = describe(target)
    if outcome is None:
        return [name, "-", "-", "not measured", "-", "0"]
    met = "met" if outcome.met else "**missed**"
    return [
        name, _number(target, outcome.value) + outcome.remark, _number(target, outcome.bound), met,
        missed_by(outcome), str(outcome.seeds),
    ]  # fmt: skip


def describe(target: Target) -> str:
    """Return a target in words."""
    sign = "<=" if target.most else ">="
    system = f"{target.system} ({target.ablation})" if target.ablation else target.system
    bound = f"{target.bound:g} x {target.times}" if target.times else f"{target.bound:g}"
    above = ", interval above 0" if target.above_zero else ""
    return f"{target.data}: {system} {target.metric} {sign} {bound}{above}"


def _number(target: Target, value: float) -> str:
    return {"bytes": f"{value / 1e6:.2f} MB", "minutes": f"{value:.1f}"}.get(target.metric, f"{value:.4f}")


# One data set


def _data_set(name: str, book: Book) -> list[str]:
    rows = book.mains(name)
    seeds = ", ".join(str(row["seed"]) for row in rows)
    line = f"{rows[0]['users']:,} users, {rows[0]['items']:,} items; seeds {seeds}"
    return [notes([line]).lstrip(), _quality(rows), _paired(book, name), _deep(rows)]


def _quality(rows: Sequence[Row]) -> str:
    names = [name for name in RETRIEVERS if any(_result(row, name) for row in rows)]
    metrics = (*QUALITY, "coverage@10", "popularity@10")
    body = [[name, *(spread(_values(rows, name, metric)) for metric in metrics)] for name in names]
    lines = [f"mean over seeds ({len(rows)}), in brackets the least and the greatest; popularity@10: mean share of "
             "training events on items less popular than the recommended one"]  # fmt: skip
    remarks = {f"{each['retriever']}: {each['note']}" for row in rows for each in row["results"] if each.get("note")}
    repeats = max(each["repeats"] for row in rows for each in row["results"])
    if repeats:
        lines.append(f"{repeats:,} held-out items already stand in their history and count as misses")
    if absent := sorted({name for row in rows for name in row["not_offered"]}):
        lines.append(f"not offered by these runs: {', '.join(absent)}")
    return table(["retriever", *metrics], body) + notes([*lines, *sorted(remarks)])


def _result(row: Row, name: str) -> Row | None:
    return next((each for each in row["results"] if each["retriever"] == name), None)


def _values(rows: Sequence[Row], name: str, metric: str) -> list[float]:
    found = [figure(row, name, metric) for row in rows]
    return [value for value in found if value is not None]


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Return the mean with the least and the greatest value, the mean alone of a single value, ``-`` of none."""
    if not values:
        return "-"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _paired(book: Book, data: str) -> str:
    body = []
    for ours, theirs in PAIRS:
        body += [_difference(each, ours, theirs) for each in book.paired(data, ours, theirs)]
    header = ["pair, seed", "ndcg@10", "of the two-tower", "difference", "95 % interval", "share of resamples <= 0"]
    line = "paired bootstrap over users; all: each user's difference is averaged over the seeds, then users resampled"
    return table(header, body) + notes([line]) if body else ""


def _difference(paired: Paired, ours: str, theirs: str) -> list[str]:
    gap = paired.difference
    return [
        f"{ours} - {theirs}, {paired.seed}", f"{paired.ours:.4f}", f"{paired.theirs:.4f}", f"{gap.difference:+.4f}",
        f"[{gap.low:+.4f}, {gap.high:+.4f}]", f"{gap.share_not_above:.3f}",
    ]  # fmt: skip


def _deep(rows: Sequence[Row]) -> str:
    names = [name for name in RETRIEVERS if any(_result(row, name) for row in rows)]
    body = [[name, *(_mean(_values(rows, name, metric)) for metric in DEEP)] for name in names]
    return table(["retriever, mean over seeds", *DEEP], body)


def _mean(values: Sequence[float], digits: int = 4) -> str:
    return f"{np.mean(values):.{digits}f}" if values else "-"


# Ablations, costs, other protocols, variants


def _ablations(grid: Grid, book: Book) -> list[str]:
    tables = []
    for data in grid.data_sets:
        found = [(each.name, book.ablations(data.name, each.name)) for each in grid.ablations]
        body = [_ablation(name, rows) for name, rows in found if rows]
        header = ["lists", "ndcg@10 cache", "ndcg@10 rescored", "recall@50 cache", "recall@50 rescored", "cache MB"]
        if body:
            tables.append(f"**{data.name}**\n\n" + table([*header, "postings a query", "seeds"], body))
    line = "the index of the main run built again, nothing trained again; postings a query: mean over test"
    return [*tables, notes([line]).lstrip()] if tables else []


def _ablation(name: str, rows: Sequence[Row]) -> list[str]:
    pairs = [(system, metric) for metric in ("ndcg@10", "recall@50") for system in ("sparcode-cache", "sparcode")]
    cells = [spread(_values(rows, system, metric)) for system, metric in pairs]
    cells.append(_mean([row["bytes"]["cache"] / 1e6 for row in rows], 2))
    return [name, *cells, _mean([row["postings_per_query"] for row in rows], 1), str(len(rows))]


def _costs(grid: Grid, book: Book) -> str:
    body = [_cost(data.name, rows) for data in grid.data_sets if (rows := book.mains(data.name))]
    header = ["data", "lists MB", "rescoring MB", "encoder MB", "two-tower vectors MB", "HNSW MB"]
    header += ["sparcode min", "two-tower min", "additive min", "build s", "all but two-tower min", "all min"]
    lines = [
        "means over seeds; MB = 10^6 bytes of every file the online path opens, less ids, titles and histories",
        f"HNSW by formula: {HNSW_FORMULA} bytes, n items, d float32, 32 links (64 at the bottom), 8 bytes of levels",
        "SparCode may start from the trained two-tower: `all min` counts it, `all but two-tower min` does not",
    ]
    return table(header, body) + notes(lines) if body else ""


def _cost(name: str, rows: Sequence[Row]) -> list[str]:
    parts = ("cache", "rescoring", "encoder", "two_tower_vectors", "hnsw")
    cells = [_mean([row["bytes"][part] / 1e6 for row in rows if part in row["bytes"]], 2) for part in parts]
    for system in ("sparcode", "two-tower", "additive"):
        found = [row["training"][system]["seconds"] / 60 for row in rows if system in row["training"]]
        cells.append(_mean(found, 1))
    cells.append(_mean([row["build"]["build_s"] for row in rows], 1))
    return [name, *cells, *(_mean([minutes(row, all_of_it) for row in rows], 1) for all_of_it in (False, True))]


def _splits(grid: Grid, book: Book) -> list[str]:
    parts = []
    for split in grid.splits:
        for row in book.of("split", label=split.name):
            seen = "; items of the history are ranked too" if split.include_seen else ""
            line = f"{split.note}; {row['results'][0]['queries']:,} queries, seed {row['seed']}{seen}"
            parts.append(f"**{split.name}**\n\n{_split_table(row)}{notes([line])}")
    return parts


def _split_table(row: Row) -> str:
    k = max(int(name.partition("@")[2]) for name in row["results"][0]["metrics"] if name.startswith("recall@"))
    cutoffs = [cut for cut in (10, 20, 50) if cut <= k and f"ndcg@{cut}" in row["results"][0]["metrics"]]
    metrics = [f"{name}@{cut}" for cut in cutoffs for name in ("recall", "ndcg", "hit_rate", "precision")]
    header = ["retriever", *metrics, f"mrr@{row['results'][0]['depth']}"]
    body = []
    for each in row["results"]:
        body.append([each["retriever"], *(f"{each['metrics'][name]:.4f}" for name in (*metrics, "mrr"))])
    return table(header, body)


def _variants(grid: Grid, book: Book) -> list[str]:
    parts = []
    for data in grid.data_sets:
        rows = book.of("variant", data=data.name)
        if not rows:
            continue
        seeds = {row["seed"] for row in rows}
        rows = [row | {"label": "default"} for row in book.mains(data.name) if row["seed"] in seeds] + rows
        header = ["variant, seed", *(f"{system} {metric}" for system in (*OWN, "two-tower") for metric in QUALITY[:2])]
        parts.append(f"**{data.name}**\n\n" + table([*header, "lists MB", "minutes"], [_variant(row) for row in rows]))
    return parts


def _variant(row: Row) -> list[str]:
    pairs = [(system, metric) for system in (*OWN, "two-tower") for metric in QUALITY[:2]]
    cells = [_mean(_values([row], system, metric)) for system, metric in pairs]
    return [f"{row['label']}, {row['seed']}", *cells, f"{row['bytes']['cache'] / 1e6:.2f}", f"{minutes(row, True):.1f}"]


def _kept(grid: Grid, book: Book) -> str:
    """Return what share of the gap between exact two-tower and exhaustive all-to-all the index keeps."""
    found = [(data.name, book.mains(data.name)) for data in grid.data_sets]
    found += [(f"{row['data']}: {row['label']}", [row]) for row in book.of("variant")]
    body = [cells for name, rows in found if (cells := _kept_by(name, rows))]
    lines = [
        "all-to-all: every item scored by what rescoring computes; share kept = (sparcode - two-tower) / (all-to-all - "
        "two-tower); it can exceed 1, because the lists also leave out what the scorer ranks wrongly",
        "not here: data of more than 200,000,000 pairs, where all-to-all is over a sample of users alone",
    ]
    header = ["data", "two-tower ndcg@10", "sparcode-cache", "sparcode", "all-to-all", "share kept", "seeds"]
    return table(header, body) + notes(lines) if body else ""


def _kept_by(name: str, rows: Sequence[Row]) -> list[str] | None:
    systems = ("two-tower", "sparcode-cache", "sparcode", EXHAUSTIVE)
    values = [_values(rows, system, "ndcg@10") for system in systems]
    sampled = any(each.get("note") for row in rows for each in row["results"] if each["retriever"] == EXHAUSTIVE)
    if sampled or not all(values):
        return None
    tower, _, ours, ceiling = (float(np.mean(each)) for each in values)
    share = f"{(ours - tower) / (ceiling - tower):.2f}" if ceiling > tower else "-"
    return [name, *(_mean(each) for each in values), share, str(len(rows))]


def _absent(book: Book) -> str:
    lines = [f"`{cell.key}` failed: {error}" for cell, error in book.failed]
    lines += [f"`{cell.key}` belongs to an earlier training of its main cell" for cell in book.stale]
    missing = [cell.key for cell in book.missing]
    if missing:
        lines.append(f"{len(missing)} cells: " + ", ".join(f"`{key}`" for key in missing))
    return notes(lines).lstrip() if lines else ""


# README


def readme_table(grid: Grid, book: Book) -> str:
    """Return a short table: data sets by systems, mean over seeds, and where the rest stands."""
    body = []
    for data in grid.data_sets:
        rows = book.mains(data.name)
        cells = [" / ".join(_mean(_values(rows, name, metric)) for metric in QUALITY) for name in IN_README]
        pooled = [each for each in book.paired(data.name, *PAIRS[0]) if each.seed == "all"]
        gap = f"[{pooled[0].difference.low:+.4f}, {pooled[0].difference.high:+.4f}]" if pooled else "-"
        if rows:
            body.append([data.name, *cells, gap, str(len(rows))])
    header = ["R@10 / N@10 / R@50", *IN_README, "sparcode - two-tower, N@10, 95 %", "seeds"]
    where = "Defaults, means over seeds. All systems, targets met and missed, bytes and minutes: "
    where += "[docs/results.md](docs/results.md)."
    return f"{table(header, body)}\n{where}\n" if body else "No cell is finished: run `make results`.\n"
