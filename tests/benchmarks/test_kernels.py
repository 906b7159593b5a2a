"""The benchmark of kernels on a tiny world: what is drawn, what is measured, and that variants must agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparcode.query.search import searcher

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench(script):
    return script("kernels")


def test_every_shape_is_measured_beside_another_checkout(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CODES", {300: 40})
    out = tmp_path / "kernels.json"
    options = ["--items", "300", "-k", "5", "--queries", "20", "--rounds", "1", "--against", str(ROOT)]
    rows = bench.main([*options, "--out", str(out)]).asked
    assert [row["shape"] for row in rows] == list(bench.SHAPES)
    for row in rows:
        assert [own["variant"] for own in row["variants"]] == ["this", "against"]
        assert all(own["call_p95_us"] >= own["call_p50_us"] > 0 for own in row["variants"])
        assert all(own["kernel_us"] > 0 and own["batch_qps"] > 0 for own in row["variants"])
    assert len(json.loads(out.read_text())["rows"]) == 3
    assert "| 300 | items |" in capsys.readouterr().out.replace("  ", " ")


def test_variants_that_disagree_are_refused(bench, monkeypatch):
    random = np.random.default_rng(0)
    monkeypatch.setattr(bench, "CODES", {300: 40})
    index, topics = bench.world("codes", 300, random)
    asked = bench.queries_of("codes", index, topics, 20, random)

    class Careless(searcher.Searcher):
        def search_one(self, *arguments, **options):
            ids, sums = super().search_one(*arguments, **options)
            return ids[::-1], sums

    other = bench.Variant("other", type("Module", (), {"Searcher": Careless}), None)
    with pytest.raises(AssertionError, match="ids differ"):
        bench.measure("codes", 300, 5, asked, index, 1, [bench.Variant("this", searcher, None), other])


def test_lists_and_queries_have_the_promised_shapes(bench):
    random = np.random.default_rng(1)
    index, topics = bench.world("codes", 10_000, random)
    assert len(topics) == 4096
    assert 230 < index.lengths().mean() < 290
    asked = bench.queries_of("items", *bench.world("items", 10_000, random), 50, random)
    counts = np.diff(asked.indptr)
    assert (counts >= 4 + 5).all()
    assert (counts <= 4 + 50).all()
