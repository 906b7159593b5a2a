"""What is kept of a stream of scores, against sorting all of them; and the same pairs from every kind of scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.build.score import candidates as module
from sparcode.build.score import dot as dot_lists
from sparcode.build.score import kept as kept_module
from sparcode.build.score.candidates import item_ranges, score_block
from sparcode.build.score.kept import KeptPairs, best_first, item_of, key_of, raw_threshold, scan, value_of
from sparcode.build.score.likelihood import LikelihoodScorer
from sparcode.build.score.scoring import CodeScorer, collect_scores
from tests.query.scorers import random_rescorer

INF = np.float32(np.inf)


def expected(values: np.ndarray, thresholds: np.ndarray, floor: int) -> list[list[tuple[int, float]]]:
    """Of values (I, C): for each code its pairs above the threshold and its ``floor`` best, by sorting."""
    lists = []
    for column, threshold in zip(values.T, thresholds, strict=True):
        order = sorted(range(len(column)), key=lambda item: (-column[item], item))
        kept = {item for place, item in enumerate(order) if place < floor or column[item] > threshold}
        lists.append([(item, float(column[item])) for item in sorted(kept)])
    return lists


def lists_of(rows: np.ndarray, items: np.ndarray, values: np.ndarray, count: int) -> list[list[tuple[int, float]]]:
    lists: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for row, item, value in sorted(zip(rows.tolist(), items.tolist(), values.tolist(), strict=True)):
        lists[row].append((item, value))
    return lists


def stream(scores: np.ndarray, kept: KeptPairs, order: list[tuple[int, int]], kernel: Any = scan) -> list[Any]:
    for start, stop in order:
        kernel(scores[start:stop], start, kept.reserve(scores[start:stop].size))
    return lists_of(*kept.finish(), scores.shape[1])


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 130),
    codes=st.sampled_from([1, 3, 64, 70]),
    floor=st.integers(0, 40),
    steps=st.sampled_from([1, 3, 1000]),
    level=st.sampled_from([-1.0, 0.0, 1.0, np.inf]),
)
def test_kept_are_the_best_and_those_above(seed, items, codes, floor, steps, level):
    rng = np.random.default_rng(seed)
    scores = (np.round(rng.normal(size=(items, codes)) * steps) / steps).astype("f")
    shift = rng.normal(size=codes).astype("f")
    thresholds = np.where(rng.random(codes) < 0.7, np.float32(level), np.float32(0.5)).astype("f")
    floor = min(floor, items)
    cut = int(rng.integers(0, items + 1))
    order = [(cut, items), (0, cut)] if seed % 2 else [(0, cut), (cut, items)]
    found = stream(scores, KeptPairs(thresholds, floor, shift), order)
    assert found == expected(scores - shift, thresholds, floor)


def test_worst_order_and_equal_values():
    rising = np.repeat(np.arange(400, dtype="f")[:, None], 3, axis=1)
    equal, signed = np.zeros((400, 3), "f"), np.where(np.arange(400) % 2, 0.0, -0.0).astype("f")[:, None]
    for scores in (rising, rising[::-1].copy(), equal, np.repeat(signed, 3, axis=1)):
        for order in ([(0, 400)], [(200, 400), (0, 200)]):
            found = stream(scores, KeptPairs(np.full(3, INF), 7, np.zeros(3)), order)
            assert found == expected(scores, np.full(3, INF), 7)


@given(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False), st.integers(0, (1 << 24) - 1))
def test_keys_order_pairs(value, other, item):
    for make, back, ident in ((key_of, value_of, item_of), (key_of.py_func, value_of.py_func, item_of.py_func)):
        key = np.uint64(make(np.float32(value), item))
        assert back(key) == np.float32(value)
        assert ident(key) == item
        assert key < make(np.float32(value), max(item - 1, 0)) or item == 0
        if value < other:
            assert key < make(np.float32(other), (1 << 24) - 1)


@given(
    st.floats(-(2.0**90), 2.0**90, width=32),
    st.floats(-(2.0**90), 2.0**90, width=32),
    st.floats(-(2.0**90), 2.0**90, width=32),
)
def test_no_value_above_a_limit_has_a_score_below_the_raw_threshold(limit, shift, near):
    limit, shift = np.float32(limit), np.float32(shift)
    for score in (np.float32(near), limit + shift, np.nextafter(limit + shift, INF)):
        if score - shift > limit:
            assert score > raw_threshold(limit, shift)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60, unique=True), st.data())
def test_selection(numbers, data):
    wanted = data.draw(st.integers(1, len(numbers)))
    for select in (best_first, best_first.py_func):
        keys = np.array(numbers, np.uint64)
        assert select(keys, len(keys), wanted) == sorted(numbers)[-wanted]
        assert sorted(keys[:wanted].tolist()) == sorted(numbers)[-wanted:]


def test_kernels_equal_their_python_source(monkeypatch):
    scores = np.random.default_rng(0).normal(size=(50, 66)).astype("f")
    thresholds, shift = np.full(66, 0.8, "f"), np.linspace(-1, 1, 66).astype("f")
    fast = stream(scores, KeptPairs(thresholds, 3, shift), [(0, 50)])
    for name in ("scan_row", "any_above", "offer", "select_best", "raw_threshold", "raw_thresholds_of", "key_of",
                 "value_of", "item_of", "best_first", "drain"):  # fmt: skip
        monkeypatch.setattr(kept_module, name, getattr(kept_module, name).py_func)
    slow = stream(scores, KeptPairs(thresholds, 3, shift), [(0, 50)], scan.py_func)
    assert slow == fast == expected(scores - shift, thresholds, 3)


FORMS = [("dot", 1, "product"), ("dot", 2, "product"), ("dot", 3, "residual"), ("dot", 1, "residual"),
         ("hadamard", 2, "product"), ("concatenation", 2, "product"), ("mixture", 2, "product")]  # fmt: skip


def form(kind: str, books: int, quantizer: str, items: int, dense: bool = True) -> tuple[CodeScorer, np.ndarray]:
    rng = np.random.default_rng(books)
    words = {1: 300, 2: 70, 3: 7}[books]
    depth = 12 // books if quantizer == "product" else 12
    codebooks = rng.normal(size=(books, words, depth)).astype("f") / 3
    every = np.indices((words,) * books).reshape(books, -1).T.astype(np.uint16)[:300]
    rescorer = random_rescorer(kind, layers=1, hidden=6, items=items)[0]
    return CodeScorer(rescorer, codebooks, quantizer), every if dense else every[rng.random(len(every)) < 0.4]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(("kind", "books", "quantizer"), FORMS)
def test_every_form_keeps_what_its_scores_say(kind, books, quantizer, dense, monkeypatch):
    scorer, codes = form(kind, books, quantizer, 150, dense)
    monkeypatch.setattr("sparcode.build.score.scoring.CHUNK_ITEMS", 40)
    monkeypatch.setattr(dot_lists, "PRODUCT_ITEMS", 32)
    monkeypatch.setattr(dot_lists, "PRODUCT_CODES", 100)
    plan, shift = scorer.plan(codes), np.linspace(-3, 3, len(codes)).astype("f")
    values = scorer.scores(plan) - shift
    for level, floor in ((np.inf, 9), (float(np.quantile(values, 0.95)), 3), (float(np.quantile(values, 0.9)), 0)):
        thresholds = np.full(len(codes), level, "f")
        kept = KeptPairs(thresholds, floor, shift)
        scorer.collect(plan, 70, 150, kept)
        scorer.collect(plan, 0, 70, kept)
        found = lists_of(*kept.finish(), len(codes))
        assert found == expected(values, thresholds, floor)
        other = KeptPairs(thresholds, floor, shift)
        collect_scores(scorer, plan, 0, 150, other)
        assert lists_of(*other.finish(), len(codes)) == found


@pytest.mark.parametrize("books", [1, 2])
def test_dot_kernels_equal_their_python_source(books, monkeypatch):
    scorer, codes = form("dot", books, "product", 12)
    codes = codes[:75]
    fast = score_block(scorer, codes, 0.5, 2)
    for name in ("greatest_of", "lowest_of", "item_mean", "fill_angles", "one_angle", "known_of", "collect_runs",
                 "item_means", "filter_block", "offer_some"):  # fmt: skip
        monkeypatch.setattr(dot_lists, name, getattr(dot_lists, name).py_func)
    monkeypatch.setattr("sparcode.build.score.scoring.collect_runs", dot_lists.collect_runs)
    slow = score_block(scorer, codes, 0.5, 2)
    assert fast.items.tolist() == slow.items.tolist()
    assert np.allclose(fast.values, slow.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "books", "quantizer"), FORMS[:5])
def test_the_best_of_a_code_do_not_depend_on_the_block(kind, books, quantizer, monkeypatch):
    code_scorer, codes = form(kind, books, quantizer, 400)
    monkeypatch.setattr(module, "WARM_RUNS", 2)
    monkeypatch.setattr(module, "WARM_LENGTH", 8)
    scorer = LikelihoodScorer(code_scorer)
    whole = score_block(scorer, codes, np.inf, 5)
    assert np.diff(whole.indptr).tolist() == [5] * len(codes)
    values = scorer.scores(scorer.plan(codes))
    for code, row in enumerate(expected(values, np.full(len(codes), INF), 5)):
        part = slice(whole.indptr[code], whole.indptr[code + 1])
        assert list(zip(whole.items[part].tolist(), whole.values[part].tolist(), strict=True)) == row
    for low, high in ((0, 1), (17, 92), (250, 300)):
        alone = score_block(scorer, codes[low:high], np.inf, 5)
        part = slice(whole.indptr[low], whole.indptr[high])
        assert alone.items.tobytes() == whole.items[part].tobytes()
        assert alone.values.tobytes() == whole.values[part].tobytes()


def test_ranges_are_all_items_once():
    for count, floor in ((1, 3), (100, 0), (1 << 17, 4), (1 << 17, 300), (1_000_003, 256)):
        seen = sorted(item_ranges(count, floor))
        assert seen[0][0] == 0
        assert seen[-1][1] == count
        assert all(one[1] == other[0] for one, other in zip(seen, seen[1:], strict=False))
    assert len(item_ranges(1 << 17, 4)) > 1


def test_no_code_and_more_wanted_than_there_are_items():
    scorer, codes = form("dot", 2, "product", 6)
    assert len(score_block(scorer, codes[:0], np.inf, 4).items) == 0
    assert np.diff(score_block(scorer, codes[:3], np.inf, 100).indptr).tolist() == [6, 6, 6]
