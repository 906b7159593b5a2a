"""What queries read of every family, against loops over their histories and features."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import IndexMismatchError, QueryError
from sparcode.index.layout import Family, make_index, pack
from sparcode.query.families import (
    CategoryReader,
    ItemReader,
    RowReader,
    Rows,
    SegmentReader,
    aged_weights,
    concatenated,
)
from sparcode.query.pipeline import Pipeline, QuerySettings
from sparcode.query.search.searcher import Searcher
from sparcode.types import NO_ITEM
from tests.worlds import queries_of, random_pipeline, sequences_of

ITEMS, WORDS, SEGMENTS = 23, 7, 5
ITEM_WORDS = [[(item * 3) % WORDS, (item + 5) % WORDS][: item % 3] for item in range(ITEMS)]
ITEM_WORDS = [sorted(set(words)) for words in ITEM_WORDS]
READ = QuerySettings(3, 2, (16, 11, 8, 0, 4), 0.7, 0.2, (4, 0, 2, 1), 2)

histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), min_size=1, max_size=5)
weights = st.lists(st.integers(0, 20), max_size=6).map(tuple)


def slow_items(history: list[int], ages: tuple[int, ...], first: int) -> list[tuple[int, int]]:
    """Return the (row, weight) pairs of the item family."""
    return [(first + item, weight) for item, weight in zip(reversed(history), ages, strict=False) if weight]


def slow_categories(history: list[int], ages: tuple[int, ...], first: int) -> list[tuple[int, int]]:
    """Return the (row, weight) pairs of the category family: every occurrence of a word counts."""
    sums: Counter = Counter()
    for item, weight in zip(reversed(history), ages, strict=False):
        for word in ITEM_WORDS[item]:
            sums[first + word] += weight
    return sorted((row, weight) for row, weight in sums.items() if weight)


def slow_segments(history: list[int], features: np.ndarray, weight: int, first: int) -> list[tuple[int, int]]:
    """Return the (row, weight) pairs of the segment family."""
    weight = weight if history else max(weight, 1)
    return [(first + word, weight) for word in range(SEGMENTS) if features[word] > 0 and weight]


def category_reader(ages: tuple[int, ...], first: int = 0) -> CategoryReader:
    rows = sequences_of(ITEM_WORDS)
    return CategoryReader(first, WORDS, rows.indptr, rows.items, ages)


def random_features(count: int, seed: int = 0) -> np.ndarray:
    """Return features: SEGMENTS categories, about half of them unset, and two numbers."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, SEGMENTS + 2)).astype(np.float32)
    features[:, :SEGMENTS] = np.maximum(features[:, :SEGMENTS], 0)
    return features


def pairs(rows: np.ndarray, weights: np.ndarray) -> list[tuple[int, int]]:
    assert rows.dtype == weights.dtype == np.int32
    return list(zip(rows.tolist(), weights.tolist(), strict=True))


def check(reader: RowReader, batch: list[list[int]], features: np.ndarray | None, wanted: list) -> None:
    """Compare both ways of reading with the slow pairs of every query."""
    found = reader.read(queries_of(batch, features))
    assert found.indptr.dtype == np.int64
    assert found.indptr[0] == 0
    assert len(found.indptr) == len(batch) + 1
    for row, history in enumerate(batch):
        part = slice(found.indptr[row], found.indptr[row + 1])
        one = reader.read(queries_of([history], None if features is None else features[row : row + 1]))
        assert pairs(found.rows[part], found.weights[part]) == pairs(one.rows, one.weights) == wanted[row]


@settings(max_examples=60, deadline=None)
@given(histories, weights, st.integers(0, 50))
def test_items_and_categories_equal_loops(batch, ages, first):
    check(ItemReader(first, ages), batch, None, [slow_items(history, ages, first) for history in batch])
    wanted = [slow_categories(history, ages, first) for history in batch]
    check(category_reader(ages, first), batch, None, wanted)


@settings(max_examples=60, deadline=None)
@given(histories, st.integers(0, 16), st.integers(0, 50), st.integers(0, 5))
def test_segments_equal_loops(batch, weight, first, seed):
    features = random_features(len(batch), seed)
    rows = [slow_segments(history, features[row], weight, first) for row, history in enumerate(batch)]
    check(SegmentReader(first, SEGMENTS, weight), batch, features, rows)
    check(SegmentReader(first, SEGMENTS, weight), batch, None, [[] for _ in batch])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 4), st.data())
