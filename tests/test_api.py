"""The library as a person uses it: external ids in and out, on one small trained run with features and titles."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest

from sparcode import SparCode
from sparcode.api.model import _config
from sparcode.config import Config, updated
from sparcode.data.synthetic import planted_groups, write_world
from sparcode.errors import ConfigError, CorruptIndexError, IndexMismatchError, QueryError, RunError, UnknownIdError
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run
from tests.worlds import TINY, queries_of

SETTINGS = TINY | {"model.user_features": True, "model.item_content": True, "index.density": 60.0}
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with interactions, items and users."""
    return write_world(planted_groups(60, 40, 4, 10), tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="module")
def model(world: Path, tmp_path_factory: pytest.TempPathFactory) -> SparCode:
    """A trained run, opened."""
    out = tmp_path_factory.mktemp("api") / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SparCode.train(world, out, SETTINGS, progress=False, baselines=False)


@pytest.fixture
def copied(model: SparCode, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    shutil.copytree(model.run.folder, tmp_path / "run")
    return tmp_path / "run"


def seen_by(model: SparCode, user: str) -> set:
    """Return the external ids a user interacted with."""
    dataset = model.run.dataset
    row = int(dataset.user_ids.to_internal([user])[0])
    return set(dataset.item_ids.to_external(dataset.serving.row(row)))


@pytest.mark.parametrize("k", [1, 5, 40, 47])
def test_recommend_for_users(model: SparCode, k: int):
    ids, scores = model.recommend(users=["u000", "u031"], k=k)
    assert ids.shape == scores.shape == (2, k)
    assert scores.dtype == np.float32
    for user, row, values in zip(["u000", "u031"], ids, scores, strict=True):
        seen = seen_by(model, user)
        found = [item for item in row if item is not None]
        assert len(found) == len(set(found)) == min(k, 40 - len(seen))
        assert not set(found) & seen
        assert all(isinstance(item, int) for item in found)
        assert np.isneginf(values[len(found) :]).all()
        ranked = values[: len(found)][~np.isnan(values[: len(found)])]
        assert (np.diff(ranked) <= 0).all()


def test_the_planted_cycle_is_found(model: SparCode):
    """The event after item x is x + 4 (the next item of its group)."""
    ids, _ = model.recommend(histories=[[start, start + 4, start + 8] for start in range(100, 120)], k=5)
    hits = [start + 12 in row for start, row in zip(range(100, 120), ids, strict=True)]
    assert np.mean(hits) > 0.7


def test_histories_and_users_agree(model: SparCode):
    dataset = model.run.dataset
    row = int(dataset.user_ids.to_internal(["u007"])[0])
    history = dataset.item_ids.to_external(dataset.serving.row(row))
    features = {"gender": "F", "age": 27.0}
    by_user, user_scores = model.recommend(users=["u007"], k=8)
    by_history, scores = model.recommend(histories=[history], features=[features], k=8)
    assert by_user.tolist() == by_history.tolist()
    np.testing.assert_allclose(user_scores, scores, rtol=1e-4)


def test_text_finds_integer_ids(model: SparCode):
    as_text, _ = model.recommend(histories=[["100", "104"]])
    as_numbers, _ = model.recommend(histories=[[100, 104]])
    assert as_text.tolist() == as_numbers.tolist()


def test_features_answer_a_person_without_history(model: SparCode):
    ids, scores = model.recommend(features=[{"gender": "F", "age": 30}, {"gender": "M", "age": 50}], k=5)
    assert ids.shape == (2, 5)
    assert not np.isnan(scores).all(), "answered from features, not by popularity alone"
    assert ids[0].tolist() != ids[1].tolist() or scores[0].tolist() != scores[1].tolist()


def test_nothing_known_is_answered_by_popularity(model: SparCode):
    ids, scores = model.recommend(histories=[[]], k=5)
    assert np.isnan(scores).all()
    assert ids[0].tolist() == model.run.dataset.item_ids.to_external(range(5))


def test_filters(model: SparCode):
    seen = seen_by(model, "u000")
    allowed = sorted(set(range(100, 140)) - seen)[:4]
    ids, _ = model.recommend(users=["u000"], k=6, allow=allowed)
    assert set(ids[0, :4]) == set(allowed)
    assert ids[0, 4:].tolist() == [None, None]
    ids, _ = model.recommend(users=["u000"], k=40, deny=allowed)
    assert not set(ids[0]) & set(allowed)
    ids, _ = model.recommend(users=["u000"], k=40, include_seen=True)
    assert set(ids[0]) == set(range(100, 140))
    ids, _ = model.recommend(users=["u000"], k=3, allow=[])
    assert ids.tolist() == [[None] * 3]


def years_of(ids: np.ndarray) -> list[int]:
    """Return the years of planted items: 1950 for item 100, and so on."""
    return [1850 + item for item in ids.tolist() if item is not None]


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("year>=1970", lambda item: item >= 120),
        ("categories='group 1'", lambda item: item % 4 == 1),
        ("categories != 'group 1' and year < 1980", lambda item: item % 4 != 1 and item < 130),
        ("title='Item 7'", lambda item: item == 107),
        ("year=1800", lambda item: False),
    ],
)
@pytest.mark.parametrize(
    "lists", [{}, {"allow": range(110, 135)}, {"deny": [107, 113, 121]}, {"allow": [121, 107, 100]}]
)
def test_where_equals_the_filtered_exhaustive_answer(model: SparCode, where: str, holds: Callable, lists: dict):
    users = ["u000", "u031", "u002"]
    ids, scores = model.recommend(users=users, k=12, rescore=40, where=where, **lists)
    ranking = model.pipeline.retrieve_exhaustive(model._snapshot.user_queries(users), 40)
    allowed = set(lists.get("allow", range(100, 140))) - set(lists.get("deny", ()))
    everything = model._snapshot.external(ranking.ids)
    for row, user in enumerate(users):
        seen = seen_by(model, user)
        kept = [place for place, item in enumerate(everything[row]) if item in allowed - seen and holds(item)][:12]
        assert ids[row].tolist() == everything[row, kept].tolist() + [None] * (12 - len(kept))
        np.testing.assert_allclose(scores[row, : len(kept)], ranking.scores[row, kept], rtol=1e-4, atol=1e-5)
        alone = model.recommend(users=[user], k=12, rescore=40, where=where, **lists)[0]
        assert alone[0].tolist() == ids[row].tolist()


