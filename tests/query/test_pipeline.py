"""The online path against dictionaries, loops and sorting."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import QueryError
from sparcode.query.pipeline import Pipeline, QuerySettings
from sparcode.types import NO_ITEM
from tests.worlds import queries_of, random_pipeline

ITEMS = 23
HISTORIES = [[1, 5, 9], [], [4], [7, 7, 7, 2], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9], [22, 0], [*range(ITEMS)]]
PIPELINES = {
    "both": {},
    "table": {"table": True},
    "residual": {"quantizer.kind": "residual", "model.heads": 3},
    "learned only": {"family": False},
    "items only": {"learned": False},
    "no evidence": {"settings": QuerySettings(2, 1, (3, 2), 0.0)},
    "cached sums": {"settings": QuerySettings(2, 1, (3, 2), 0.5, 0.25)},
    "learned not read": {"settings": QuerySettings(0, 1, (3, 0, 2), 1.0)},
}
_MADE: dict[str, Pipeline] = {}


def made(case: str) -> Pipeline:
    """Return the pipeline of a case, built once."""
    if case not in _MADE:
        _MADE[case] = random_pipeline(ITEMS, **PIPELINES[case])
    return _MADE[case]


@pytest.fixture(params=PIPELINES)
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return made(request.param)


def slow_rows(pipeline: Pipeline, history: list[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the (row, weight) pairs of the learned and of the item family for one query."""
    if not history:
        return [], []
    learned, setting = [], pipeline.settings
    if pipeline.resolver is not None and setting.learned_weight:
        for token in pipeline.encoder.tokens(queries_of([history]))[0]:
            codes = pipeline.encoder.codes(token[None, None], setting.probes)[0][0, 0]
            learned += [(int(pipeline.resolver.rows(code[None])[0]), setting.learned_weight) for code in codes]
    index = pipeline.searcher.index
    weights = setting.item_weights if index.has_family("item") else ()
    aged = zip(reversed(history), weights, strict=False)
    items = [(index.family("item").first_row + item, weight) for item, weight in aged if weight]
    return learned, items


def slow_sums(pipeline: Pipeline, pairs: list[tuple[int, int]]) -> Counter:
    """Return item -> sum of weight * impact."""
    sums: Counter = Counter()
    for row, weight in pairs:
        for item, impact in zip(*pipeline.searcher.index.row(row), strict=True):
            sums[int(item)] += weight * int(impact)
    return sums


def slow_answer(
    pipeline: Pipeline, history: list[int], k: int, rescore: int, eligible: set[int], few: bool = False
) -> list:
    """Return [(item, score)] of one query, nan for filled places, padded with (NO_ITEM, -inf).

    ``few``: no more items are allowed than are rescored, so that all of them are candidates.
    """
    learned, items = slow_rows(pipeline, history)
    sums = slow_sums(pipeline, learned + items)
    if few and history:
        sums = Counter({item: sums[item] for item in eligible})
    found = sorted((item for item in sums if item in eligible), key=lambda item: (-sums[item], item))
    scale = pipeline.searcher.scale
    if rescore:
        found = found[: max(k, rescore)]
        evidence = slow_sums(pipeline, items)
        weight, cached = pipeline.settings.evidence_weight * scale, pipeline.settings.cached_weight * scale
        scores = {
            item: slow_score(pipeline, history, item) + weight * evidence[item] + cached * sums[item] for item in found
        }
        found.sort(key=lambda item: (-scores[item], item))
    else:
        scores = {item: sums[item] * scale for item in found}
    found = found[:k]
    rest = sorted(eligible - set(found))[: k - len(found)]
    row = [(item, scores[item]) for item in found] + [(item, math.nan) for item in rest]
    return row + [(NO_ITEM, -math.inf)] * (k - len(row))


