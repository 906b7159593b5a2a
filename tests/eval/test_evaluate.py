from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sparcode.errors import DataError
from sparcode.eval import evaluate as module
from sparcode.eval.evaluate import (
    compare,
    count_repeats,
    evaluate,
    evaluation_json,
    exhaustive_sample,
    sample,
    take,
    write_per_query,
)
from sparcode.retrievers.popular import FixedOrder
from sparcode.types import EvaluationSet, Queries
from tests.eval.world import ITEMS, Names, Planted, evaluation_set

PLACES = np.array([0, 1, 4, 9, 10, 49, 50, 55] * 5)


@pytest.fixture
def part() -> EvaluationSet:
    return evaluation_set()


def test_metrics_follow_from_the_ranks(part: EvaluationSet) -> None:
    result = evaluate(Planted(part, PLACES), part, ITEMS)
    assert result.metrics["recall@10"] == result.metrics["hit_rate@10"] == np.mean(PLACES < 10)
    assert result.metrics["recall@50"] == np.mean(PLACES < 50)
    gains = np.where(PLACES < 10, 1 / np.log2(PLACES + 2), 0)
    assert result.metrics["ndcg@10"] == pytest.approx(gains.mean())
    assert result.metrics["mrr"] == pytest.approx(np.where(PLACES < 50, 1 / (PLACES + 1), 0).mean())
    assert result.ranks.tolist() == np.where(PLACES < 50, PLACES, -1).tolist()
    low, high = result.intervals["ndcg@10"]
    assert low < result.metrics["ndcg@10"] < high
    assert result.repeats == 0


def test_json_has_the_fixed_keys(part: EvaluationSet) -> None:
    document = evaluation_json("test", [evaluate(Planted(part, PLACES), part, ITEMS, note="why")])
    document = json.loads(json.dumps(document, allow_nan=False))
    assert document["split"] == "test"
    (row,) = document["results"]
    assert row["retriever"] == "planted"
    assert row["queries"] == 40
    assert row["note"] == "why"
    wanted = "recall@10 ndcg@10 recall@50 ndcg@50 precision@50 hit_rate@10 mrr coverage@10"
    assert set(wanted.split()) <= set(row["metrics"])


def test_batches_do_not_change_anything(part: EvaluationSet) -> None:
    whole, pieces = Planted(part, PLACES), Planted(part, PLACES)
    first, second = evaluate(whole, part, ITEMS), evaluate(pieces, part, ITEMS, batch=7)
    assert (whole.calls, pieces.calls) == (1, 6)
    assert first.metrics == second.metrics
    assert first.intervals == second.intervals


def test_a_last_batch_of_one_query_is_asked(part: EvaluationSet) -> None:
    whole = evaluate(Planted(part, PLACES), part, ITEMS)
    pieces = evaluate(Planted(part, PLACES), part, ITEMS, batch=13)  # 3 times 13 and 1
    assert pieces.ids.tolist() == whole.ids.tolist()
    assert pieces.metrics == whole.metrics


def test_intervals_are_over_users_with_all_their_queries(part: EvaluationSet) -> None:
    hits = np.repeat([0, 55], 20)  # one user is always answered well, the other never
    pair = replace(part, users=np.repeat([7, 8], 20).astype(np.int32))
    apart, together = (evaluate(Planted(one, hits), one, ITEMS).intervals["recall@10"] for one in (part, pair))
    assert (together.low, together.high) == (0.0, 1.0)
    assert 0.3 < apart.low < apart.high < 0.7


def test_targets_in_the_history_are_misses_and_counted() -> None:
    queries = Queries(np.array([0, 2, 3]), np.array([0, 1, 2], np.int32))
    part = EvaluationSet(np.arange(2, dtype=np.int32), queries, np.array([0, 1, 2]), np.array([1, 0], np.int32))
    retriever = FixedOrder("fixed", np.array([3.0, 2.0, 1.0, -np.inf]))
    result = evaluate(retriever, part, 4, cutoffs=(2,), depth=2)
    assert result.repeats == count_repeats(part) == 1
    assert result.values["recall@2"].tolist() == [0.0, 1.0]
    assert evaluate(retriever, part, 4, include_seen=True).values["recall@10"].tolist() == [1.0, 1.0]
    assert result.fill_rate == 0.25
    assert result.to_json()["repeats"] == 1


def test_several_targets_of_a_time_split() -> None:
    part = evaluation_set(targets=3)
    result = evaluate(Planted(part, np.zeros(40, int)), part, ITEMS)
    assert result.values["recall@10"].min() >= 1 / 3
    assert result.values["hit_rate@10"].min() == 1
    assert len(result.ranks) == 120