@pytest.mark.parametrize("rescore", [0, 1, None])
def test_where_answers_exactly_what_is_eligible(model: SparCode, rescore: int | None):
    users = [f"u{number:03d}" for number in range(60)]
    for where, count in (("year>=1985", 5), ("year<1985", 35), ("categories='group 2'", 10)):
        ids, scores = model.recommend(users=users, k=8, rescore=rescore, where=where)
        held = set(model._snapshot.external(np.flatnonzero(model.items_where(where))).tolist())
        assert len(held) == count
        for user, row, values in zip(users, ids, scores, strict=True):
            eligible = held - seen_by(model, user)
            found = [item for item in row.tolist() if item is not None]
            assert set(found) <= eligible
            assert len(found) == len(set(found)) == min(8, len(eligible))
            assert not np.isneginf(values[: len(found)]).any()


def test_masks_are_filters_too(model: SparCode):
    old, new = model.items_where("year<1955"), model.items_where("year>=1985")
    assert old.shape == (40,)
    assert old.dtype == np.bool_
    ids, _ = model.recommend(histories=[[120]], k=40, allow=old | new, deny=model.items_where("categories='group 0'"))
    assert sorted(years_of(ids[0])) == [year for year in [*range(1950, 1955), *range(1985, 1990)] if year % 4 != 2]
    old[:] = True
    assert model.items_where("year<1955").sum() == 5, "what is given away is a copy"
    with pytest.raises(QueryError, match=r"allow: got bool of shape \(3,\), expected bool \(40,\)"):
        model.recommend(histories=[[120]], allow=np.ones(3, bool))