def slow_score(pipeline: Pipeline, history: list[int], item: int) -> float:
    """The all-to-all score by its definition, in float64."""
    rescorer, total = pipeline.rescorer, 0.0
    c = rescorer.flat[item].astype(np.float64)
    for token in pipeline.encoder.tokens(queries_of([history]))[0].astype(np.float64):
        hidden = np.maximum(0, (token * c) @ rescorer.perceptron.item_weight + rescorer.perceptron.first_bias)
        total += float(rescorer.item_bias[item]) + token @ c / rescorer.temperature
        total += hidden @ rescorer.perceptron.out_weight + rescorer.perceptron.out_bias
    return total


def check(hits, row: int, wanted: list) -> None:
    """Compare one row of hits with the slow answer."""
    assert hits.ids[row].tolist() == [item for item, _ in wanted]
    np.testing.assert_allclose(hits.scores[row], [score for _, score in wanted], rtol=1e-4, atol=1e-4)
    filled = [item != NO_ITEM and math.isnan(score) for item, score in wanted]
    assert hits.filled[row].tolist() == filled


@pytest.mark.parametrize("rescore", [0, 8, ITEMS])
@pytest.mark.parametrize("k", [1, 5, ITEMS, ITEMS + 4])
def test_answers_equal_the_slow_path(pipeline: Pipeline, k: int, rescore: int):
    hits = pipeline.retrieve(queries_of(HISTORIES), k, rescore=rescore)
    assert hits.ids.shape == hits.scores.shape == (len(HISTORIES), k)
    assert hits.ids.dtype == np.int32
    assert hits.scores.dtype == np.float32
    for row, history in enumerate(HISTORIES):
        check(hits, row, slow_answer(pipeline, history, k, rescore, set(range(ITEMS)) - set(history)))


def test_the_lists_a_query_reads(pipeline: Pipeline):
    state = pipeline.encode(queries_of(HISTORIES))
    for row, history in enumerate(HISTORIES):
        learned, items = slow_rows(pipeline, history)
        low, high = state.indptr[row : row + 2]
        assert (
            list(zip(state.rows[low:high].tolist(), state.weights[low:high].tolist(), strict=True)) == learned + items
        )
        assert state.item_start[row] - low == len(learned)
        assert state.known[row] == bool(history)


@pytest.mark.parametrize("rescore", [0, None, ITEMS])
@pytest.mark.parametrize("include_seen", [False, True])
def test_batch_equals_single(pipeline: Pipeline, rescore: int | None, include_seen: bool):
    batch = pipeline.retrieve(queries_of(HISTORIES), 6, rescore=rescore, include_seen=include_seen)
    for row, history in enumerate(HISTORIES):
        alone = pipeline.retrieve(queries_of([history]), 6, rescore=rescore, include_seen=include_seen)
        np.testing.assert_array_equal(alone.ids[0], batch.ids[row])
        np.testing.assert_array_equal(alone.scores[0], batch.scores[row])
        assert alone.ids.shape == (1, 6)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["both", "items only"]),
    st.lists(st.integers(0, ITEMS - 1), max_size=12),
    st.integers(1, ITEMS + 3),
    st.sampled_from([0, 1, 8]),
    st.booleans(),
    st.none() | st.sets(st.integers(0, ITEMS - 1)),
    st.none() | st.sets(st.integers(0, ITEMS - 1)),
)
def test_filters_and_fill(case, history, k, rescore, include_seen, allow, deny):
    def mask(ids: set[int] | None) -> np.ndarray | None:
        return None if ids is None else np.isin(np.arange(ITEMS), list(ids))

    pipeline = made(case)
    options = {"include_seen": include_seen, "allow": mask(allow), "deny": mask(deny)}
    hits = pipeline.retrieve(queries_of([history]), k, rescore=rescore, **options)
    eligible = set(range(ITEMS)) if allow is None else set(allow)
    eligible -= (deny or set()) | (set() if include_seen else set(history))
    found = hits.ids[0][hits.ids[0] != NO_ITEM].tolist()
    assert len(found) == min(k, len(eligible)) == len(set(found))
    assert set(found) <= eligible
    filtered = allow is not None or deny is not None
    left = (set(range(ITEMS)) if allow is None else allow) - (deny or set())
    few = filtered and rescore > 0 and len(left) <= max(k, rescore)
    check(hits, 0, slow_answer(pipeline, history, k, rescore, eligible, few))
    # What popularity filled stands last, most popular first.
    places = np.flatnonzero(hits.filled[0]).tolist()
    assert places == list(range(len(found) - len(places), len(found)))
    assert found[len(found) - len(places) :] == sorted(found[len(found) - len(places) :])


