"""`sparcode benchmark --scale` from world to tables, at a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sparcode.errors import ConfigError
from sparcode.report.scale.plots import plot_scale
from sparcode.report.scale.tables import scale_markdown, targets_markdown
from sparcode.scale import benchmark as scale
from sparcode.scale.benchmark import benchmark_scale, sizes_of
from sparcode.scale.full_run import Codes
from sparcode.scale.plan import Plan
from sparcode_cli.main import app

pytest.importorskip("hnswlib")
pytest.importorskip("faiss")
PLAN = Plan(
    1200, 200, 100, Codes(codewords=8, probes=8, length=64), epochs=1, timed=12, evaluated=40,
    dense=("faiss-flat", "hnswlib", "faiss-ivf-flat"), sparse=("scipy-csr", "numpy-touched"),
)  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scale")


@pytest.fixture(scope="module")
def document(out: Path) -> dict[str, Any]:
    return benchmark_scale([PLAN], out, lambda line: None)


def test_every_engine_is_measured(document: dict[str, Any]) -> None:
    (size,) = document["sizes"]
    names = {
        "faiss-flat",
        "hnswlib",
        "faiss-ivf-flat",
        "scipy-csr",
        "numpy-touched",
        "sparcode-learned",
        "sparcode-default",
    }
    for k in ("10", "100"):
        assert set(size["retrieval"]["latency_us"][k]) == names
        assert size["retrieval"]["index_recall"][k]["faiss-flat"] == 1.0
    assert size["best_graph"] == "hnswlib"
    assert {row["system"] for row in size["whole"]} == {
        "sparcode-learned-cache", "sparcode-learned", "sparcode-default-cache", "sparcode-default",
        "two-tower-hnswlib", "two-tower-exact",
    }  # fmt: skip
    assert size["retrieval"]["postings"]["learned"]["lists"] == 8
    assert size["index"]["learned"]["peak_bytes"] > 1e7


def test_quality_is_that_of_the_same_model(document: dict[str, Any]) -> None:
    rows = {row["system"]: row["metrics"]["ndcg@10"] for row in document["sizes"][0]["whole"]}
    assert rows["two-tower-hnswlib"] == pytest.approx(rows["two-tower-exact"], abs=0.02)
    assert all(0 <= value <= document["sizes"][0]["optimum_ndcg@10"] + 0.1 for value in rows.values())


def test_a_finished_cell_is_not_measured_again(
    document: dict[str, Any], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = PLAN.folder(out)
    before = (folder / "cells" / "hnswlib.json").read_bytes()
    lines: list[str] = []
    monkeypatch.setattr(scale, "measure_opening", lambda *_: {})
    again = benchmark_scale([PLAN], out, lines.append)
    assert (folder / "cells" / "hnswlib.json").read_bytes() == before
    assert not any("building" in line or "training" in line for line in lines)
    assert again["sizes"][0]["dense"] == document["sizes"][0]["dense"]


def test_the_report_names_each_target_and_its_distance(document: dict[str, Any]) -> None:
    text = scale_markdown(document)
    assert "## 1,200 items" in text
    assert "two-tower-hnswlib" in text
    targets = targets_markdown(document["sizes"])
    assert "p50 of the best graph / ours, k=10" in targets
    assert targets.count("met") + targets.count("missed") >= 8
    assert ">= 80" not in targets  # the goal of a million items


def test_plots_are_written(document: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert all(path.stat().st_size > 5000 for path in plot_scale(document, tmp_path))


def test_the_dial_is_reported_beside_the_optimum(
    document: dict[str, Any], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale.Plan, "of", classmethod(lambda cls, items, **_: PLAN))
    rows = scale.measure_dial(PLAN.items, out, report=lambda line: None)
    assert [row["interaction"] for row in rows] == [0.0, 0.5, 1.0]
    exact = {row["system"]: row["metrics"] for row in document["sizes"][0]["whole"]}["two-tower-exact"]
    assert rows[1]["systems"][0]["metrics"] == exact
    assert "| optimum |" in scale_markdown(document | {"dial": rows})


def test_sizes_are_read() -> None:
    assert sizes_of("10000, 1_000_000") == [10_000, 1_000_000]


@pytest.mark.parametrize("text", ["", "abc", "10000,", "100", "1e6", str(1 << 24)])
def test_bad_sizes_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="scale"):
        sizes_of(text)


@pytest.mark.parametrize(
    "arguments", [["--scale", "10000"], ["RUN", "--scale", "10000", "--out", "x"], [], ["--scale", "x", "--out", "y"]]
)
def test_the_command_says_what_it_needs(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["benchmark", *arguments])
    assert result.exit_code != 0
    assert "--scale" in result.output + str(result.exception)
    assert not list(tmp_path.iterdir())


def test_the_document_is_json(document: dict[str, Any], out: Path) -> None:
    assert json.loads((out / "scale.json").read_text())["sizes"][0]["items"] == PLAN.items