def test_families_stand_one_after_the_other_in_every_query(parts, queries, data):
    sizes = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=queries, max_size=queries), min_size=parts,
                               max_size=parts))  # fmt: skip
    made, wanted, number = [], [[] for _ in range(queries)], 0
    for part in sizes:
        numbers = np.arange(number, number + sum(part), dtype=np.int32)
        indptr = np.cumsum([0, *part]).astype(np.int64)
        made.append(Rows(numbers, numbers + 1, indptr))
        for query in range(queries):
            wanted[query] += numbers[indptr[query] : indptr[query + 1]].tolist()
        number += len(numbers)
    found = concatenated(made)
    assert [found.rows[low:high].tolist() for low, high in zip(found.indptr, found.indptr[1:], strict=False)] == wanted
    assert (found.weights == found.rows + 1).all()


def test_segments_need_features_wide_enough():
    reader, narrow = SegmentReader(0, SEGMENTS, 1), np.ones((1, SEGMENTS - 1), np.float32)
    with pytest.raises(QueryError, match="features are 4 wide") as caught:
        reader.read(queries_of([[]], narrow))
    assert "\n" not in str(caught.value)


def test_weights_by_age_follow_those_of_the_items():
    assert aged_weights(4, (32, 16, 8, 4, 3), 0.1, 50) == (4, 2, 1, 1)
    assert aged_weights(4, (32, 16, 8, 4, 3), 0.1, 2) == (4, 2)
    assert aged_weights(1, (32, 16, 8), 0.1, 50) == (1, 1)
    assert aged_weights(8, (16, 32, 0, 8), 0.1, 50) == (4, 8, 0, 2)
    assert aged_weights(8, (), 0.5, 50) == (8, 4, 2, 1, 1), "no item lists: they fade by the decay"
    assert aged_weights(0, (32, 16), 0.5, 50) == ()


@cache
def made(features: int = 0, learned: bool = True, setting: QuerySettings = READ) -> Pipeline:
    """Return a random pipeline whose index also holds lists of categories and of segments."""
    base = random_pipeline(ITEMS, features=features, learned=learned)
    index, random = base.searcher.index, np.random.default_rng(1)
    lists = [np.sort(random.choice(ITEMS, random.integers(0, 8), replace=False)) for _ in range(WORDS + SEGMENTS)]
    ids = np.concatenate(lists)
    ends = int(index.indptr[-1]) + np.cumsum([len(part) for part in lists])
    first = index.row_count
    families = [*index.families, Family("segment", first, SEGMENTS), Family("category", first + SEGMENTS, WORDS)]
    more = pack(ids, random.integers(1, 256, len(ids)))
    wide = make_index(
        np.concatenate([index.indptr, ends]), np.concatenate([index.postings, more]), ITEMS, 0.01, families,
        code_table=index.code_table, code_rows=index.code_rows,
    )  # fmt: skip
    words = sequences_of(ITEM_WORDS)
    resolver = base.resolver
    return Pipeline(
        base.encoder, Searcher(wide), base.rescorer, setting, rescore=8, item_words=(words.indptr, words.items),
        codebooks=None if resolver is None else resolver.codebooks, codebook_kind="product",
    )  # fmt: skip


HISTORIES = [[1, 5, 9], [], [4], [7, 7, 7, 2], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9], [], [*range(ITEMS)]]
FEATURES = random_features(len(HISTORIES), 3)
FEATURES[1, :3] = 0.5
FEATURES[5] = 0.0
PIPELINES = {
    "encoder without features": (0, True, READ),
    "encoder with features": (SEGMENTS + 2, True, READ),
    "no learned lists": (0, False, READ),
    "segments for new users alone": (0, True, replace(READ, segment_weight=0)),
    "nothing of words": (0, True, replace(READ, segment_weight=0, category_weights=())),
}


@pytest.fixture(params=PIPELINES)
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return made(*PIPELINES[request.param])


def test_a_query_reads_learned_rows_first_and_then_every_other_family(pipeline: Pipeline):
    state, setting, index = pipeline.encode(queries_of(HISTORIES, FEATURES)), pipeline.settings, pipeline.searcher.index
    for row, history in enumerate(HISTORIES):
        low, first, high = state.indptr[row], state.item_start[row], state.indptr[row + 1]
        wanted = slow_items(history, setting.item_weights, index.family("item").first_row)
        wanted += slow_categories(history, setting.category_weights, index.family("category").first_row)
        first_segment = index.family("segment").first_row
        wanted += slow_segments(history, FEATURES[row], setting.segment_weight, first_segment)
        assert pairs(state.rows[first:high], state.weights[first:high]) == wanted
        learned = [index.family_of(int(each)).name for each in state.rows[low:first]]
        assert set(learned) <= {"learned"}
        assert len(learned) == (4 if state.known[row] and pipeline.resolver is not None else 0), "2 tokens, 2 probes"


