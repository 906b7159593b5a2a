"""Lists of words counted against dense matrices, their weights chosen on validation, and both in a trained run."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.api import SparCode
from sparcode.build import fit
from sparcode.build.items import words as word_lists
from sparcode.build.items.evidence import ListSettings
from sparcode.build.items.words import (
    LEAST_EVENTS,
    SMOOTHING,
    count_categories,
    count_segments,
    open_word_lists,
    words_with_lists,
    write_word_lists,
)
from sparcode.build.job import build_index
from sparcode.build.tuning import ndcg
from sparcode.config import Config, ItemFamilyConfig, updated
from sparcode.data.features import FeatureLayout, Features
from sparcode.data.synthetic import planted_groups, write_world
from sparcode.errors import BudgetError, ConfigError, QueryError
from sparcode.files import read_json, write_json
from sparcode.index.arrays import read_arrays
from sparcode.query import model_checks
from sparcode.query.families import aged_weights
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run
from sparcode.train.defaults import resolve
from sparcode.train.run import train_run
from sparcode.types import NO_ITEM, EvaluationSet, Queries, Sequences
from tests.build.test_fit import WEIGHTS, held_out
from tests.query.test_families import ITEMS as MADE_ITEMS
from tests.query.test_families import READ, made, random_features
from tests.worlds import TINY, queries_of, sequences_of, tiny_config

ITEMS, WORDS = 14, 5

events = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), min_size=1, max_size=12)
item_words = st.lists(st.sets(st.integers(0, WORDS - 1), max_size=3), min_size=ITEMS, max_size=ITEMS)


def features_of(words: list[set[int]], count: int = WORDS) -> Features:
    """Return features of one category column."""
    rows = sequences_of([sorted(row) for row in words])
    layout = FeatureLayout([f"kind={word}" for word in range(count)])
    return Features(layout, rows.indptr, rows.items, np.zeros((len(words), 0), np.float32))


def dense_categories(train: Sequences, words: list[set[int]], counts: ItemFamilyConfig) -> np.ndarray:
    """Return T (WORDS, ITEMS) by its definition; rows of rare words are 0."""
    popularity = np.bincount(train.items, minlength=ITEMS)
    next_items = np.zeros((ITEMS, ITEMS))
    for row in (train.row(index) for index in range(len(train))):
        for here, source in enumerate(row):
            for there, target in enumerate(row):
                if source != target and 0 < abs(there - here) <= counts.window:
                    factor = 1.0 if there > here else counts.reverse
                    next_items[source, target] += factor / abs(there - here)
    next_items *= np.maximum(popularity, 1.0) ** -counts.target_power
    dense = np.zeros((WORDS, ITEMS))
    for word in range(WORDS):
        owners = [item for item in range(ITEMS) if word in words[item]]
        total = sum(popularity[item] for item in owners)
        if total >= LEAST_EVENTS:
            dense[word] = sum(next_items[item] / len(words[item]) for item in owners) / total**counts.source_power
    return dense


def dense_segments(train: Sequences, words: list[set[int]]) -> tuple[np.ndarray, list[int]]:
    """Return P (WORDS, ITEMS) and the words that are common enough."""
    popularity = np.bincount(train.items, minlength=ITEMS)
    dense, common = np.zeros((WORDS, ITEMS)), []
    for word in range(WORDS):
        taken = [item for user in range(len(train)) if word in words[user] for item in train.row(user)]
        if len(taken) >= LEAST_EVENTS:
            common.append(word)
            for item in range(ITEMS):
                share = popularity[item] / len(train.items)
                dense[word, item] = (taken.count(item) + SMOOTHING * share) / (len(taken) + SMOOTHING)
    return dense, common


def check_best(items: np.ndarray, values: np.ndarray, dense: np.ndarray, length: int) -> None:
    """Compare one list with the ``length`` best positive values of a dense row."""
    assert len(items) == min(length, int((dense > 0).sum()))
    assert (np.diff(items) > 0).all()
    np.testing.assert_allclose(values, dense[items], rtol=1e-5)
    left = np.setdiff1d(np.arange(len(dense)), items)
    if len(items) == length and len(left):
        assert values.min() >= dense[left].max() * (1 - 1e-6)


@settings(max_examples=60, deadline=None)
@given(events, item_words, st.integers(1, 8))
def test_categories_equal_the_dense_matrix(rows, words, length):
    counts, train = ItemFamilyConfig(window=3), sequences_of(rows)
    lists = count_categories(train, features_of(words), counts, length)
    dense = dense_categories(train, words, counts)
    assert len(lists.indptr) == WORDS + 1
    assert (lists.indptr.dtype, lists.items.dtype, lists.values.dtype) == (np.int64, np.int32, np.float32)
    for word in range(WORDS):
        check_best(*lists.row(word), dense[word], length)


@settings(max_examples=60, deadline=None)
@given(events, st.data(), st.integers(1, ITEMS + 2))
def test_segments_equal_the_dense_matrix(rows, data, length):
    words = data.draw(st.lists(st.sets(st.integers(0, WORDS - 1), max_size=3), min_size=len(rows), max_size=len(rows)))
    train = sequences_of(rows)
    lists = count_segments(train, features_of(words), ITEMS, length)
    dense, common = dense_segments(train, words)
    for word in range(WORDS):
        items, values = lists.row(word)
        if word not in common:
            assert not len(items)
            continue
        ranked = sorted((share for share in dense[word] if share > 0), reverse=True)
        cut = ranked[length] if length < len(ranked) else ranked[-1]
        over = np.log(np.maximum(dense[word], 1e-30) / cut)
        over[over < 1e-6] = 0.0
        assert values.min(initial=1.0) > 0
        real = values > 1e-6  # of items as probable as the cut rounding may leave a trace
        check_best(items[real], values[real], over, length)


def test_ties_fall_to_the_smaller_id():
    words = features_of([{0}] * ITEMS, 1)
    lists = count_categories(sequences_of([[5, 9], [9, 5]] * 3), words, ItemFamilyConfig(), 1)
    assert lists.items.tolist() == [5]
    users = features_of([{0}] * 2, 1)
    items, values = count_segments(sequences_of([[3, 1, 8, 0], [3, 1, 8, 0]]), users, ITEMS, 2).row(0)
    assert not len(items), "the cut is as probable as those above it"
    items, _ = count_segments(sequences_of([[3, 1, 8, 0], [3, 1, 8]]), users, ITEMS, 2).row(0)
    assert not len(items)
    items, _ = count_segments(sequences_of([[3, 1, 8, 0], [3, 1, 8]]), users, ITEMS, 3).row(0)
    assert items.tolist() == [1, 3, 8]


def test_many_sources_are_added_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    rows = [random.integers(0, ITEMS, 12).tolist() for _ in range(20)]
    words = features_of([{item % 2, 2} for item in range(ITEMS)])
    whole = count_categories(sequences_of(rows), words, ItemFamilyConfig(), 9)
    monkeypatch.setattr(word_lists, "SOURCES_AT_ONCE", 3)
    parts = count_categories(sequences_of(rows), words, ItemFamilyConfig(), 9)
    np.testing.assert_array_equal(whole.items, parts.items)
    np.testing.assert_allclose(whole.values, parts.values, rtol=1e-6)


def test_words_without_a_list_are_not_read():
    words = features_of([{0, 1}, {1}, {2}, set(), {0, 2}])
    lists = count_segments(
        sequences_of([[0, 1, 2, 3, 4, 0]] * 2 + [[]] * 3), features_of([{1}, {1}, *[set()] * 3]), 5, 3
    )
    kept = words_with_lists(words, lists)
    assert np.diff(lists.indptr).nonzero()[0].tolist() == [1]
    assert kept["item_indptr"].tolist() == [0, 1, 2, 2, 2, 2]
    assert kept["item_words"].tolist() == [1, 1]


def questions() -> EvaluationSet:
    """Return validation queries with features, some of users without history."""
    part = held_out(40, seed=2)
    return replace(part, queries=replace(part.queries, user_features=random_features(len(part), 4)))


def cached_gain(pipeline: Pipeline, part: EvaluationSet) -> float:
    """Return the NDCG@10 of the cached sums, nothing filled in."""
    hits = pipeline.retrieve(part.queries, 10, rescore=0)
    return ndcg(np.where(hits.filled, NO_ITEM, hits.ids), part)


def test_weights_of_words_are_the_best_of_those_tried():
    pipeline, part, config = made(setting=replace(READ, item_weights=WEIGHTS)), questions(), tiny_config()
    chosen, figures = fit.fit_settings(pipeline, part, config, WEIGHTS)
    plain = replace(chosen, evidence_weight=0.0, cached_weight=0.0, category_weights=(), segment_weight=0)
    assert figures["validation_ndcg@10_cache_without_words"] == cached_gain(pipeline.with_settings(plain), part)
    by_age = [aged_weights(weight, WEIGHTS, 0.7, 50) for weight in fit.WORD_WEIGHTS]
    gains = [cached_gain(pipeline.with_settings(replace(plain, category_weights=ages)), part) for ages in by_age]
    assert chosen.category_weights == by_age[int(np.argmax(gains))]
    plain = replace(plain, category_weights=chosen.category_weights)
    gains = [cached_gain(pipeline.with_settings(replace(plain, segment_weight=w)), part) for w in fit.WORD_WEIGHTS]
    assert chosen.segment_weight == fit.WORD_WEIGHTS[int(np.argmax(gains))]
    assert figures["validation_ndcg@10_cache"] == max(gains)
    assert by_age[0] == (), "the first of equals is not to read the family"


def test_settings_without_validation_read_categories_a_little():
    chosen = fit.default_settings(made(), tiny_config(), (32, 16, 8))
    assert chosen.category_weights == (2, 1, 1)
    assert chosen.segment_weight == 0
    assert fit.default_settings(made(), tiny_config(**{"families.category.history": 1}), ()).category_weights == (2,)


def test_items_of_the_random_world_are_those_of_the_fit_tests():
    assert held_out().queries.items.max() < MADE_ITEMS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with both families, not indexed."""
    folder = tmp_path_factory.mktemp("words")
    data = write_world(planted_groups(60, 40, 4, 10), folder / "data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = {"families.category.enabled": True, "families.category.length": 9, "families.segment.enabled": True}
        config = tiny_config(**words)
        train_run(str(data), folder / "run", config, progress=False, baselines=False)
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def check_lists(run: Path, name: str, file: str) -> None:
    """Compare a family of the stored index with the lists that were counted."""
    index, arrays = Pipeline.open(run).searcher.index, read_arrays(run / "model" / file)
    family = index.family(name)
    assert family.rows == len(arrays["indptr"]) - 1
    for word in range(family.rows):
        part = slice(arrays["indptr"][word], arrays["indptr"][word + 1])
        ids, impacts = index.row(family.first_row + word)
        assert ids.tolist() == arrays["items"][part].tolist()
        np.testing.assert_allclose(
            impacts * index.scale * family.multiplier, arrays["values"][part], atol=index.scale * family.multiplier
        )


def test_counted_lists_are_stored_and_read_back(run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fit, "WORD_WEIGHTS", (4,))
    summary = build_index(run, density=50.0)
    opened = Pipeline.open(run)
    assert [family.name for family in opened.searcher.index.families] == ["learned", "item", "segment", "category"]
    check_lists(run, "category", "categories.safetensors")
    check_lists(run, "segment", "segments.safetensors")
    assert summary["category_postings"] > 0
    assert summary["segment_postings"] > 0
    assert opened.settings.category_weights[0] == opened.settings.segment_weight == 4
    # Counted and written again: the same bytes.
    dataset = Run.open(run).dataset
    write_word_lists(dataset, Run.open(run).config.families, tmp_path)
    for name in model_checks.WORD_FILES.values():
        assert (tmp_path / name).read_bytes() == (run / "model" / name).read_bytes()
    # Built again: the same index.
    before = opened.searcher.index.arrays()
    build_index(run, density=50.0)
    for name, array in Pipeline.open(run).searcher.index.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_one_query_of_a_stored_index_equals_a_batch(run: Path, monkeypatch):
    monkeypatch.setattr(fit, "WORD_WEIGHTS", (2,))
    build_index(run, density=50.0)
    pipeline, held = Pipeline.open(run), Run.open(run).held_out("test")
    assert held.queries.user_features is not None
    state, hits = pipeline.encode(held.queries), pipeline.retrieve(held.queries, 7)
    for row in range(len(held)):
        history, features = held.queries.history(row), held.queries.user_features[row]
        low, high = state.indptr[row : row + 2]
        query = Queries.single(history, features)
        alone = pipeline.encode(query)
        np.testing.assert_array_equal(alone.rows, state.rows[low:high])
        np.testing.assert_array_equal(alone.weights, state.weights[low:high])
        assert alone.item_start[0] == state.item_start[row] - low
        one = pipeline.retrieve(query, 7)
        np.testing.assert_array_equal(one.ids[0], hits.ids[row])
        np.testing.assert_array_equal(one.scores[0], hits.scores[row])


def test_lists_of_categories_that_are_not_read_are_not_stored(run: Path, monkeypatch):
    monkeypatch.setattr(fit, "WORD_WEIGHTS", (0,))
    summary = build_index(run, density=50.0)
    pipeline = Pipeline.open(run)
    assert [family.name for family in pipeline.searcher.index.families] == ["learned", "item", "segment"]
    assert "category_postings" not in summary
    assert pipeline.settings.category_weights == ()
    part = Run.open(run).held_out("validation")
    assert cached_gain(pipeline, part) == summary["validation_ndcg@10_cache"], "fitted on what is stored"
    plain = build_index(run, density=50.0, overrides={"families.category.enabled": False})
    assert plain["postings_per_query"] == summary["postings_per_query"]


def test_a_new_user_is_answered_by_the_segments(run: Path, monkeypatch):
    monkeypatch.setattr(fit, "WORD_WEIGHTS", (0,))
    build_index(run, density=50.0)
    model = SparCode.load(run)
    dataset, index = model.run.dataset, model.pipeline.searcher.index
    family = index.family("segment")
    assert dataset.user_features.vocabulary == ["gender=F", "gender=M"]
    for word, gender in enumerate(("F", "M")):
        ids, impacts = index.row(family.first_row + word)
        order = ids[np.lexsort((ids, -impacts.astype(int)))]
        found, scores = model.recommend(features=[{"gender": gender}], k=10)
        assert found[0].tolist() == list(dataset.item_ids.to_external(order[:10]))
        assert not np.isnan(scores).any()
    filled = model.recommend_items(features=[{"age": 30}], k=3)[0]
    assert all(each["filled"] for each in filled), "no category is given, so popularity answers"


def test_explanations_name_words(run: Path, monkeypatch):
    monkeypatch.setattr(fit, "WORD_WEIGHTS", (4,))
    build_index(run, density=50.0)
    model = SparCode.load(run)
    named: dict[str, set[str]] = {}
    for item in model.recommend(users=["u000"], k=10, rescore=0)[0][0]:
        for part in model.explain(user="u000", item=item)["lists"]:
            if "word" in part:
                named.setdefault(part["family"], set()).add(part["word"])
    user = int(model.run.dataset.user_ids.to_internal(["u000"])[0])
    assert named["segment"] == set(model.run.dataset.user_features.categories(user))
    assert named["category"] <= set(model.run.dataset.item_features.vocabulary)
    assert model.info()["encoder_bytes"] > model.pipeline.encoder.bytes


def test_both_families_can_be_left_out_of_a_build(run: Path):
    build_index(run, density=50.0, overrides={"families.category.enabled": False, "families.segment.enabled": False})
    model = SparCode.load(run)
    assert [family.name for family in model.pipeline.searcher.index.families] == ["learned", "item"]
    assert model.recommend(users=["u000"], k=3)[0].shape == (1, 3)
    with pytest.raises(QueryError, match="reads no user features"):
        model.recommend(features=[{"gender": "F"}])


def test_words_alone_make_an_index(run: Path, monkeypatch):
    monkeypatch.setattr(fit, "WORD_WEIGHTS", (0, 4))
    build_index(run, overrides={"families.learned.enabled": False, "families.item.enabled": False})
    index = Pipeline.open(run).searcher.index
    assert [family.name for family in index.families][0] == "segment"
    assert Pipeline.open(run).retrieve(queries_of([[1, 2]]), 4).ids.shape == (1, 4)


def test_a_budget_pays_for_words(run: Path):
    with pytest.raises(BudgetError, match="category and segment and item lists alone need"):
        build_index(run, policy="budget", postings_per_query=1.0)
    summary = build_index(run, policy="budget", budget_mb=0.02)
    assert summary["cache_bytes"] <= 20_000


def test_settings_taken_over_decide_what_is_stored(run: Path):
    taken = replace(READ, category_weights=(3,)).to_json() | {"taken_from": "other"}
    taken |= {"item_lists": ListSettings().to_json()}
    write_json(run / "query.json", taken)
    build_index(run, density=50.0)
    assert Pipeline.open(run).searcher.index.has_family("category")
    write_json(run / "query.json", {key: taken[key] for key in taken if key != "category_weights"})
    build_index(run, density=50.0)
    assert not Pipeline.open(run).searcher.index.has_family("category")
    assert read_json(run / "query.json")["taken_from"] == "other"


def test_lists_that_were_not_counted_are_asked_for_in_one_line(run: Path):
    (run / "model" / "categories.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"families\.category\.enabled=true, but .* train the run again") as caught:
        open_word_lists(run / "model", Run.open(run).config.families, 60)
    assert "\n" not in str(caught.value)
    assert open_word_lists(run / "model", Config().families, 60) == {}


def test_families_follow_the_data(trained: Path):
    dataset = Run.open(trained).dataset
    bare = replace(dataset, item_features=None, user_features=None)
    for name in ("category", "segment"):
        assert getattr(resolve(updated(Config(), TINY), dataset).families, name).enabled is False
    for name in ("category", "segment"):
        with pytest.raises(ConfigError, match=f"families.{name}.enabled=true, but the data hold no categories"):
            resolve(tiny_config(**{f"families.{name}.enabled": True}), bare)
