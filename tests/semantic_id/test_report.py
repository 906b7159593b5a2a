"""Every figure of the report against a slow and obvious reference; random ids get the chance."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import DataError
from sparcode.semantic_id import neighbours
from sparcode.semantic_id.neighbours import exact_neighbours, recall_by_digits, recall_by_distance, sample_queries
from sparcode.semantic_id.prefixes import co_purchase, prefix_groups, prefix_purity
from sparcode.semantic_id.report import count_collisions, digit_use, report
from sparcode.types import Sequences

RANDOM = np.random.default_rng(0)
CODES = RANDOM.integers(0, 3, (60, 3))
X = RANDOM.normal(size=(60, 5)).astype(np.float32)
CATEGORIES = [None if number % 7 == 0 else f"c{number % 4}" for number in range(60)]


def sequences(rows: list[list[int]]) -> Sequences:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sequences(indptr, np.array([item for row in rows for item in row], np.int32), np.zeros(0))


codes_of_any_shape = st.integers(1, 4).flatmap(
    lambda length: st.lists(st.lists(st.integers(0, 2), min_size=length, max_size=length), min_size=2, max_size=14)
)


@settings(max_examples=60, deadline=None)
@given(codes_of_any_shape)
def test_prefix_groups_against_tuples(rows: list[list[int]]) -> None:
    codes = np.array(rows)
    for length, group in enumerate(prefix_groups(codes), start=1):
        for one, other in itertools.combinations(range(len(rows)), 2):
            assert (group[one] == group[other]) == (rows[one][:length] == rows[other][:length])


def test_long_ids_of_large_books_do_not_overflow() -> None:
    codes = RANDOM.integers(0, 1 << 24, (40, 40))
    groups = prefix_groups(np.vstack([codes, codes]))
    assert groups[-1].max() == 39
    assert np.array_equal(groups[-1][:40], groups[-1][40:])


def test_use_of_digits() -> None:
    codes = np.array([[0, 1], [0, 2], [0, 1], [1, 1]])
    first, second = digit_use(codes, (2, 16))
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert (first.used, first.usage, first.size) == (2, 1.0, 2)
    assert first.entropy == pytest.approx(entropy)
    assert first.perplexity == pytest.approx(2**entropy)
    assert (first.vectors, second.vectors) == (4, 4)
    assert digit_use(codes, (2, 16), 3)[0].vectors == 3
    assert not first.collapsed
    assert digit_use(np.zeros((5, 1), int), (4,))[0].perplexity == 1.0


@pytest.mark.parametrize(
    ("counts", "size", "collapsed"),
    [
        ([1] * 50, 256, False),  # fifty items cannot use more codewords than fifty
        ([1], 256, False),  # nor can one
        ([2], 256, True),
        ([2000, *[1] * 63], 64, True),  # every codeword has an item, and one has nearly all
        ([20, *[1] * 63], 64, False),  # uneven: a heap of items that are alike
        ([30] * 16, 64, True),  # three quarters of the codewords have none
        ([30] * 33, 64, False),
    ],
)
def test_collapsed_is_what_items_could_have_used_and_do_not(counts: list[int], size: int, collapsed: bool) -> None:
    codes = np.repeat(np.arange(len(counts)), counts)[:, None]
    assert digit_use(codes, (size,))[0].collapsed == collapsed


def test_what_is_said_of_a_digit_of_one_codeword() -> None:
    codes = np.stack([np.arange(8), np.full(8, 3)], axis=1)
    assert report(codes, (8, 8)).notes() == ["digit 2: all items have the same codeword"]


def test_collisions_with_duplicates_apart() -> None:
    codes = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [1, 1], [1, 1]])
    content = np.array([0, 0, 2, 3, 4, 5])  # items 0 and 1 are one text
    found = count_collisions(codes, content)
    assert found.rate == pytest.approx(1 - 3 / 6)
    assert found.duplicate_rate == pytest.approx(1 - 5 / 6)
    assert found.rate_apart == pytest.approx(1 - 3 / 5)
    assert found.largest == 2
    assert count_collisions(codes).rate_apart is None


@settings(max_examples=60, deadline=None)
@given(codes_of_any_shape, st.data())
def test_purity_against_all_pairs(rows: list[list[int]], data: st.DataObject) -> None:
    names = st.sampled_from(["a", "b", None])
    categories = data.draw(st.lists(names, min_size=len(rows), max_size=len(rows)))
    found = prefix_purity(np.array(rows), categories)
    known = [number for number, name in enumerate(categories) if name]
    pairs = list(itertools.combinations(known, 2))
    for length, share in enumerate(found.share, start=1):
        together = [(a, b) for a, b in pairs if rows[a][:length] == rows[b][:length]]
        same = [categories[a] == categories[b] for a, b in together]
        assert share == (pytest.approx(sum(same) / len(same)) if same else None)
    if pairs:
        assert found.chance[0] == pytest.approx(sum(categories[a] == categories[b] for a, b in pairs) / len(pairs))


def test_co_purchases_against_loops() -> None:
    rows = [[0, 1, 1, 2], [3], [], [2, 5, 0, 7], [9, 9]]
    found = co_purchase(CODES, sequences(rows))
    pairs = [(a, b) for row in rows for a, b in itertools.pairwise(row) if a != b]
    early, late = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    for length in range(1, 4):
        same = [tuple(CODES[a][:length]) == tuple(CODES[b][:length]) for a, b in pairs]
        assert found.share[length - 1] == pytest.approx(sum(same) / len(pairs))
        weight = hit = 0
        for a, b in itertools.product(early, late):
            if a != b:
                weight += early[a] * late[b]
                hit += early[a] * late[b] * (tuple(CODES[a][:length]) == tuple(CODES[b][:length]))
        assert found.chance[length - 1] == pytest.approx(hit / weight)
    assert co_purchase(CODES, sequences([[1], []])).share == [None] * 3
    with pytest.raises(DataError, match="item 60, but there are codes of items 0..59"):
        co_purchase(CODES, sequences([[1, 60]]))


def test_nearest_neighbours_against_loops() -> None:
    found = exact_neighbours(X, np.array([3, 50]), 7)
    for row, query in zip(found, (3, 50), strict=True):
        order = sorted((float(((X[query] - X[other]) ** 2).sum()), other) for other in range(60) if other != query)
        assert row.tolist() == [other for _, other in order[:7]]
    assert sorted(exact_neighbours(X, np.array([3]), 59)[0].tolist()) == [other for other in range(60) if other != 3]


def mean_over_orders(distance: list[float], truth: set[int], k: int) -> float:
    """Mean recall when tied items come in every possible order."""
    recalls = []
    for order in itertools.permutations(range(len(distance))):
        if all(distance[a] <= distance[b] for a, b in itertools.pairwise(order)):
            recalls.append(len(truth & set(order[:k])) / k)
    return sum(recalls) / len(recalls)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=2), min_size=6, max_size=6), st.booleans())
def test_recall_is_the_mean_over_the_orders_of_ties(rows: list[list[int]], prefix: bool) -> None:
    codes, truth = np.array(rows), np.array([[1, 2]])

    def far(other: int) -> float:
        equal = [a == b for a, b in zip(rows[0], rows[other], strict=True)]
        common = len(list(itertools.takewhile(bool, equal)))
        return -(common * 3 + sum(equal)) if prefix else -(sum(equal) * 3 + common)

    expected = mean_over_orders([far(other) for other in range(1, 6)], {0, 1}, 2)
    assert recall_by_digits(codes, np.array([0]), truth, prefix=prefix) == pytest.approx(expected)


def test_recall_by_distance() -> None:
    rows = np.arange(60)
    truth = exact_neighbours(X, rows, 10)
    assert recall_by_distance(X, rows, rows, truth) == 1.0
    everything_one = recall_by_distance(X[:1], np.zeros(60, np.int64), rows, truth)
    assert everything_one == pytest.approx(10 / 59)


def test_blocks_do_not_change_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(0, 60, 2)
    truth = exact_neighbours(X, rows, 5)
    whole = recall_by_digits(CODES, rows, truth), recall_by_distance(X[:9], CODES[:, 0] * 3 + CODES[:, 1], rows, truth)
    monkeypatch.setattr(neighbours, "_BLOCK", 1)
    assert np.array_equal(exact_neighbours(X, rows, 5), truth)
    again = recall_by_digits(CODES, rows, truth), recall_by_distance(X[:9], CODES[:, 0] * 3 + CODES[:, 1], rows, truth)
    assert again == pytest.approx(whole)


def test_random_ids_get_the_chance_and_good_ids_more() -> None:
    random = np.random.default_rng(1)
    centres = random.normal(size=(16, 8)) * 3
    label = random.integers(0, 16, 2000)
    x = (centres[label] + random.normal(size=(2000, 8))).astype(np.float32)
    good = np.stack([label // 4, label % 4], axis=1)
    bad = random.integers(0, 4, (2000, 2))
    names = [f"c{number}" for number in label]
    fine, chance = (report(codes, (4, 4), vectors=x, categories=names, queries=300) for codes in (good, bad))
    assert chance.neighbours is not None
    assert fine.neighbours is not None
    assert chance.purity is not None
    assert fine.purity is not None
    assert chance.neighbours.by_prefix == pytest.approx(10 / 1999, abs=0.004)
    assert fine.neighbours.by_prefix > 5 * chance.neighbours.by_prefix
    assert chance.purity.lift == pytest.approx([1, 1], abs=0.1)
    assert fine.purity.share[1] == 1.0


def test_the_whole_report_is_json() -> None:
    content = report(
        CODES, (3, 3, 3), vectors=X, decoded=X * 0.5, categories=CATEGORIES, histories=sequences([[1, 2, 3]]), k=4
    )
    assert content.mse == pytest.approx(float((X**2).mean() / 4), rel=1e-5)
    assert content.explained is not None
    assert 0 < content.explained < 1
    found = json.loads(json.dumps(content.as_dict()))
    assert found["neighbours"]["k"] == 4
    assert len(found["purity"]["lift"]) == 3
    assert found["digits"][0]["usage"] == 1.0
    assert any("share an id" in sentence for sentence in content.notes())
    bare = report(CODES, (3, 3, 64))
    assert bare.neighbours is None
    assert bare.notes() == ["digit 3: perplexity 3.0 of 64 codewords, collapsed"]


def test_one_item_and_equal_vectors() -> None:
    assert report(np.array([[1]]), (2,), vectors=X[:1]).neighbours is None
    same = np.ones((4, 2), np.float32)
    assert report(np.array([[0], [1], [0], [1]]), (2,), vectors=same, decoded=same).explained is None


@pytest.mark.parametrize(
    ("codes", "sizes", "more", "words"),
    [
        (CODES, (3, 3), {}, r"expected integers \(items, 2\)"),
        (CODES * 1.0, (3, 3, 3), {}, "float64"),
        (CODES[:0], (3, 3, 3), {}, "shape"),
        (CODES, (3, 3, 2), {}, "item .* has the code"),
        (CODES - 1, (3, 3, 3), {}, "has the code"),
        (CODES, (3, 3, 3), {"vectors": X[:5]}, "vectors have shape"),
        (CODES, (3, 3, 3), {"vectors": X, "decoded": X[:5]}, "decoded have shape"),
        (CODES, (3, 3, 3), {"categories": ["a"]}, "1 categories for 60 items"),
    ],
)
def test_parts_that_do_not_fit(codes: np.ndarray, sizes: tuple[int, ...], more: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        report(codes, sizes, **more)


def test_sampled_queries() -> None:
    assert sample_queries(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    rows = sample_queries(1000, 50, 0)
    assert len(set(rows.tolist())) == 50
    assert rows.tolist() == sorted(sample_queries(1000, 50, 0).tolist())
