"""Figures of finished cells: means, paired differences, and whether a target is reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from shared import Row

from grid.cells import Cell, Target
from grid.measure import VALUES, record_of
from sparcode.eval.bootstrap import Difference, paired_difference
from sparcode.files import read_json
from sparcode.index.arrays import Arrays, read_arrays


class Paired(NamedTuple):
    """Two systems on the same users: a seed, or ``all``, their means, and the difference with its interval."""

    seed: str
    ours: float
    theirs: float
    difference: Difference


class Outcome(NamedTuple):
    """A target beside what was measured."""

    value: float
    bound: float
    met: bool
    most: bool
    seeds: int
    remark: str


class Book:
    """The finished cells by digest; ``failed`` (with errors), ``stale`` and ``missing`` are the others."""

    def __init__(self, cells: Sequence[Cell], work: Path) -> None:
        self.cells, self.work = cells, work
        self.rows: dict[str, Row] = {}
        self.failed: list[tuple[Cell, str]] = []
        self.stale: list[Cell] = []
        self.missing: list[Cell] = []
        for cell in cells:
            self._sort(cell)

    def _sort(self, cell: Cell) -> None:
        path = record_of(self.work, cell.digest)
        row = read_json(path) if path.exists() else None
        if row is None:
            self.missing.append(cell)
        elif row["state"] != "done":
            self.failed.append((cell, row["error"]))
        elif cell.needs is not None and row["model_hash"] != self.rows.get(cell.needs.digest, row)["model_hash"]:
            self.stale.append(cell)
        else:
            self.rows[cell.digest] = row

    def of(self, kind: str, *, data: str | None = None, label: str | None = None) -> list[Row]:
        """Return the finished rows of a kind, in the order of the grid."""
        rows = [row for row in self.rows.values() if row["kind"] == kind]
        rows = [row for row in rows if data is None or row["data"] == data]
        return [row for row in rows if label is None or row["label"] == label]

    def mains(self, data: str) -> list[Row]:
        """Return the finished main cells of a data set, by seed."""
        return self.of("main", data=data)

    def ablations(self, data: str, name: str) -> list[Row]:
        """Return the finished cells of an ablation, by seed."""
        return self.of("ablation", data=data, label=name)

    def paired(self, data: str, ours: str, theirs: str, metric: str = "ndcg@10") -> list[Paired]:
        """Compare two systems seed by seed and, with several seeds, pooled; empty where a system is missing."""
        parts = {}
        for cell in self.cells:
            if cell.kind == "main" and cell.data.name == data and cell.digest in self.rows:
                values = read_arrays(self.work / cell.digest / VALUES)
                if f"{ours}:{metric}" in values and f"{theirs}:{metric}" in values:
                    parts[cell.seed] = values
        found = [_compare(str(seed), [part], ours, theirs, metric) for seed, part in parts.items()]
        if len(parts) > 1:
            found.append(_compare("all", list(parts.values()), ours, theirs, metric))
        return found


def _compare(seed: str, parts: Sequence[Arrays], ours: str, theirs: str, metric: str) -> Paired:
    # Users stand in the order of their ids whatever the seed, so that their values can be averaged place by place.
    assert all(np.array_equal(part["users"], parts[0]["users"]) for part in parts), "seeds hold different users"
    a, b = (np.mean([part[f"{name}:{metric}"] for part in parts], axis=0) for name in (ours, theirs))
    return Paired(seed, float(a.mean()), float(b.mean()), paired_difference(a, b, users=parts[0]["users"]))


def figure(row: Row, system: str, metric: str) -> float | None:
    """Return one figure of a system in a row (see ``Target.metric``); None where it was not measured."""
    if metric == "minutes":
        return minutes(row)
    if metric == "bytes":
        part = {"hnsw": "hnsw", "two-tower": "two_tower_vectors"}.get(system, "cache")
        return row["bytes"].get(part)
    found = next((each for each in row["results"] if each["retriever"] == system), None)
    return None if found is None else found["metrics"].get(metric)


def minutes(row: Row, two_tower: bool = False) -> float:
    """Return minutes of training, export and building; the two-tower's training is left out unless asked for."""
    parts = {name: part["seconds"] for name, part in row["training"].items() if isinstance(part, dict)}
    # A resumed training counts its last part only in ``seconds``, but every model's own seconds in full.
    total = max(row["training"]["seconds"], sum(parts.values())) + row["build"]["build_s"]
    return float(total - (0.0 if two_tower else parts.get("two-tower", 0.0))) / 60


def reached(target: Target, book: Book) -> Outcome | None:
    """Compare a target with the means over the seeds that are finished; None where none is."""
    mains = {row["seed"]: row for row in book.mains(target.data)}
    rows = {row["seed"]: row for row in book.ablations(target.data, target.ablation)} if target.ablation else mains
    pairs = []
    for seed in sorted(set(rows) & set(mains)):
        value = figure(rows[seed], target.system, target.metric)
        reference = 1.0 if target.times is None else figure(mains[seed], target.times, target.metric)
        if value is not None and reference is not None:
            pairs.append((value, reference))
    if not pairs:
        return None
    value, reference = np.mean(pairs, axis=0)
    bound = float(target.bound * reference)
    met, remark = bool(value <= bound if target.most else value >= bound), ""
    if target.above_zero and target.times is not None:
        gap = book.paired(target.data, target.system, target.times, target.metric)[-1].difference
        met, remark = met and gap.low > 0, f", difference [{gap.low:+.4f}, {gap.high:+.4f}]"
    return Outcome(float(value), bound, met, target.most, len(pairs), remark)


def missed_by(outcome: Outcome) -> str:
    """Return how far the value lies from the bound, in percent of it; positive is on the good side."""
    if outcome.bound == 0:
        return "-"
    share = outcome.value / outcome.bound - 1
    return f"{100 * (-share if outcome.most else share):+.1f} %"
