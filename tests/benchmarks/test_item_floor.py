"""benchmarks/item_floor.py on a small run: each build is measured once, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import TinyRun


def test_builds_and_table(
    script: Callable[[str], ModuleType], tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_floor = script("item_floor")
    monkeypatch.setattr(item_floor, "FLOORS", (0, 2, 14))
    out = tmp_path / "floor.json"
    arguments = [str(tiny_run.data), "--run", str(tiny_run.folder), "--work", str(tmp_path / "work"), "--out", str(out)]
    rows = item_floor.main(arguments).asked
    assert len(rows) == 8
    assert "smallest feasible" in rows[7]["infeasible"]
    assert rows[2]["items_in_no_list_of"]["any"] == 0
    assert rows[2]["cache_bytes"] <= rows[2]["config"]["budget_mb"] * 1e6
    assert "| all families | 2 |" in out.with_suffix(".md").read_text(encoding="utf-8")
    monkeypatch.setattr(item_floor, "measure", lambda *_, **__: pytest.fail("measured twice"))
    assert len(item_floor.main(arguments).asked) == 8