def test_one_query_reads_what_a_batch_reads(pipeline: Pipeline):
    state = pipeline.encode(queries_of(HISTORIES, FEATURES))
    for row, history in enumerate(HISTORIES):
        low, high = state.indptr[row : row + 2]
        one = pipeline.encode(queries_of([history], FEATURES[row : row + 1]))
        assert pairs(one.rows, one.weights) == pairs(state.rows[low:high], state.weights[low:high])
        assert one.item_start[0] == state.item_start[row] - low
        assert one.known[0] == state.known[row]
        np.testing.assert_array_equal(one.tokens[0], state.tokens[row])


@pytest.mark.parametrize("rescore", [0, None, ITEMS])
def test_one_answer_equals_a_batch(pipeline: Pipeline, rescore: int | None):
    batch = pipeline.retrieve(queries_of(HISTORIES, FEATURES), 6, rescore=rescore)
    for row, history in enumerate(HISTORIES):
        one = pipeline.retrieve(queries_of([history], FEATURES[row : row + 1]), 6, rescore=rescore)
        np.testing.assert_array_equal(one.ids[0], batch.ids[row])
        np.testing.assert_array_equal(one.scores[0], batch.scores[row])


def test_a_user_without_history_is_answered_by_the_lists_of_the_segments():
    pipeline = made(*PIPELINES["segments for new users alone"])
    index, features = pipeline.searcher.index, FEATURES[1:2]
    sums: Counter = Counter()
    for row, weight in slow_segments([], features[0], 0, index.family("segment").first_row):
        for item, impact in zip(*index.row(row), strict=True):
            sums[int(item)] += weight * int(impact)
    ranked = sorted(sums, key=lambda item: (-sums[item], item))
    assert len(ranked) > 3
    for rescore in (0, 8):
        hits = pipeline.retrieve(queries_of([[]], features), len(ranked) + 2, rescore=rescore)
        assert hits.ids[0, : len(ranked)].tolist() == ranked
        np.testing.assert_allclose(hits.scores[0, : len(ranked)], [sums[item] * 0.01 for item in ranked], rtol=1e-6)
        assert hits.filled[0].tolist() == [False] * len(ranked) + [True, True], "popularity comes behind"
    everything = pipeline.retrieve_exhaustive(queries_of([[]], features), len(ranked))
    assert everything.ids[0].tolist() == ranked


def test_without_features_and_history_popularity_answers(pipeline: Pipeline):
    for features in (None, np.zeros((1, SEGMENTS + 2), np.float32)):
        hits = pipeline.retrieve(queries_of([[]], features), 4)
        assert hits.ids[0].tolist() == [0, 1, 2, 3]
        assert hits.filled.all()


def test_explanations_name_every_family_and_add_up():
    pipeline, told = made(), Counter()
    for item in range(ITEMS):
        query = queries_of(HISTORIES[:1], FEATURES[:1])
        explained = pipeline.explain(query, item)
        assert sum(part["contribution"] for part in explained["lists"]) == pytest.approx(explained["cached_score"])
        told.update((part["family"], part["code"]) for part in explained["lists"] if part["family"] != "learned")
    families = {name for name, _ in told}
    assert families == {"item", "category", "segment"}
    assert {code for name, code in told if name == "segment"} <= set(np.flatnonzero(FEATURES[0, :SEGMENTS] > 0))
    read = {word for item in HISTORIES[0] for word in ITEM_WORDS[item]}
    assert {code for name, code in told if name == "category"} <= read


def test_lists_of_categories_are_useless_without_those_of_the_items():
    base = made()
    with pytest.raises(IndexMismatchError, match="nothing says which"):
        Pipeline(base.encoder, base.searcher, base.rescorer, READ)


def test_bytes_of_the_item_words_are_counted():
    pipeline, plain = made(), random_pipeline(ITEMS)
    words = sequences_of(ITEM_WORDS)
    assert pipeline.encoder_bytes == pipeline.encoder.bytes + words.indptr.nbytes + words.items.nbytes
    assert plain.encoder_bytes == plain.encoder.bytes
    assert pipeline.reads_user_features
    assert not plain.reads_user_features


def test_settings_with_families_survive_json():
    assert QuerySettings.from_json(READ.to_json()) == READ
    old = {key: value for key, value in READ.to_json().items() if key not in ("category_weights", "segment_weight")}
    assert QuerySettings.from_json(old) == replace(READ, category_weights=(), segment_weight=0)


def test_no_queries_read_nothing(pipeline: Pipeline):
    hits = pipeline.retrieve(queries_of([], np.zeros((0, SEGMENTS + 2), np.float32)), 4)
    assert hits.ids.shape == (0, 4)
    assert not (hits.ids == NO_ITEM).any()


def test_reading_needs_no_torch():
    code = "import sys, sparcode.query.families, sparcode.build.items.words; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
