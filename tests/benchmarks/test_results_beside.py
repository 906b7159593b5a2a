"""Sections of other scripts in the report: which rows they show, and that they survive a new report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparcode.files import write_json


@pytest.fixture(scope="module")
def beside(script):
    return script("grid.beside")


def cell(cut: str, density: float, gain: float, **more: Any) -> dict[str, Any]:
    config = {"cut": cut, "density": density, "model": "abc"}
    systems = {name: {"metrics": {"ndcg@10": gain + i / 100}, "queries": 943} for i, name in enumerate(SYSTEMS)}
    return {"config": config, "cache_bytes": 42_000, **systems, **more}


ARMS = (("trained", 0.15), ("post-hoc", 0.25))
SYSTEMS = ("sparcode-cache", "sparcode")
PEER = {
    "data": "beauty", "settings": "best", "recall@10": 0.08, "ndcg@10": 0.045, "recall@50": 0.17, "epochs": 12,
    "best_epoch": 11, "cpu_s": 1234.0, "positions_per_cpu_second": 1300.4,
    "versions": {"rectools": "0.1", "torch": "2.0"},
}  # fmt: skip


def test_nothing_measured_adds_nothing(beside, tmp_path: Path):
    assert beside.sections(tmp_path) == []


def test_rows_of_rebuilt_runs_stand_by_density(beside, tmp_path: Path):
    trained = {"config": {"cut": "trained", "density": 3.0}, "cache_bytes": 1}
    never = {"config": {"cut": "budget-reads", "density": 0.5, "model": "abc"}, "infeasible": "too small"}
    rows = [cell("post-hoc", 5.0, 0.2), cell("post-hoc", 0.5, 0.1), cell("whole", 0.5, 0.3), trained, never]
    write_json(tmp_path / "sparsity-world.json", {"rows": rows})
    steered = [{**cell(cut, 5.0, gain), "config": {"cut": cut, "density": 5.0}} for cut, gain in ARMS]
    write_json(tmp_path / "sparsity-trained-world.json", {"rows": steered})
    (text,) = beside.sections(tmp_path)
    assert "5 %: 0.1500 / 0.1600 against 0.2500 / 0.2600" in text
    table = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert table == [
        "| 0.5 | 0.1000 / 0.1100, 0.042 | - | - | 0.3000 / 0.3100, 0.042 |",
        "| 5 | 0.2000 / 0.2100, 0.042 | - | - | - |",
    ]
    assert text.startswith("## Density against accuracy\n\n**world**")


def test_gains_of_new_items_are_means_over_seeds(beside, tmp_path: Path):
    def row(gain: float, value: float) -> dict[str, Any]:
        systems = {name: {"ndcg@10": value} for name in SYSTEMS}
        return {"config": {"part": "gain", "gain": gain}, "withheld": systems, "ordinary": systems}

    others = {"config": {"part": "items"}}
    write_json(tmp_path / "cold_gain-world.json", {"rows": [row(1.5, 0.2), row(1, 0.1), row(1.5, 0.4), others]})
    (text,) = beside.sections(tmp_path)
    assert "| 1 | 0.1000 | 0.1000 | 0.1000 | 0.1000 | 1 |\n| 1.5 | 0.3000 |" in text


def test_every_measurement_of_a_peer_is_a_row(beside, tmp_path: Path):
    write_json(tmp_path / "peer_rectools-beauty.json", {"rows": [PEER, PEER | {"settings": "default"}]})
    (text,) = beside.sections(tmp_path)
    assert "| beauty | best | 0.0800 | 0.0450 | 0.1700 | 12 (11) | 20.6 | 1,300 |" in text
    assert "| beauty | default |" in text


def test_the_report_holds_them_before_what_is_missing(beside, script, tmp_path: Path):
    report, figures, grid = script("grid.report"), script("grid.figures"), script("grid.cells")
    data = grid.DataSet("planted", "planted")
    planned = grid.Grid([data], [0])
    book = figures.Book(planned.cells(), tmp_path)
    text = report.report_of(planned, book, ["## Beside\n\nfound"])
    assert text.index("## Beside") < text.index("## Not measured")


def test_a_split_that_ranks_repeats_fits_them_too(script):
    grid = script("grid.cells")
    splits = {each.name: cell for each in grid.SPLITS for cell in [grid.Grid([], [], splits=[each]).cells()[0]]}
    assert splits["diginetica-gcegnn"].config.query.include_seen
    assert not splits["gowalla-lightgcn"].config.query.include_seen
    for each in splits.values():
        assert each.protocol["include_seen"] == each.config.query.include_seen