def full_pipeline(**options) -> Pipeline:
    """Return a pipeline whose learned lists hold every item."""
    return random_pipeline(ITEMS, stored=3, longest=10**6, seed=5, **options)


def test_exhaustive_is_rescoring_of_everything():
    pipeline = full_pipeline()
    index = pipeline.searcher.index
    full = [row for row in range(3) if len(index.row(row)[0]) == ITEMS]
    histories = [history for history in HISTORIES[:6] if history]
    covered = [h for h in histories if any(row in full for row, _ in slow_rows(pipeline, h)[0])]
    assert covered, "the world must hold lists of all items"
    for include_seen in (False, True):
        queries = queries_of(covered)
        rescored = pipeline.retrieve(queries, ITEMS, rescore=ITEMS, include_seen=include_seen)
        exhaustive = pipeline.retrieve_exhaustive(queries, ITEMS, include_seen=include_seen)
        np.testing.assert_array_equal(rescored.ids, exhaustive.ids)
        np.testing.assert_allclose(rescored.scores, exhaustive.scores, rtol=1e-5, atol=1e-5)


def test_exhaustive_ranks_all_unseen_items(pipeline: Pipeline):
    hits = pipeline.retrieve_exhaustive(queries_of(HISTORIES), ITEMS + 2)
    for row, history in enumerate(HISTORIES):
        unseen = set(range(ITEMS)) - set(history)
        learned, items = slow_rows(pipeline, history)
        evidence, sums = slow_sums(pipeline, items), slow_sums(pipeline, learned + items)
        scale = pipeline.searcher.scale
        weight, cached = pipeline.settings.evidence_weight * scale, pipeline.settings.cached_weight * scale
        scores = {
            item: slow_score(pipeline, history, item) + weight * evidence[item] + cached * sums[item] for item in unseen
        }
        ranked = sorted(scores, key=lambda item: (-scores[item], item)) if history else sorted(unseen)
        assert hits.ids[row, : len(unseen)].tolist() == ranked
        assert (hits.ids[row, len(unseen) :] == NO_ITEM).all()


def test_a_code_that_occurs_twice_counts_twice():
    pipeline = random_pipeline(ITEMS, stored=1, longest=20, settings=QuerySettings(5, 2, (), 0.0))
    hits = pipeline.retrieve(queries_of([[1]]), ITEMS, rescore=0, include_seen=True)
    ids, impacts = pipeline.searcher.index.row(0)
    heads, probes = 2, 2  # every code falls back on the only stored one
    wanted = dict(zip(ids.tolist(), (impacts * (5 * heads * probes * 0.01)).tolist(), strict=True))
    scored = ~hits.filled[0]
    found = dict(zip(hits.ids[0][scored].tolist(), hits.scores[0][scored].tolist(), strict=True))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_an_item_that_occurs_twice_counts_twice():
    pipeline = random_pipeline(ITEMS, learned=False, settings=QuerySettings(0, 1, (4, 3), 0.0))
    ids, impacts = pipeline.searcher.index.row(7)
    assert len(ids)
    hits = pipeline.retrieve(queries_of([[7, 7]]), len(ids), rescore=0, include_seen=True)
    wanted = dict(zip(ids.tolist(), (impacts * 0.07).tolist(), strict=True))
    assert dict(zip(hits.ids[0].tolist(), hits.scores[0].tolist(), strict=True)) == pytest.approx(wanted, rel=1e-5)


