from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparcode.errors import DataError
from sparcode.eval.bootstrap import bootstrap_means, paired_difference, percentile_intervals
from sparcode.eval.evaluate import compare, evaluate, take
from sparcode.eval.pairing import common_queries, ordinals, query_keys
from sparcode.types import EvaluationSet, Queries
from tests.eval.world import ITEMS, Planted, evaluation_set

NAMES = ("one", "two")


def sessions(lengths: list[int], seed: int = 0) -> EvaluationSet:
    """Every prefix of every session is a query for its next item."""
    random = np.random.default_rng(seed)
    histories, targets, users = [], [], []
    for user, length in enumerate(lengths):
        items = random.permutation(ITEMS)[:length].astype(np.int32)
        for end in range(1, length):
            histories.append(items[:end])
            targets.append(items[end])
            users.append(user)
    indptr = np.concatenate(([0], np.cumsum([len(history) for history in histories])))
    queries = Queries(indptr, np.concatenate(histories))
    return EvaluationSet(np.array(users, np.int32), queries, np.arange(len(users) + 1), np.array(targets, np.int32))


def test_every_query_of_a_session_counts() -> None:
    part = sessions([7, 3, 2])
    random = np.random.default_rng(1)
    a, b = (evaluate(Planted(part, random.integers(0, 12, len(part)), name), part, ITEMS) for name in NAMES)
    found = compare(a, b)
    assert found.difference == pytest.approx(a.metrics["ndcg@10"] - b.metrics["ndcg@10"], abs=1e-12)
    assert found.low <= found.difference <= found.high
    values = a.values["ndcg@10"], b.values["ndcg@10"]
    assert found == paired_difference(*values, users=part.users)
    assert found != paired_difference(*values)
    assert a.intervals == percentile_intervals(a.values, users=part.users)


def test_samples_are_paired_by_query() -> None:
    part = sessions([7, 5, 6, 4])
    rows = np.array([1, 3, 4, 8, 11, 14])
    some = take(part, rows)
    assert [row.tolist() for row in common_queries(part, some, NAMES)] == [rows.tolist(), list(range(6))]
    assert [row.tolist() for row in common_queries(some, part, NAMES)] == [list(range(6)), rows.tolist()]
    mixed = take(part, np.random.default_rng(0).permutation(len(part)))
    in_a, in_b = common_queries(part, mixed, NAMES)
    assert len(in_a) == len(part)
    assert (part.target_items[in_a] == mixed.target_items[in_b]).all()


def test_equal_queries_of_a_user_are_told_apart() -> None:
    part = evaluation_set(users=2)
    twice = take(part, np.array([0, 0, 1]))
    assert len(set(query_keys(twice))) == 3
    assert common_queries(twice, twice, NAMES)[0].tolist() == [0, 1, 2]
    assert [row.tolist() for row in common_queries(twice, part, NAMES)] == [[0, 2], [0, 1]]


def test_other_users_are_refused() -> None:
    part = evaluation_set()
    other = replace(part, users=part.users + 1000)
    with pytest.raises(DataError, match="one and two were evaluated on different users"):
        common_queries(part, other, NAMES)


@pytest.mark.parametrize("changed", ["target", "history"])
def test_other_questions_to_the_same_users_are_refused(changed: str) -> None:
    part = evaluation_set()
    targets, items = part.target_items.copy(), part.queries.items.copy()
    (targets if changed == "target" else items)[0] = 59 if targets[0] != 59 else 58
    other = replace(part, target_items=targets, queries=replace(part.queries, items=items))
    with pytest.raises(DataError, match=r"different queries: they share 39 of 40 and 40, and 1 users .* one split"):
        common_queries(part, other, NAMES)


def test_sessions_of_another_order_are_refused() -> None:
    with pytest.raises(DataError, match="different queries"):
        common_queries(sessions([6, 5]), sessions([6, 5], seed=1), NAMES)


def test_ordinals_count_the_queries_of_a_user() -> None:
    assert ordinals(np.array([5, 3, 5, 5, 3, 9])).tolist() == [0, 0, 1, 2, 1, 0]
    assert ordinals(np.empty(0, np.int32)).tolist() == []


def test_users_are_resampled_with_all_their_queries() -> None:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(300), random.integers(1, 6, 300))
    values = np.repeat(random.random(300), np.bincount(users))[:, None]  # one session, one value: not independent
    means = bootstrap_means(values, seed=0, users=users)
    plain = []
    for _ in range(4000):
        drawn = random.integers(0, 300, 300)
        sizes = np.bincount(users)[drawn]
        first = np.searchsorted(users, drawn)
        plain.append((values[first, 0] * sizes).sum() / sizes.sum())
    np.testing.assert_allclose(np.quantile(means, [0.025, 0.975]), np.quantile(plain, [0.025, 0.975]), atol=0.006)
    assert means.std() > 1.5 * bootstrap_means(values, seed=0).std()


def test_one_query_a_user_is_the_plain_bootstrap() -> None:
    values = np.random.default_rng(3).random(50)
    users = np.random.default_rng(4).permutation(50)
    assert percentile_intervals({"x": values}, users=users) == percentile_intervals({"x": values})
    assert paired_difference(values, values[::-1], users=users) == paired_difference(values, values[::-1])
    with pytest.raises(ValueError, match="49 users and 50 rows"):
        paired_difference(values, values, users=users[:49])
