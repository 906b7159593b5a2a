"""The cold start benchmark on a tiny world: what is withheld, who is asked, what may be answered, tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode.config import DataConfig
from sparcode.data.dataset import load_dataset
from sparcode.data.synthetic import planted_groups
from sparcode.data.tables import Tables
from sparcode.errors import DataError
from sparcode.eval.evaluate import evaluate
from sparcode.retrievers.registry import open_retriever
from sparcode.run import Run
from sparcode.types import NO_ITEM, EvaluationSet, Hits, Queries
from tests.worlds import tiny_config

SHARE = 10.0


@pytest.fixture(scope="module")
def cold(script):
    return script("cold_start")


@pytest.fixture(scope="module")
def cold_withheld(script):
    return script("cold.withheld")


@pytest.fixture(scope="module")
def cold_items(script):
    return script("cold.items")


@pytest.fixture(scope="module")
def cold_users(script):
    return script("cold.users")


@pytest.fixture(scope="module")
def cold_values(script):
    return script("cold.values")


@pytest.fixture(scope="module")
def world() -> Tables:
    return planted_groups(60, 40, 4, 10)


@pytest.fixture(scope="module")
def table(cold_withheld, world) -> pa.Table:
    return cold_withheld.cold_tables(world, DataConfig(), SHARE, seed=0).interactions


@pytest.fixture(scope="module")
def arguments(options):
    return [*options, "--seeds", "0", "--share", f"{SHARE:g}", "--set", "additive.epochs=2"]


@pytest.fixture(scope="module")
def rows(cold, arguments):
    return cold.main(arguments).asked


@pytest.fixture(scope="module")
def run(rows, options) -> Run:
    """The run whose training saw no withheld item."""
    return Run.open(Path(options[options.index("--work") + 1]) / rows[0]["config"]["folder"])


def withheld_ids(table: pa.Table) -> set[int]:
    return {row["item_id"] for row in table.to_pylist() if row["cold_start_split"] == "test"}


def test_every_event_of_a_withheld_item_is_test_and_nothing_is_lost(world, table):
    withheld = withheld_ids(table)
    assert len(withheld) == 4  # 10 % of 40
    for row in table.to_pylist():
        assert (row["item_id"] in withheld) == (row["cold_start_split"] == "test")
    names = world.interactions.column_names
    assert sorted(map(str, table.select(names).to_pylist())) == sorted(map(str, world.interactions.to_pylist()))


def test_validation_is_the_last_event_of_a_user_that_is_not_withheld(table):
    by_user = {}
    for row in table.to_pylist():
        if row["cold_start_split"] != "test":
            by_user.setdefault(row["user_id"], []).append((row["timestamp"], row["cold_start_split"]))
    assert len(by_user) == 60
    for events in by_user.values():
        assert [part for _, part in sorted(events)] == ["train"] * (len(events) - 1) + ["valid"]


def test_parts_of_users_with_few_events(cold_withheld):
    users = np.array([0, 0, 1, 2, 2, 2, 3])
    withheld = np.array([True, False, False, False, True, False, True])
    expected = ["test", "train", "train", "train", "test", "valid", "test"]
    assert cold_withheld.parts_of(users, withheld).tolist() == expected


def test_filters_are_applied_before_items_are_chosen(cold_withheld, world):
    tables = Tables(world.interactions.append_column("rating", pa.array([1.0, 5.0] * 300)), world.items)
    config = tiny_config(**{"data.min_rating": 3.0, "data.k_core": 2})
    found = cold_withheld.cold_tables(tables, config.data, SHARE, seed=0)
    assert set(found.interactions["rating"].to_pylist()) == {5.0}
    dataset = load_dataset(found, cold_withheld.cold_config(config).data, seed=0)
    kept = load_dataset(tables, config.data, seed=0)
    assert sorted(dataset.item_ids.external.to_pylist()) == sorted(kept.item_ids.external.to_pylist())
    assert len(dataset.serving.items) == len(kept.serving.items)


def test_other_seeds_withhold_other_items_and_the_same_seed_the_same(cold_withheld, world, table):
    assert cold_withheld.cold_tables(world, DataConfig(), SHARE, seed=0).interactions.equals(table)
    other = cold_withheld.cold_tables(world, DataConfig(), SHARE, seed=1).interactions
    assert withheld_ids(other) != withheld_ids(table)


def test_data_without_an_items_table_are_refused(cold_withheld, world):
    with pytest.raises(DataError, match="no items table"):
        cold_withheld.cold_tables(Tables(world.interactions), DataConfig(), SHARE, seed=0)


def test_the_mask_of_a_run_is_what_was_withheld_and_the_catalogue_is_whole(cold_withheld, run, table):
    mask = cold_withheld.withheld_items(run.dataset)
    assert set(run.dataset.item_ids.to_external(np.flatnonzero(mask))) == withheld_ids(table)
    assert len(mask) == 40
    assert run.dataset.summary["items_without_training"] >= 4
    assert not np.asarray(run.dataset.popularity)[mask].any()
    assert run.config.model.item_content


def test_targets_are_withheld_and_no_history_holds_a_withheld_item(cold_withheld, run):
    mask = cold_withheld.withheld_items(run.dataset)
    held, _ = cold_withheld.cold_queries(run)
    assert mask[held.target_items].all()
    assert (np.diff(held.target_indptr) == 1).all()
    assert (np.diff(held.queries.indptr) > 0).all()
    for items in (held.queries.items, run.dataset.train.items, run.dataset.validation.queries.items):
        assert not mask[items].any()
    assert not mask[run.dataset.validation.target_items].any()


def test_a_query_asks_for_the_last_withheld_event_after_what_came_before(cold_withheld, run, table):
    withheld, expected, without = withheld_ids(table), {}, 0
    by_user = {}
    for row in sorted(table.to_pylist(), key=lambda row: row["timestamp"]):
        by_user.setdefault(row["user_id"], []).append(row["item_id"])
    for user, items in by_user.items():
        places = [place for place, item in enumerate(items) if item in withheld]
        if places:
            history = [item for item in items[: places[-1]] if item not in withheld]
            without += not history
            if history:
                expected[user] = (history, items[places[-1]])
    held, left_out = cold_withheld.cold_queries(run)
    external = run.dataset.item_ids.to_external
    users = run.dataset.user_ids.to_external(held.users)
    found = {
        user: (external(held.queries.history(row)), external(held.targets(row))[0]) for row, user in enumerate(users)
    }
    assert found == expected
    assert left_out == without


@pytest.mark.parametrize("name", ["sparcode", "sparcode-cache", "two-tower", "content-knn", "counts", "popular"])
def test_answers_among_withheld_items_are_all_of_them_and_nothing_else(cold_withheld, cold_items, run, name):
    mask = cold_withheld.withheld_items(run.dataset)
    held, _ = cold_withheld.cold_queries(run)
    hits = cold_items.Among(open_retriever(run, name), mask).retrieve(held.queries, 6)
    assert hits.ids.shape == hits.scores.shape == (len(held), 6)
    for ids in hits.ids:
        assert sorted(ids[:4]) == np.flatnonzero(mask).tolist()
        assert (ids[4:] == NO_ITEM).all()


def test_the_first_allowed_hits_keep_their_order(cold_items):
    hits = Hits(np.array([[3, 0, 2, -1], [1, 3, 0, 2]], np.int32), np.array([[4, 3, 2, -np.inf], [4, 3, np.nan, 1]]))
    found = cold_items.first_allowed(hits, np.array([True, False, True, False]), 3)
    assert found.ids.tolist() == [[0, 2, -1], [0, 2, -1]]
    assert found.scores[0].tolist() == [3, 2, -np.inf]
    assert np.isnan(found.scores[1, 0])
    assert cold_items.first_allowed(hits, np.ones(4, bool), 6).ids[1].tolist() == [1, 3, 0, 2, -1, -1]


def test_reach_counts_the_lists_that_hold_an_item(cold_withheld, run, rows):
    from sparcode.query.search.searcher import open as open_searcher

    index = open_searcher(run.index_folder).index
    mask = cold_withheld.withheld_items(run.dataset)
    for family in index.families:
        held = [index.row(row)[0] for row in range(family.first_row, family.stop_row)]
        lists = np.array([sum(item in ids for ids in held) for item in range(len(mask))])
        found = rows[0]["reach"][family.name]
        assert found["withheld"]["lists_an_item"] == pytest.approx(lists[mask].mean())
        assert found["others"]["in_any_list"] == pytest.approx((lists[~mask] > 0).mean())


def test_histories_are_cut_to_their_last_events(cold_users):
    queries = Queries(np.array([0, 3, 3, 4], np.int64), np.array([5, 6, 7, 8], np.int32))
    held = EvaluationSet(np.arange(3, dtype=np.int32), queries, np.arange(4), np.array([1, 2, 3], np.int32))
    for events, expected in ((0, [[], [], []]), (2, [[6, 7], [], [8]]), (5, [[5, 6, 7], [], [8]])):
        cut = cold_users.cut_histories(held, events)
        assert [cut.queries.history(row).tolist() for row in range(3)] == expected
        assert cut.target_items is held.target_items
    assert cold_users.cut_histories(held, None) is held


def test_slices_hold_every_target_once_and_its_ndcg(cold_users, run):
    held, popularity = run.held_out("validation"), np.asarray(run.dataset.popularity)
    results = [evaluate(open_retriever(run, name), held, len(popularity)) for name in ("sparcode", "two-tower")]
    slices = cold_users.slices_of(results, popularity)
    names = ["0", "1-5", "6-20", "21-100", ">100"]
    assert sum(len(slices[f"{name}/users"]) for name in names) == len(held)
    total = sum(slices[f"{name}/sparcode/ndcg@10"].sum() for name in names)
    assert total == pytest.approx(results[0].values["ndcg@10"].sum())
    events = popularity[held.target_items]
    assert len(slices["6-20/users"]) == ((events >= 6) & (events < 21)).sum()


def test_pooling_averages_a_user_over_the_seeds_that_asked_it(cold_values):
    files = [
        {"set/users": np.array([4, 9]), "set/a/m": np.array([1.0, 0.0])},
        {"set/users": np.array([9, 2]), "set/a/m": np.array([1.0, 0.25])},
    ]
    assert cold_values.pooled(files, "set", "a/m").tolist() == [0.25, 1.0, 0.5]


def test_cells_say_what_was_withheld_and_measured(rows):
    items, users = rows
    assert [row["config"]["part"] for row in rows] == ["items", "users"]
    assert (items["withheld"], items["items"]) == (4, 40)
    assert list(items["results"]) == ["withheld", "among", "ordinary"]
    names = ["sparcode", "sparcode-cache", "two-tower", "additive", "content-knn", "counts", "popular"]
    assert [result["retriever"] for result in items["results"]["among"]] == names
    assert all(result["repeats"] == 0 for result in items["results"]["withheld"])
    new = {result["retriever"]: result["metrics"]["ndcg@10"] for result in users["results"]["last 0"]}
    assert new["two-tower"] == new["content-knn"] == new["popular"]  # sparcode may know a user by features
    assert sum(row["targets"] for row in users["slices"].values()) == 60


def test_finished_cells_are_skipped_and_tables_are_complete(cold, arguments, rows, monkeypatch):
    monkeypatch.setattr(cold, "measure_items", None)
    monkeypatch.setattr(cold, "measure_users", None)
    assert cold.main(arguments).asked == json.loads(json.dumps(rows))
    text = Path(arguments[arguments.index("--out") + 1]).with_suffix(".md").read_text()
    assert text.count("\n| sparcode |") == 3
    assert "| last 3 |" in text
    assert "| >100 | 0 | - | - | - |" in text


def test_gains_of_new_items_are_compared_on_a_copy(cold, arguments, rows, run, options):
    before = (run.folder / "build.json").read_bytes()
    asked = cold.main([*arguments, "--part", "items", "--gains", "0,1,50"]).asked
    none, one, much = (row for row in asked if row["config"]["part"] == "gain")
    figures = {each["retriever"]: each["metrics"] for each in rows[0]["results"]["withheld"]}
    assert one["withheld"]["sparcode"]["ndcg@10"] == pytest.approx(figures["sparcode"]["ndcg@10"])
    cached = [row["withheld"]["sparcode-cache"]["recall@10"] for row in (none, one, much)]
    assert cached == sorted(cached)
    assert cached[0] < cached[2]
    assert (run.folder / "build.json").read_bytes() == before
    text = Path(options[options.index("--out") + 1]).with_suffix(".md").read_text()
    assert "| 50 |" in text


def test_other_retrievers_are_a_cell_of_their_own(cold, arguments, rows):
    other = cold.main([*arguments, "--part", "items", "--retrievers", "popular"]).asked
    assert [result["retriever"] for result in other[0]["results"]["among"]] == ["popular"]
    assert other[0]["config"]["model_hash"] == rows[0]["config"]["model_hash"]
    assert cold.main(arguments).asked == json.loads(json.dumps(rows))
