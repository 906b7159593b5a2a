"""The sparsity benchmark on a tiny world: cells, resumption, what the table says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparcode.query.pipeline import Pipeline
from sparcode.types import Queries


@pytest.fixture(scope="module")
def sparsity(script):
    return script("sparsity")


@pytest.fixture(scope="module")
def rows(sparsity, options):
    return sparsity.main([*options, "--densities", "20"]).asked


def test_every_cut_is_measured_and_lands_where_it_should(rows):
    trained, after, by_bytes, by_reads = rows
    assert [row["config"]["cut"] for row in rows] == ["trained", "post-hoc", "budget-bytes", "budget-reads"]
    assert trained["offset"] == pytest.approx(trained["trained_bias"], rel=1e-6)
    assert after["density_percent"] == pytest.approx(20.0, abs=0.1)
    assert 0.9 * after["cache_bytes"] < by_bytes["cache_bytes"] <= after["cache_bytes"]
    assert by_reads["postings_per_query_validation"] == pytest.approx(after["postings_per_query_validation"], rel=0.02)
    for row in rows:
        assert 0 < row["sparcode"]["metrics"]["ndcg@10"] <= 1
        assert row["sparcode-cache"]["queries"] == 60
        assert not row["config"]["run"]["families"]["item"]["enabled"]
        assert row["commit"] is None or len(row["commit"]) >= 40
        assert row["machine"]["threads"]["evaluation"] == 1


def test_a_run_is_built_again_without_training(sparsity, tiny_run, tmp_path):
    folder = tiny_run.folder
    before = (folder / "build.json").read_bytes()
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out.json")]
    given = ["planted", "--run", str(folder), "--densities", "20", *places]
    asked = sparsity.main(given).asked
    assert [row["config"]["cut"] for row in asked] == ["post-hoc", "budget-bytes", "budget-reads", "whole"]
    assert asked[0]["density_percent"] == asked[3]["density_percent"] == pytest.approx(20.0, abs=0.1)
    assert asked[3]["cache_bytes"] > asked[0]["cache_bytes"], "with item lists"
    assert (folder / "build.json").read_bytes() == before
    assert "whole: post-hoc beside the item lists" in (tmp_path / "out.md").read_text()


def test_trained_arms_can_be_left_out(sparsity, options, rows):
    asked = sparsity.main([*options, "--densities", "20", "--trained", "1"]).asked
    assert asked == rows[1:]


def test_finished_cells_are_skipped_and_others_are_kept(sparsity, options, rows, monkeypatch):
    measured = []
    monkeypatch.setattr(sparsity, "measure", lambda run, cut, build: measured.append(cut) or {"infeasible": "not now"})
    assert sparsity.main([*options, "--densities", "20"]).asked == rows
    assert measured == []
    path = Path(options[options.index("--out") + 1])
    document = json.loads(path.read_text())
    document["rows"] = document["rows"][:3]  # as if interrupted before the last cell
    path.write_text(json.dumps(document))
    asked = sparsity.main([*options, "--densities", "20"]).asked
    assert measured == ["budget-reads"]
    assert asked[:3] == rows[:3]
    assert "budget-reads at 20 %: not now" in path.with_suffix(".md").read_text()


def test_postings_read_counts_the_lists_of_every_query(sparsity, options, rows):
    folder = next(Path(options[options.index("--work") + 1]).glob("plain-*"))
    pipeline = Pipeline.open(folder)
    queries = Queries(np.array([0, 2, 3], np.int64), np.array([1, 5, 7], np.int32))
    expected = 0
    for row in range(2):
        lists = pipeline.encode(Queries.single(queries.history(row))).rows
        expected += sum(len(pipeline.searcher.index.row(int(each))[0]) for each in lists)
    assert sparsity.postings_read(pipeline, queries) == expected / 2


def test_the_table_owns_up_to_missed_targets_and_ignored_biases(sparsity, rows):
    spoiled = rows[0] | {"density_percent": 23.0, "default_uses_trained_bias": False}
    text = sparsity.markdown_of([spoiled])
    assert "+15.0" in text
    assert "more than 10 % off the target" in text
    assert "this row was built with --bias" in text
