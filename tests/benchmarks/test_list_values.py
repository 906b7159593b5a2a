"""The benchmark of list values: distilled values by formula, tuning moves the cached order to the exact one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sparcode.index.layout import composite
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run


@pytest.fixture(scope="module")
def bench(script):
    return script("list_values")


@pytest.fixture(scope="module")
def made(bench, tiny_run):
    return bench.Bench(Run.open(tiny_run.folder), 200)


def test_training_queries_are_what_stood_before_an_event(bench, tiny_run):
    run = Run.open(tiny_run.folder)
    queries, following = bench.training_queries(run, 10**6)
    train = run.dataset.train
    assert len(queries) == len(train.items) - (np.diff(train.indptr) > 0).sum()
    for row in (0, 7, len(queries) - 1):
        history = queries.history(row)
        assert 1 <= len(history) <= run.config.model.history
        user = next(
            u for u in range(len(train.indptr) - 1)
            if _holds(train.items[train.indptr[u] : train.indptr[u + 1]], [*history, following[row]])
        )  # fmt: skip
        assert user >= 0
    assert len(bench.training_queries(run, 50)[0]) == 50


def _holds(items, run):
    return any(items[low : low + len(run)].tolist() == list(run) for low in range(len(items) - len(run) + 1))


@pytest.mark.parametrize(("temperature", "next_items"), [(1.0, 0.0), (0.5, 0.3)])
def test_distilled_values_are_the_mean_probability_of_the_queries_of_a_code(bench, made, temperature, next_items):
    pipeline = Pipeline.open(made.run.folder)
    teaching = made._taught(pipeline.encoder)
    books = int(pipeline.encoder.spec["quantizer"]["codewords"])
    scorer = bench.DistilledScorer(made.inner, books, teaching, temperature, next_items)
    codes = np.unique(pipeline.encoder.codes(teaching.tokens[:5, None])[0].reshape(5, -1), axis=0)
    found = scorer.scores(scorer.plan(codes))
    for place, key in enumerate(composite(codes, books)):
        own = teaching.keys == key
        scores = made.inner.scores(made.inner.plan(codes[place : place + 1]))[:, 0]
        rows = [
            scores,
            *(pipeline.rescorer.token_scores(token[None], slice(None))[0] for token in teaching.tokens[own]),
        ]
        powers = [np.exp((row - row.max()) / temperature) for row in rows]
        mean = np.sum([power / power.sum() for power in powers], axis=0)
        counts = np.bincount(teaching.following[own], minlength=len(mean))
        mean = ((1 - next_items) * mean + next_items * counts) / (1 + own.sum())
        np.testing.assert_allclose(found[:, place], np.log(mean), rtol=1e-3, atol=1e-3)


def test_tuning_brings_the_cached_sums_nearer_to_the_exact_scores(bench, made, monkeypatch):
    monkeypatch.setattr(bench, "STEPS", 60)
    run = made.run
    pipeline = Pipeline.open(run.folder)
    index = pipeline.searcher.index
    codes = index.family("learned").rows
    indptr = np.asarray(index.indptr[: codes + 1], np.int64)
    items, impacts = index.postings[: indptr[-1]] >> 8, index.postings[: indptr[-1]] & 255
    kept = bench.Candidates(indptr, items.astype(np.int32), (impacts * index.scale).astype(np.float32))
    queries = bench.training_queries(run, 150)[0]
    values = bench.tune(pipeline, kept, queries, 0)
    assert values.shape == kept.values.shape
    assert (values > 0).all()
    lists = bench._matrix(index)
    loss = []
    for each in (kept.values, values):
        learned = bench.sp.csr_matrix((each.astype(float), kept.items, kept.indptr), (codes, index.item_count))
        exact, cached, _ = bench._both(pipeline, learned, lists[codes:], queries)
        best = bench._sharpness(pipeline, learned, lists[codes:], queries)
        loss.append(-(bench._softmax(exact.T) * np.log(np.maximum(bench._softmax(best * cached.T), 1e-30))).sum())
    assert loss[1] < loss[0]


def test_every_kind_of_values_is_measured_and_written(bench, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "STEPS", 3)
    monkeypatch.setattr(bench, "DISTILLED", {"distilled, T = 1": (1.0, 0.0)})
    out = tmp_path / "values.json"
    bench.main([str(tiny_run.folder), "--out", str(out), "--queries", "100"])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["config"]["alone"], row["config"]["made"]) for row in rows] == [
        (True, "centroid"), (True, "distilled, T = 1"), (False, "centroid"), (False, "distilled, T = 1"),
        (False, bench.TUNED),
    ]  # fmt: skip
    text = out.with_suffix(".md").read_text()
    assert "learned codes only | centroid" in text
    # The default of the benchmark is what build-index makes.
    pipeline = Pipeline.open(tiny_run.folder)
    assert rows[2]["cache_bytes"] == pipeline.searcher.index.cache_bytes