def test_an_empty_set_is_an_error(part: EvaluationSet) -> None:
    with pytest.raises(DataError, match="no query"):
        evaluate(Planted(part, PLACES), take(part, np.empty(0, np.int64)), ITEMS)


def test_take_keeps_rows_whole(part: EvaluationSet) -> None:
    queries = Queries(part.queries.indptr, part.queries.items, np.arange(80.0).reshape(40, 2), np.arange(40.0))
    part = EvaluationSet(part.users, queries, part.target_indptr, part.target_items)
    some = take(part, np.array([5, 2, 31]))
    assert some.users.tolist() == [105, 102, 131]
    assert np.array_equal(some.queries.history(2), part.queries.history(31))
    assert np.array_equal(some.targets(1), part.targets(2))
    assert some.queries.user_features is not None
    assert some.queries.user_features[0].tolist() == [10.0, 11.0]
    assert some.queries.times is not None
    assert some.queries.times.tolist() == [5.0, 2.0, 31.0]


def test_samples_are_seeded_and_ordered(part: EvaluationSet) -> None:
    first = sample(part, 10, seed=1, purpose="x")
    assert np.array_equal(first.users, sample(part, 10, seed=1, purpose="x").users)
    assert not np.array_equal(first.users, sample(part, 10, seed=2, purpose="x").users)
    assert (np.diff(first.users) > 0).all()
    assert sample(part, 40, seed=1, purpose="x") is part


def test_exhaustive_scoring_is_limited_and_says_so(part: EvaluationSet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exhaustive_sample(part, ITEMS, seed=0) == (part, None)
    monkeypatch.setattr(module, "EXHAUSTIVE_PAIRS", 100)
    assert exhaustive_sample(part, ITEMS, seed=0)[1] is None
    monkeypatch.setattr(module, "EXHAUSTIVE_USERS", 7)
    some, note = exhaustive_sample(part, ITEMS, seed=0)
    assert len(some) == 7
    assert note is not None
    assert "7 of 40 users" in note


def test_compare_pairs_users_of_both_results(part: EvaluationSet) -> None:
    good = evaluate(Planted(part, np.zeros(40, int), "good"), part, ITEMS)
    some = take(part, np.arange(3, 30))
    bad = evaluate(Planted(some, np.full(27, 3), "bad"), some, ITEMS)
    assert compare(good, bad).difference == pytest.approx(1 - 1 / np.log2(5))
    other = EvaluationSet(some.users + 1000, some.queries, some.target_indptr, some.target_items)
    with pytest.raises(DataError, match="different users"):
        compare(good, evaluate(Planted(other, np.zeros(27, int)), other, ITEMS))


def test_per_query_file_reproduces_the_metrics(part: EvaluationSet, tmp_path: Path) -> None:
    results = [
        evaluate(Planted(part, PLACES, "one"), part, ITEMS),
        evaluate(Planted(part, PLACES[::-1], "two"), part, ITEMS),
    ]
    path = tmp_path / "ranks.parquet"
    write_per_query(path, results, Names("u"), Names("i"))
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 80
    assert set(rows[0]) == {"retriever", "user_id", "target", "rank", "item_ids"}
    for row in rows:
        listed = row["item_ids"].index(row["target"]) if row["target"] in row["item_ids"] else None
        assert row["rank"] == listed
        assert len(row["item_ids"]) == 50
    one = [row for row in rows if row["retriever"] == "one"]
    assert [row["user_id"] for row in one] == [f"u{100 + number}" for number in range(40)]
    hits = [row["rank"] is not None and row["rank"] < 10 for row in one]
    assert np.mean(hits) == results[0].metrics["recall@10"]


def test_per_query_rows_of_several_targets(tmp_path: Path) -> None:
    part = evaluation_set(users=4, targets=3)
    result = evaluate(Planted(part, np.zeros(4, int)), part, ITEMS)
    write_per_query(tmp_path / "ranks.parquet", [result], Names("u"), Names("i"))
    rows = pq.read_table(tmp_path / "ranks.parquet").to_pylist()
    assert [row["user_id"] for row in rows] == [f"u{100 + number // 3}" for number in range(12)]
    assert rows[0]["item_ids"] == rows[2]["item_ids"]


def test_per_query_file_is_whole_or_absent(part: EvaluationSet, tmp_path: Path) -> None:
    class Broken(Names):
        def to_external(self, ids: np.ndarray) -> list[str]:
            raise RuntimeError("disk")

    path = tmp_path / "ranks.parquet"
    with pytest.raises(RuntimeError):
        write_per_query(path, [evaluate(Planted(part, PLACES), part, ITEMS)], Names("u"), Broken("i"))
    with pytest.raises(DataError, match="no result"):
        write_per_query(path, [], Names("u"), Names("i"))
    assert list(tmp_path.iterdir()) == []
