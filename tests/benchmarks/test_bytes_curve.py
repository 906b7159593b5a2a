"""benchmarks/bytes_curve.py on a small run: each point is measured once, the run is left alone, a plot is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from sparcode.run import Run

if TYPE_CHECKING:
    from tests.conftest import TinyRun


def test_points_table_and_plot(
    script: Callable[[str], ModuleType], tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_curve = script("bytes_curve")
    monkeypatch.setattr(bytes_curve, "SHARES", (0.01, 0.4, 0.8))
    settings = Run.open(tiny_run.folder).query_settings
    out = tmp_path / "curve.json"
    arguments = [str(tiny_run.data), "--run", str(tiny_run.folder), "--work", str(tmp_path / "work"), "--out", str(out)]
    rows = bytes_curve.main(arguments).asked
    assert len(rows) == 7
    assert "infeasible" in rows[1]
    assert rows[2]["cache_bytes"] < rows[3]["cache_bytes"] <= rows[3]["config"]["budget_mb"] * 1e6
    assert out.with_suffix(".png").stat().st_size > 1000
    assert "two-tower, exact" in out.with_suffix(".md").read_text(encoding="utf-8")
    assert Run.open(tiny_run.folder).query_settings == settings
    monkeypatch.setattr(bytes_curve, "measure", lambda *_: pytest.fail("measured twice"))
    assert len(bytes_curve.main(arguments).asked) == 7
