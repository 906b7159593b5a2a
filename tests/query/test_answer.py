"""The one compiled call against the stages it replaces, bit for bit, and when it hands over to them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import QueryError
from sparcode.query import answer
from sparcode.query.filters import Eligible
from sparcode.query.pipeline import Pipeline, QuerySettings
from tests.query.test_pipeline import HISTORIES, ITEMS, PIPELINES, made, queries_of, random_pipeline

EVERY = Eligible.of(ITEMS, None, None)
FAST = ["table", "wide weights", "evidence", "three heads"]
_SETTINGS = {
    "table": {"table": True},
    "wide weights": {"table": True, "settings": QuerySettings(3000, 2, (2000, 0, 1000), 0.5, 0.25)},
    "evidence": {"table": True, "settings": QuerySettings(2, 3, (9, 4, 1), 1.5, 0.0)},
    "three heads": {"table": True, "quantizer.kind": "residual", "model.heads": 3},
}
_FAST: dict[str, Pipeline] = {}


def fast(case: str) -> Pipeline:
    if case not in _FAST:
        _FAST[case] = random_pipeline(ITEMS, **_SETTINGS[case])
        assert _FAST[case]._fast is not None
    return _FAST[case]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(FAST), st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=14), st.integers(1, ITEMS + 2),
    st.sampled_from([1, 4, ITEMS, 2 * ITEMS]), st.booleans(),
)  # fmt: skip
def test_one_call_is_the_stages_bit_for_bit(case, history, k, rescore, include_seen):
    pipeline, events = fast(case), np.array(history, np.int32)
    hits = pipeline.recommend_one(events, k, rescore=rescore, include_seen=include_seen)
    ids, scores = pipeline._by_stages(events, k, max(k, rescore), include_seen, None, EVERY)
    size = min(k, len(ids))
    np.testing.assert_array_equal(hits.ids[0, :size], ids[:size])
    np.testing.assert_array_equal(hits.scores[0, :size], scores[:size].astype(np.float32))
    assert np.isnan(hits.scores[0, size:]).sum() + (hits.ids[0, size:] == -1).sum() == k - size


MASK = st.one_of(
    st.none(), st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS).map(np.array),
    st.sets(st.integers(0, ITEMS - 1), max_size=5).map(lambda held: np.isin(np.arange(ITEMS), sorted(held))),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(FAST), st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=14), st.integers(1, ITEMS + 2),
    st.sampled_from([0, 0, 1, 4, ITEMS]), st.booleans(), MASK, MASK,
)  # fmt: skip
def test_filters_and_cached_sums_in_one_call_are_the_stages(case, history, k, rescore, include_seen, allow, deny):
    pipeline, events = fast(case), np.array(history, np.int32)
    eligible, depth = Eligible.of(ITEMS, allow, deny), max(k, rescore) if rescore else 0
    hits = pipeline._in_one_call(events, k, depth, include_seen, None, eligible)
    ids, scores = pipeline._by_stages(events, k, depth, include_seen, None, eligible)
    size = min(k, len(ids))
    np.testing.assert_array_equal(hits.ids[0, :size], ids[:size])
    np.testing.assert_array_equal(hits.scores[0, :size], scores[:size].astype(np.float32))
    assert (hits.ids[0, size:] == -1).all()
    assert (hits.scores[0, size:] == -np.inf).all()
    one, other = (pipeline.recommend_one(events, k, rescore=rescore, include_seen=include_seen, allow=allow, deny=deny),
                  pipeline.retrieve(queries_of([history]), k, rescore=rescore, include_seen=include_seen, allow=allow,
                                    deny=deny))  # fmt: skip
    np.testing.assert_array_equal(one.ids, other.ids)


def test_buffers_are_kept_for_several_widths():
    pipeline, events = fast("table"), np.array([3, 1], np.int32)
    expected = [pipeline._by_stages(events, 2, depth, False, None, EVERY)[0][:2] for depth in range(2, ITEMS)]
    for _ in range(2):
        found = [pipeline.recommend_one(events, 2, rescore=depth).ids[0] for depth in range(2, ITEMS)]
        np.testing.assert_array_equal(found, expected)


def test_evidence_is_the_sum_of_all_lists_but_the_learned_ones():
    pipeline = fast("evidence")
    tokens, rows, weights, first = pipeline.encode_one(np.array([3, 1, 4], np.int32))
    ids, sums = pipeline.searcher.search_one(rows, weights, ITEMS)
    own = np.empty(len(ids), np.uint32)
    marks = pipeline.searcher.scratch().narrow
    answer.learned_sums(*pipeline.searcher.lists, rows[:first], weights[:first], marks, ids, own)
    assert not marks.any()
    evidence = pipeline.searcher.sums_of(rows[first:], weights[first:], ids)
    np.testing.assert_array_equal(sums - own, evidence)


def test_sums_too_wide_for_the_narrow_accumulator():
    pipeline = random_pipeline(ITEMS, table=True, settings=QuerySettings(60_000, 2, (60_000, 60_000), 0.5, 0.25))
    history = np.array([1, 5], np.int32)
    hits = pipeline.recommend_one(history, 4, rescore=8)
    ids, scores = pipeline._by_stages(history, 4, 8, False, None, EVERY)
    np.testing.assert_array_equal(hits.ids[0], ids[:4])
    np.testing.assert_array_equal(hits.scores[0], scores[:4].astype(np.float32))


def test_more_results_than_inserting_is_good_for_are_left_to_the_stages(monkeypatch):
    expected = [fast("table").recommend_one(np.array(h, np.int32), 5) for h in HISTORIES if h]
    monkeypatch.setattr(answer, "MOST_RESULTS", 4)
    found = [fast("table").recommend_one(np.array(h, np.int32), 5) for h in HISTORIES if h]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("case", ["both", "items only"])
def test_pipelines_without_a_table_of_codes_or_without_codes_go_by_stages(case):
    assert PIPELINES[case] is not None
    pipeline = made(case)
    resolver = pipeline.resolver
    assert (pipeline._fast is None) == (resolver is not None and resolver.table is None)


@pytest.mark.parametrize("item", [-1, ITEMS, 2**31 - 1])
def test_items_outside_the_index_are_refused_as_by_the_stages(item):
    with pytest.raises(QueryError):
        fast("table").recommend_one(np.array([item, 3], np.int32), 4)
    one = fast("table").recommend_one(np.array([3], np.int32), 4)
    assert (one.ids >= 0).all()


def test_threads_may_share_a_pipeline():
    pipeline = fast("evidence")
    expected = [pipeline.recommend_one(np.array(h, np.int32), 5).ids.tolist() for h in HISTORIES if h]
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(20):
            found = [pipeline.recommend_one(np.array(h, np.int32), 5).ids.tolist() for h in HISTORIES if h]
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