def test_threads_do_not_change_the_answer():
    pipeline = made("both")
    state = pipeline.encode(queries_of(HISTORIES * 5))
    one, two = (pipeline.search(state, 6, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.ids, two.ids)
    np.testing.assert_array_equal(one.sums, two.sums)


def test_features_answer_without_a_history():
    pipeline = random_pipeline(ITEMS, features=3)
    features = np.array([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0], [0.5, -1.0, 2.0]], np.float32)
    histories = [[], [], [4, 2]]
    hits = pipeline.retrieve(queries_of(histories, features), 5)
    state = pipeline.encode(queries_of(histories, features))
    assert state.known.tolist() == [True, False, True]
    assert not hits.filled[0].all()
    assert hits.filled[1].all(), "nothing is known of the second query"
    for row, history in enumerate(histories):
        one = pipeline.retrieve(queries_of([history], features[row : row + 1]), 5)
        np.testing.assert_array_equal(one.ids[0], hits.ids[row])
        np.testing.assert_allclose(one.scores[0], hits.scores[row], rtol=1e-5)


def test_with_settings_leaves_the_first_alone():
    pipeline = made("both")
    other = pipeline.with_settings(replace(pipeline.settings, item_weights=(), learned_weight=0))
    assert len(other.encode(queries_of(HISTORIES)).rows) == 0
    assert len(pipeline.encode(queries_of(HISTORIES)).rows) > 0
    assert other.retrieve(queries_of([[1]]), 3, rescore=0).filled.all()


def test_settings_survive_json():
    settings = QuerySettings(4, 2, (16, 11), 0.25)
    assert QuerySettings.from_json(settings.to_json() | {"note": "kept beside"}) == settings


def test_explanations_add_up(pipeline: Pipeline):
    for history in HISTORIES:
        hits = pipeline.retrieve(queries_of([history]), 3, rescore=0, include_seen=True)
        exact = pipeline.retrieve_exhaustive(queries_of([history]), ITEMS, include_seen=True)
        for place, item in enumerate(hits.ids[0].tolist()):
            told = pipeline.explain(queries_of([history]), item)
            assert sum(part["contribution"] for part in told["lists"]) == pytest.approx(told["cached_score"])
            if not hits.filled[0, place]:
                assert told["cached_score"] == pytest.approx(float(hits.scores[0, place]), rel=1e-5)
            if history:
                score = float(exact.scores[0][exact.ids[0] == item][0])
                assert told["exact_score"] == pytest.approx(score, rel=1e-5)
                assert told["exact_score"] == pytest.approx(told["interaction_score"] + told["evidence_score"])


def test_no_queries_no_answers(pipeline: Pipeline):
    assert pipeline.retrieve(queries_of([]), 4).ids.shape == (0, 4)
    assert pipeline.retrieve(queries_of([]), 4, rescore=0).scores.shape == (0, 4)


@pytest.mark.parametrize("bad", [{"k": 0}, {"k": -3}, {"k": 2, "rescore": -1}])
def test_bad_numbers_are_one_line(bad: dict):
    with pytest.raises(QueryError) as caught:
        made("both").retrieve(queries_of([[1]]), **bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("item", [-1, ITEMS])
def test_unknown_internal_items_are_refused(item: int):
    with pytest.raises(QueryError, match=f"outside 0..{ITEMS - 1}"):
        made("both").retrieve(queries_of([[1, item]]), 3)


def test_few_allowed_items_are_all_rescored_whatever_the_lists_hold(pipeline: Pipeline):
    allow = np.zeros(ITEMS, bool)
    allow[[2, 6, 17, 20, 21]] = True
    queries = queries_of(HISTORIES)
    hits = pipeline.retrieve(queries, 3, rescore=5, allow=allow)
    everything = pipeline.retrieve_exhaustive(queries, ITEMS)
    for row, history in enumerate(HISTORIES):
        if not history:
            continue
        wanted = [item for item in everything.ids[row].tolist() if item != NO_ITEM and allow[item]][:3]
        assert [item for item in hits.ids[row].tolist() if item != NO_ITEM] == wanted
