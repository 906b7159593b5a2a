"""Sections of docs/results.md that come from other scripts' files: density, gain of new items, RecTools' SASRec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cold.tables import gains_text
from shared import Row, notes, table

from sparcode.files import read_json

ARMS = (
    ("post-hoc", "global-bias"), ("budget-bytes", "budget, equal bytes"), ("budget-reads", "budget, equal reads"),
    ("whole", "global-bias + item lists"),
)  # fmt: skip
"""Cuts of benchmarks/sparsity.py and what they are called here."""


def sections(folder: Path) -> list[str]:
    """Return the sections for which ``folder`` holds results; each has a heading of its own."""
    sparse = [text for path in sorted(folder.glob("sparsity-*.json")) if (text := _density(path))]
    peers = [row for path in sorted(folder.glob("peer_rectools-*.json")) for row in read_json(path)["rows"]]
    gains = [_gains(path) for path in sorted(folder.glob("cold_gain-*.json"))]
    found = ["## Density against accuracy\n\n" + "\n".join(sparse)] if sparse else []
    found += ["## Gain of new items\n\n" + "\n".join(gains)] if gains else []
    return [*found, _rectools(peers)] if peers else found


def _gains(path: Path) -> str:
    rows = [row for row in read_json(path)["rows"] if row["config"]["part"] == "gain"]
    line = f"5 % of the items withheld from training, benchmarks/results/{path.stem}.md; the two-tower stands there too"
    return (
        f"**{path.stem.removeprefix('cold_gain-')}**\n\n"
        + gains_text(rows).rstrip()
        + "\n"
        + notes([line]).lstrip("\n")
    )


def _density(path: Path) -> str:
    rows = [row for row in read_json(path)["rows"] if "infeasible" not in row and "model" in row["config"]]
    if not rows:
        return ""
    densities = sorted({row["config"]["density"] for row in rows})
    body = [_line(density, [row for row in rows if row["config"]["density"] == density]) for density in densities]
    lines = [
        f"index of one finished run built again for every cell; test, {rows[0]['sparcode']['queries']:,} queries; "
        "ndcg@10 of the lists alone / rescored, then cache MB",
        "global-bias: learned lists alone, one probe, that share of codes x items kept; budget: the same learned lists "
        "cut by policy budget to the same bytes or to the same postings a query; last column: all families of the run",
        f"more in benchmarks/results/{path.stem}.md",
        *_steered(path.with_name(path.name.replace("sparsity-", "sparsity-trained-"))),
    ]
    return (
        f"**{path.stem.removeprefix('sparsity-')}**\n\n"
        + table(["density %", *(t for _, t in ARMS)], body)
        + notes(lines)
    )


def _steered(path: Path) -> list[str]:
    """Return a line on the bias that was steered in training, beside the same density set afterwards."""
    rows = read_json(path)["rows"] if path.exists() else []
    parts = []
    for row in rows:
        density = row["config"]["density"]
        after = [each for each in rows if each["config"]["density"] == density and each["config"]["cut"] == "post-hoc"]
        if row["config"]["cut"] == "trained" and after:
            parts.append(f"{density:g} %: {_pair(row)} against {_pair(after[0])}")
    told = "; ".join(parts)
    return [f"bias steered in training against set afterwards: {told} (benchmarks/results/{path.stem}.md)"] * bool(
        parts
    )


def _line(density: float, rows: Sequence[Row]) -> list[str]:
    found = {row["config"]["cut"]: row for row in rows}
    return [f"{density:g}", *(_cell(found.get(cut)) for cut, _ in ARMS)]


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return f"{_pair(row)}, {row['cache_bytes'] / 1e6:.3f}"


def _pair(row: Row) -> str:
    return " / ".join(f"{row[system]['metrics']['ndcg@10']:.4f}" for system in ("sparcode-cache", "sparcode"))


def _rectools(rows: Sequence[Row]) -> str:
    header = ["data", "settings", "recall@10", "ndcg@10", "recall@50", "epochs (best)", "CPU min", "positions / CPU s"]
    body = [
        [
            row["data"], row["settings"], *(f"{row[metric]:.4f}" for metric in ("recall@10", "ndcg@10", "recall@50")),
            f"{row['epochs']} ({row['best_epoch']})", f"{row['cpu_s'] / 60:.1f}",
            f"{row['positions_per_cpu_second']:,.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    version = rows[0]["versions"]
    lines = [
        f"RecTools {version['rectools']} (torch {version['torch']}), benchmarks/peer_rectools.py, one thread, the same "
        "split and the same ranking; the epoch is the best of validation among those trained",
        "training alone is counted; positions: targets of the loss, padding not counted",
    ]
    if any(row["epochs"] == row["best_epoch"] for row in rows):
        lines.append("where the best epoch is the last, training was stopped by the clock while validation still rose")
    return "## RecTools' SASRec on the same machine\n\n" + table(header, body) + notes(lines)