def test_every_way_to_ask_takes_filters(model: SparCode):
    filters = {"where": "year>=1960", "deny": [139], "allow": list(range(100, 140))}
    wanted, _ = model.recommend(histories=[[104]], k=5, **filters)
    assert model.similar_items([104], k=5, **filters)[0].tolist() == wanted.tolist()
    (described,) = model.recommend_items(histories=[[104]], k=5, **filters)
    assert [entry["item_id"] for entry in described] == wanted[0].tolist()
    by_user, _ = model.recommend(users=["u000", "u001"], k=5, **filters)
    assert model.predict(["u000", "u001"], k=5, **filters)[0].tolist() == by_user.tolist()
    assert min(years_of(by_user.ravel())) >= 1960


def test_attributes_are_described(model: SparCode):
    assert model.info()["attributes"] == {"title": "text", "categories": "list", "year": "number"}
    assert model.info()["attribute_bytes"] > 0


def test_a_run_without_attributes_says_what_to_do(model: SparCode, copied: Path):
    file = copied / "data" / "dataset.json"
    content = json.loads(file.read_text())
    del content["item_attributes"]
    file.write_text(json.dumps(content))
    older = SparCode.load(copied)
    assert older.recommend(users=["u000"])[0].shape == (1, 10)
    assert older.info()["attributes"] == {}
    with pytest.raises(QueryError, match="kept no attributes of items; train the run again") as caught:
        older.recommend(users=["u000"], where="year>1960")
    assert "\n" not in str(caught.value)


def test_cache_only_and_rescored_scores_differ_in_kind(model: SparCode):
    _, cached = model.recommend(users=["u000"], k=3, rescore=0)
    _, exact = model.recommend(users=["u000"], k=3, rescore=40)
    assert not np.array_equal(cached, exact)


def test_described_items(model: SparCode):
    (row,) = model.recommend_items(users=["u000"], k=45)
    assert [set(entry) for entry in row] == [{"item_id", "score", "title", "filled"}] * len(row)
    assert len(row) == 40 - len(seen_by(model, "u000")), "padding is left out"
    for entry in row:
        assert entry["title"] == f"Item {entry['item_id'] - 100}"
        assert entry["filled"] == (entry["score"] is None)


def test_similar_items(model: SparCode):
    ids, scores = model.similar_items([100, 101], k=5)
    assert ids.shape == scores.shape == (2, 5)
    assert 100 not in ids[0]
    assert ids[0].tolist() == model.recommend(histories=[[100]], k=5)[0][0].tolist()


def test_predict_answers_every_user_of_every_block(model: SparCode):
    """More users than a block holds: each is asked for in every block, and its answer is always the same."""
    users = [f"u{number:03d}" for number in range(59)]
    ids, scores = model.recommend(users=users, k=4)
    several = 4096 // len(users) + 2
    found, found_scores = model.predict(users * several, k=4)
    assert found.shape == (len(users) * several, 4)
    assert len(found) > 4096
    assert found.tolist() == ids.tolist() * several
    np.testing.assert_array_equal(found_scores, np.tile(scores, (several, 1)))
    tables = list(model.predict_tables(users * several, k=4))
    assert len(tables) > 1
    assert [name for table in tables for name in table["user_id"].to_pylist()[::4]] == users * several
    assert [item for table in tables for item in table["item_id"].to_pylist()] == found.reshape(-1).tolist()
    assert model.predict([], k=4)[0].shape == (0, 4)


@pytest.mark.parametrize("arguments", [{"users": []}, {"histories": []}, {"features": []}])
def test_no_queries(model: SparCode, arguments: dict):
    ids, scores = model.recommend(**arguments, k=3)
    assert ids.shape == scores.shape == (0, 3)


