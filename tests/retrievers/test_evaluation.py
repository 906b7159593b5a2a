"""Evaluating a run: each split by its own queries and targets, repeats as the run or the caller says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as parquet
import pytest

from sparcode.retrievers.evaluation import evaluate_run
from sparcode.run import Run

if TYPE_CHECKING:
    from tests.conftest import TinyRun


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_split_is_asked_for_its_own_targets(tiny_run: TinyRun, tmp_path: Path, split: str) -> None:
    document = evaluate_run(tiny_run.folder, split, ["popular"], per_query=tmp_path / "ranks.parquet")
    dataset = Run.open(tiny_run.folder).dataset
    held = getattr(dataset, split)
    table = parquet.read_table(tmp_path / "ranks.parquet")
    assert document["split"] == split
    assert table["target"].to_pylist() == dataset.item_ids.to_external(held.target_items)
    assert table["user_id"].to_pylist() == dataset.user_ids.to_external(held.users)


@pytest.mark.parametrize(("trained", "asked", "wanted"), [
    (True, None, True), (False, None, False), (True, False, False), (False, True, True),
])  # fmt: skip
def test_repeats_are_ranked_as_asked_else_as_trained(
    tiny_run: TinyRun, tmp_path: Path, trained: bool, asked: bool | None, wanted: bool
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    config = run / "config.toml"
    text = config.read_text()
    assert "include_seen = false" in text
    config.write_text(text.replace("include_seen = false", f"include_seen = {str(trained).lower()}"))
    (result,) = evaluate_run(run, "test", ["popular"], include_seen=asked)["results"]
    assert result["include_seen"] is wanted
