"""The seeds benchmark on a tiny world: pooling, resumption, tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparcode.index.arrays import read_arrays


@pytest.fixture(scope="module")
def seeds(script):
    return script("seeds")


@pytest.fixture(scope="module")
def arguments(options):
    return [*options, "--seeds", "0,1", "--retrievers", "popular"]


@pytest.fixture(scope="module")
def work(options) -> Path:
    return Path(options[options.index("--work") + 1])


@pytest.fixture(scope="module")
def rows(seeds, arguments):
    return seeds.main(arguments).asked


def test_every_seed_is_trained_and_compared(rows):
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["config"]["model_hash"] != rows[1]["config"]["model_hash"]
    for row in rows:
        metrics = {result["retriever"]: result["metrics"] for result in row["results"]}
        assert list(metrics) == ["sparcode", "two-tower", "popular"]
        gap = metrics["sparcode"]["ndcg@10"] - metrics["two-tower"]["ndcg@10"]
        assert row["difference"]["difference"] == pytest.approx(gap)
        assert row["difference"]["low"] <= gap <= row["difference"]["high"]
        assert row["training"]["sparcode"]["padding_share"] <= 0.5


def test_pooling_averages_each_user_before_resampling(seeds, rows, work):
    parts = [read_arrays(work / row["config"]["folder"] / seeds.VALUES) for row in rows]
    gaps = {}
    for part in parts:
        for user, ours, theirs in zip(part["users"], part["sparcode"], part["two-tower"], strict=True):
            gaps.setdefault(int(user), []).append(ours - theirs)
    together = seeds.pooled(rows, work)
    assert together["users"] == len(gaps) == 60
    assert together["difference"]["difference"] == pytest.approx(np.mean([np.mean(each) for each in gaps.values()]))
    assert together["sparcode"] == pytest.approx(np.mean([part["sparcode"].mean() for part in parts]))


def test_finished_seeds_are_skipped_unless_their_values_are_gone(seeds, arguments, rows, work, monkeypatch):
    measured, measure = [], seeds.measure
    monkeypatch.setattr(seeds, "measure", lambda run, names: measured.append(run.config.seed) or measure(run, names))
    assert seeds.main(arguments).asked == rows
    assert measured == []
    (work / rows[1]["config"]["folder"] / seeds.VALUES).unlink()
    again = seeds.main(arguments).asked
    assert measured == [1]
    assert again[0] == rows[0]
    assert again[1]["difference"] == rows[1]["difference"]


def test_markdown_has_three_tables(seeds, rows, work):
    text = seeds.markdown_of(rows, work)
    assert text.count("|---|") == 3
    assert "| all |" in text
    assert "| 1 two-tower |" in text
