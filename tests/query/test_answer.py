"""The one compiled call against the stages in numpy, bit for bit."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import QueryError
from sparcode.query import answer, answerer, evidence
from sparcode.query import pipeline as pipeline_module
from sparcode.query.answer import MOST_ORDERED
from sparcode.query.filters import Eligible
from sparcode.query.pipeline import Pipeline, QuerySettings
from sparcode.types import Hits, Queries
from tests.query.stages import by_stages
from tests.query.test_pipeline import HISTORIES, ITEMS, queries_of, random_pipeline

CASES = {
    "table": {"table": True},
    "wide weights": {"table": True, "settings": QuerySettings(3000, 2, (2000, 0, 1000), 0.5, 0.25)},
    "evidence": {"table": True, "settings": QuerySettings(2, 3, (9, 4, 1), 1.5, 0.0)},
    "three heads": {"table": True, "quantizer.kind": "residual", "model.heads": 3},
    "no table": {"settings": QuerySettings(2, 3, (9, 4, 1), 1.5, 0.0)},
    "features": {"table": True, "features": 3},
    "mixture": {"table": True, "scorer.kind": "mixture"},
    "hadamard": {"table": True, "scorer.kind": "hadamard"},
}
_MADE: dict[str, Pipeline] = {}


def fast(case: str) -> Pipeline:
    if case not in _MADE:
        _MADE[case] = random_pipeline(ITEMS, **CASES[case])
    return _MADE[case]


def features_of(pipeline: Pipeline, count: int) -> np.ndarray | None:
    """Return features, none but zeros in every second row; None where none are read."""
    width = pipeline.encoder.feature_width
    rows = np.linspace(-1, 1, count * width, dtype=np.float32).reshape(count, width) if width else None
    if rows is not None:
        rows[::2] = 0
    return rows


def check(pipeline: Pipeline, queries: Queries, k: int, rescore: int, include_seen: bool, **masks) -> Hits:
    """Compare answers with those of the stages; return them."""
    eligible, depth = Eligible.of(ITEMS, masks.get("allow"), masks.get("deny")), max(k, rescore) if rescore else 0
    hits = pipeline.retrieve(queries, k, rescore=rescore, include_seen=include_seen, **masks)
    expected = by_stages(pipeline, queries, k, depth, include_seen, eligible)
    expected = pipeline.popular.fill(expected, queries, eligible, include_seen=include_seen)
    np.testing.assert_array_equal(hits.ids, expected.ids)
    np.testing.assert_array_equal(hits.scores, expected.scores)
    return hits


HISTORY = st.lists(st.integers(0, ITEMS - 1), max_size=14)
MASK = st.one_of(
    st.none(), st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS).map(np.array),
    st.sets(st.integers(0, ITEMS - 1), max_size=5).map(lambda held: np.isin(np.arange(ITEMS), sorted(held))),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(CASES)), st.lists(HISTORY, max_size=4), st.integers(1, ITEMS + 2),
    st.sampled_from([0, 0, 1, 4, ITEMS, 2 * ITEMS]), st.booleans(), MASK, MASK,
)  # fmt: skip
def test_one_call_is_the_stages_bit_for_bit(case, histories, k, rescore, include_seen, allow, deny):
    pipeline = fast(case)
    queries = queries_of(histories, features_of(pipeline, len(histories)))
    check(pipeline, queries, k, rescore, include_seen, allow=allow, deny=deny)


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("rescore", [0, 8])
def test_more_results_than_inserting_is_good_for(case, rescore, monkeypatch):
    pipeline = fast(case)
    queries = queries_of(HISTORIES, features_of(pipeline, len(HISTORIES)))
    few = np.isin(np.arange(ITEMS), [1, 3, 4])
    expected = [check(pipeline, queries, 5, rescore, False), check(pipeline, queries, 5, rescore, False, allow=few)]
    monkeypatch.setattr(answerer, "MOST_ORDERED", 4)
    monkeypatch.setattr(answer, "MOST_ORDERED", 4)  # compiled anew in a build of its own: see the next line
    keep = answer.keep_best.py_func
    ids, scores = np.array([3, 1, 2], np.int32), np.array([1, 5, 3], np.float32)
    best = np.zeros(5, np.int32), np.zeros(5, np.float32)
    assert keep(ids, scores, *best) == 3
    assert best[0][:3].tolist() == [3, 1, 2]
    for hits, masks in zip(expected, ({}, {"allow": few}), strict=True):
        found = pipeline.retrieve(queries, 5, rescore=rescore, **masks)
        np.testing.assert_array_equal(found.ids, hits.ids)
        np.testing.assert_array_equal(found.scores, hits.scores)


def test_results_above_the_limit_are_sorted():
    items = 700
    pipeline = random_pipeline(items, table=True, settings=QuerySettings(2, 3, (9, 4, 1), 1.5, 0.25))
    queries = queries_of([[3, 1, 4], [], [699, 5]])
    for k in (MOST_ORDERED, MOST_ORDERED + 1, 300, items + 5):
        for rescore in (0, 400, items):
            hits = pipeline.retrieve(queries, k, rescore=rescore)
            expected = by_stages(pipeline, queries, k, max(k, rescore) if rescore else 0, False)
            expected = pipeline.popular.fill(expected, queries, Eligible(items))
            np.testing.assert_array_equal(hits.ids, expected.ids)
            np.testing.assert_array_equal(hits.scores, expected.scores)


@pytest.mark.parametrize("case", sorted(CASES))
def test_threads_share_a_batch(case):
    pipeline = fast(case)
    queries = queries_of(HISTORIES * 5, features_of(pipeline, 5 * len(HISTORIES)))
    expected = pipeline.retrieve(queries, 6)
    for threads in (2, 3, 3, 100):
        hits = pipeline.retrieve(queries, 6, threads=threads)
        np.testing.assert_array_equal(hits.ids, expected.ids)
        np.testing.assert_array_equal(hits.scores, expected.scores)


def test_tokens_that_are_known_are_taken():
    pipeline = fast("evidence")
    queries = queries_of(HISTORIES)
    hits = pipeline.retrieve(queries, 6, tokens=pipeline.encoder.tokens(queries))
    expected = pipeline.retrieve(queries, 6)
    np.testing.assert_array_equal(hits.ids, expected.ids)
    np.testing.assert_array_equal(hits.scores, expected.scores)


def test_buffers_are_kept_for_several_widths():
    pipeline, queries = fast("table"), queries_of([[3, 1]])
    expected = [by_stages(pipeline, queries, 2, depth, False).ids[0] for depth in range(2, ITEMS)]
    for _ in range(2):
        found = [pipeline.retrieve(queries, 2, rescore=depth).ids[0] for depth in range(2, ITEMS)]
        np.testing.assert_array_equal(found, expected)


def test_evidence_is_the_sum_of_all_lists_but_the_learned_ones():
    pipeline = fast("evidence")
    state = pipeline.encode(queries_of([[3, 1, 4]]))
    first = state.item_start[0]
    ids, sums = pipeline.searcher.search_one(state.rows, state.weights, ITEMS)
    own = np.empty(len(ids), np.uint32)
    marks = pipeline.searcher.scratch().narrow
    evidence.learned_sums(pipeline.searcher.lists, state.rows[:first], state.weights[:first], marks, ids, own)
    assert not marks.any()
    other = pipeline.searcher.sums_of(state.rows[first:], state.weights[first:], ids)
    np.testing.assert_array_equal(sums - own, other)


def test_sums_too_wide_for_the_narrow_accumulator():
    pipeline = random_pipeline(ITEMS, table=True, settings=QuerySettings(60_000, 2, (60_000, 60_000), 0.5, 0.25))
    check(pipeline, queries_of([[1, 5]]), 4, 8, False)


def test_who_encodes():
    assert fast("table")._answerer.encodes
    assert not fast("no table")._answerer.encodes


@pytest.mark.parametrize("item", [-1, ITEMS, 2**31 - 1])
@pytest.mark.parametrize("case", ["table", "no table"])
def test_items_outside_the_index_are_refused(case, item):
    with pytest.raises(QueryError, match=f"outside 0..{ITEMS - 1}"):
        fast(case).retrieve(queries_of([[3], [item, 3]]), 4)
    assert (fast(case).retrieve(queries_of([[3]]), 4).ids >= 0).all()


def test_threads_may_share_a_pipeline():
    pipeline = fast("evidence")
    expected = [pipeline.retrieve(queries_of([h]), 5).ids.tolist() for h in HISTORIES if h]
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(20):
            found = [pipeline.retrieve(queries_of([h]), 5).ids.tolist() for h in HISTORIES if h]
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_answered_alike_however_it_is_encoded(case, monkeypatch):
    queries = queries_of(HISTORIES * 3)
    queries = Queries(queries.indptr, queries.items, features_of(fast(case), len(queries)))
    answers = []
    for together in (1, len(queries) + 1):
        monkeypatch.setattr(pipeline_module, "_ENCODED_TOGETHER", together)
        answers.append(check(fast(case), queries, 7, 9, False))
    np.testing.assert_array_equal(answers[0].ids, answers[1].ids)
    np.testing.assert_array_equal(answers[0].scores, answers[1].scores)


def test_large_batches_are_encoded_together_on_one_thread_alone(monkeypatch):
    pipeline, called = fast("table"), []
    monkeypatch.setattr(
        pipeline, "encode", lambda *given, **named: called.append(1) or Pipeline.encode(pipeline, *given)
    )
    queries = queries_of([[1, 2, 3]] * pipeline_module._ENCODED_TOGETHER)
    for threads, expected in ((1, 1), (2, 1)):
        pipeline.retrieve(queries, 5, threads=threads)
        assert len(called) == expected
    pipeline.retrieve(queries.slice(0, len(queries) - 1), 5)
    assert len(called) == 1
