"""The benchmark of filters on a tiny run: which filters, what is checked, what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from sparcode.data.attribute_columns import compile_attributes
from sparcode.query.attributes import AttributeFilter
from sparcode.query.filters import ItemSet
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run
from sparcode.types import Hits

if TYPE_CHECKING:
    from tests.conftest import TinyRun


@pytest.fixture(scope="module")
def bench(script):
    return script("filters")


def test_every_filter_is_measured_once(bench, tiny_run: TinyRun, tmp_path: Path, monkeypatch):
    out = tmp_path / "filters.json"
    arguments = ["--run", str(tiny_run.folder), "--queries", "12", "--rounds", "2", "-k", "5", "--out", str(out)]
    (row,) = bench.main(arguments).asked
    assert (row["items"], row["asked"]) == (60, 12)
    filters = {each["filter"]: each for each in row["filters"]}
    conditions = ['year>="1980"', 'year>="2004"', 'year>="2009"']
    assert list(filters) == ["none", "random 0.5", "random 0.1", "random 0.01", *conditions]
    assert filters["none"]["ratio"] == 1
    assert [each["allowed"] for each in row["filters"]][:4] == [None, 30, 6, 1]
    assert filters["random 0.01"]["queries_without_fill"] == 0
    assert all(each["p50_us"] > 0 and each["p95_us"] >= each["p50_us"] for each in row["filters"])
    assert json.loads(out.read_text())["rows"] == [row]
    text = out.with_suffix(".md").read_text()
    assert text.count("| random ") == 3
    monkeypatch.setattr(bench, "measure", None)
    assert bench.main(arguments).asked == [row], "finished figures are not measured again"


def test_the_nearest_condition_has_the_share(bench):
    tags = [["half", "rare"] if item < 2 else ["half"] if item < 100 else [] for item in range(200)]
    attributes = compile_attributes(pa.table({"tags": tags, "year": list(range(200))}))
    for share in (0.5, 0.1, 0.01):
        found = AttributeFilter(attributes).where(bench.nearest_condition(attributes, share))
        assert found.count == round(share * 200)
    assert bench.nearest_condition(attributes, 1e-4) is None


def test_wrong_answers_are_noticed(bench, tiny_run: TinyRun, monkeypatch):
    run = Run.open(tiny_run.folder)
    pipeline = Pipeline.open(tiny_run.folder)
    queries = bench.queries_of(run, 3, np.random.default_rng(0))
    allow = ItemSet(np.arange(60) < 30)
    identity = {"k": 5, "rescore": 20}
    hits = bench.answered(pipeline, queries, bench.Filter("half", allow=allow), identity)
    for damage, message in ((45, "not eligible"), (int(queries.history(0)[0]), "eligible|seen"), (-1, "answers")):
        ids = hits.ids.copy()
        ids[0, 4] = damage
        monkeypatch.setattr(pipeline, "retrieve", lambda *_, ids=ids, **__: Hits(ids, hits.scores))
        with pytest.raises(AssertionError, match=message):
            bench.answered(pipeline, queries, bench.Filter("half", allow=allow), identity)