def test_explain(model: SparCode):
    ((best,),) = model.recommend_items(users=["u000"], k=1)
    told = model.explain(user="u000", item=best["item_id"])
    assert told["item_id"] == best["item_id"]
    assert told["title"] == best["title"]
    assert told["seen"] is False
    assert told["exhaustive_rank"] is not None
    assert told["exact_score"] == pytest.approx(best["score"], rel=1e-4)
    assert sum(part["contribution"] for part in told["lists"]) == pytest.approx(told["cached_score"])
    for part in told["lists"]:
        if part["family"] == "item":
            assert part["item_id"] in seen_by(model, "u000")
            assert part["title"].startswith("Item")
    seen = next(iter(seen_by(model, "u000")))
    assert model.explain(user="u000", item=seen)["seen"] is True
    assert model.explain(history=[100, 104], item=108)["item_id"] == 108


def test_an_unknown_user_has_nobodys_features(model: SparCode):
    """Not those of user 0, which row 0 of the features would be."""
    (popular,), (nothing,) = model.recommend(histories=[[]], k=5)
    ids, scores = model.predict(["u001", "nobody", "u000"], k=5, unknown="ignore")
    assert ids[1].tolist() == popular.tolist()
    assert np.isnan(scores[1]).all()
    assert np.isnan(nothing).all()
    assert ids[[0, 2]].tolist() == model.predict(["u001", "u000"], k=5)[0].tolist()


@pytest.mark.parametrize("part", ["data/users.arrow", "data/train.arrow", "model/encoder.safetensors"])
def test_info_verifies_what_serving_does_not_read(copied: Path, part: str):
    model = SparCode.load(copied)
    path = copied / part
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    assert model.info()["verified"] is False
    with pytest.raises(CorruptIndexError, match=str(path)):
        model.info(verify=True)


def test_info(model: SparCode):
    told = model.info(verify=True)
    assert told["items"] == 40
    assert told["users"] == 60
    assert told["verified"] is True
    for part in ("cache_bytes", "rescoring_bytes", "encoder_bytes"):
        assert told[part] > 0
    assert {family["name"] for family in told["index"]["families"]} == {"learned", "item"}
    assert told["training"]["sparcode"]["epochs_run"] >= 1


def test_a_value_that_no_item_has_is_an_empty_answer(model: SparCode) -> None:
    with pytest.warns(UserWarning, match="no item has categories='group 9'; did you mean"):
        ids, scores = model.recommend(users=["u000"], where="categories='group 9'", k=2)
    assert ids.tolist() == [[None, None]]
    assert np.isneginf(scores).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"users": ["nobody"]}, UnknownIdError, "nobody"),
        ({"users": ["u0000"]}, UnknownIdError, "near ids: .*u000"),
        ({"histories": [[100, 999]], "unknown": "raise"}, UnknownIdError, "999"),
        ({"users": ["u000"], "deny": [999]}, UnknownIdError, "999"),
        ({"users": ["u000"], "k": 0}, QueryError, "k is 0"),
        ({"users": ["u000"], "rescore": -1}, QueryError, "rescore is -1"),
        ({}, QueryError, "give users, histories or features"),
        ({"users": ["u000"], "histories": [[100]]}, QueryError, "not both"),
        ({"users": ["u000"], "features": [{}]}, QueryError, "not both"),
        ({"histories": [[100]], "features": [{}, {}]}, QueryError, "1 histories beside 2 features"),
        ({"histories": ["100"]}, QueryError, "list of lists"),
        ({"histories": "100"}, QueryError, "list of lists"),
        ({"users": "u000"}, QueryError, "users must be a list of ids"),
        ({"users": ["u000"], "allow": "100"}, QueryError, "allow must be a list of ids"),
        ({"users": ["u000"], "where": "yaer>1960"}, QueryError, "no column 'yaer' .did you mean 'year'"),
        ({"users": ["u000"], "where": 7}, QueryError, "where is a int; expected a condition"),
        ({"features": [{"gendre": "F"}]}, QueryError, "gender"),
        ({"features": [{"gender": "X"}]}, QueryError, "known values"),
    ],
)
def test_bad_arguments_are_one_line(model: SparCode, arguments: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message) as caught:
        model.recommend(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"user": "u000"}, {"item": 100}, {"user": "u000", "history": [100], "item": 104}]
)
def test_explain_wants_one_query_and_an_item(model: SparCode, arguments: dict):
    with pytest.raises(QueryError, match="explain needs"):
        model.explain(**arguments)


def test_similar_items_wants_a_list(model: SparCode):
    with pytest.raises(QueryError, match="ids must be a list"):
        model.similar_items("100")


def test_training_from_a_table_and_features_refused_without_them(tmp_path: Path):
    table = planted_groups(40, 20, 4, 8).interactions.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = SparCode.train(table, tmp_path / "run", TINY | {"train.epochs": 1}, progress=False, baselines=False)
    assert small.recommend(histories=[[100]], k=3)[0].shape == (1, 3)
    assert small.recommend_items(histories=[[100]], k=1)[0][0]["title"] is None
    with pytest.raises(QueryError, match="had no table of items; train with an items"):
        small.recommend(histories=[[100]], where="year>1960")
    with pytest.raises(QueryError, match="reads no user features"):
        small.recommend(features=[{"gender": "F"}])


def test_a_production_run_learns_from_every_event(model: SparCode, world: Path, tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"like": model.run.folder, "progress": False, "baselines": False}
        other = SparCode.train(world, tmp_path / "run", {"data.split_by": "none"}, **options)
    assert other.run.dataset.train.indptr[-1] == 600
    assert other.run.config.model == model.run.config.model
    # Fitted weights are taken over: without validation there is nothing to fit them on.
    assert other.pipeline.settings.to_json() == model.pipeline.settings.to_json()
    assert other.recommend(users=["u000"])[0].shape == (1, 10)


def test_an_index_of_another_model_is_refused(copied: Path):
    Run.open(copied).update(model_hash="0" * 64)
    with pytest.raises(IndexMismatchError, match="built from model .*build-index"):
        SparCode.load(copied)


def test_a_run_without_index_says_how_to_build_it(copied: Path):
    shutil.rmtree(copied / "index")
    with pytest.raises(IndexMismatchError, match="has no index.*build-index"):
        SparCode.load(copied)
    with pytest.raises(RunError, match="no run found"):
        SparCode.load(copied.parent)


def test_a_damaged_index_is_noticed(copied: Path):
    postings = max((copied / "index" / "segs").rglob("postings*.bin"), key=lambda path: path.stat().st_size)
    content = bytearray(postings.read_bytes())
    content[len(content) // 2] ^= 0x10
    postings.write_bytes(content)
    with pytest.raises(CorruptIndexError) as caught:
        SparCode.load(copied, verify="full")
    assert "\n" not in str(caught.value)


def test_a_loaded_run_answers_like_the_trained_one(model: SparCode):
    loaded = SparCode.load(model.run.folder)
    (ids, scores), (others, values) = model.recommend(users=["u003"]), loaded.recommend(users=["u003"])
    assert ids.tolist() == others.tolist()
    np.testing.assert_allclose(scores, values, rtol=1e-5)
    pipeline = Pipeline.open(model.run.folder, verify="none")
    assert pipeline.retrieve(queries_of([[1, 2]]), 4).ids.shape == (1, 4)


def test_serving_loads_no_torch(model: SparCode):
    program = (
        "import sys; from sparcode import SparCode\n"
        f"SparCode.load({str(model.run.folder)!r}).recommend(users=['u000'])\n"
        "sys.exit('torch' in sys.modules)"  # scipy, where installed, is loaded by numba itself
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_the_config_argument(tmp_path: Path):
    (tmp_path / "c.toml").write_text("[model]\nheads = 4\n")
    wanted = updated(Config(), {"model.heads": 4})
    for given in (wanted, {"model.heads": 4}, tmp_path / "c.toml", str(tmp_path / "c.toml")):
        assert _config(given) == wanted
    assert _config(None) == Config()
    with pytest.raises(ConfigError, match="config is a int"):
        _config(4)
