"""Learned item lists and their merging with counted ones, against dense loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.build.items import lists as module
from sparcode.build.items.evidence import ItemEvidence, ListSettings, fixed_settings
from sparcode.build.items.lists import (
    Neighbours,
    best_neighbours,
    lists_of,
    merge_lists,
    weigh_items,
    weigh_own,
    with_repeats,
)
from sparcode.build.items.transitions import Transitions, count_transitions
from tests.worlds import sequences_of, tiny_config


def slow_best(
    sources: np.ndarray, targets: np.ndarray, temperature: float, keep: int, own: bool = False
) -> list[list[tuple[int, float]]]:
    """Return the ``keep`` best (item, score) of every source (itself only if ``own``), ties by the smaller id."""
    rows = []
    for source in range(len(sources)):
        scores = {}
        for target in range(len(targets)):
            if own or target != source:
                products = [float(a) * float(b) for a, b in zip(sources[source], targets[target], strict=True)]
                scores[target] = sum(products) / temperature
        rows.append(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:keep])
    return rows


def vectors(seed: int, count: int, width: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return sources and targets on a grid: sums are exact in any order, and many scores are equal."""
    random = np.random.default_rng(seed)
    sources, targets = random.integers(-2, 3, (2, count, width)).astype(np.float32)
    return sources, targets


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("longest", [0, 1, 4, 12, 13, 40])
@pytest.mark.parametrize("count", [1, 2, 5, 14])
def test_neighbours_equal_a_loop_with_ties(count: int, longest: int, own: bool):
    sources, targets = vectors(count, count)
    found = best_neighbours(sources, targets, 0.5, longest, own=own)
    keep = min(longest + 1, count - 1 + own)
    assert found.items.shape == found.scores.shape == (count, keep)
    assert (found.items.dtype, found.scores.dtype) == (np.int32, np.float32)
    for source, wanted in enumerate(slow_best(sources, targets, 0.5, keep, own)):
        pairs = list(zip(found.items[source].tolist(), found.scores[source].tolist(), strict=True))
        assert pairs == wanted, source


def test_equal_items_at_the_border_fall_to_the_smaller_id():
    # Items without training events that share their content have the very same target vector.
    sources, targets = np.ones((30, 2), np.float32), np.ones((30, 2), np.float32)
    found = best_neighbours(sources, targets, 1.0, 3)
    for source in range(30):
        assert found.items[source].tolist() == [item for item in range(30) if item != source][:4]


def test_neighbours_of_real_vectors():
    random = np.random.default_rng(0)
    sources, targets = random.normal(size=(2, 25, 16)).astype(np.float32)
    found = best_neighbours(sources, targets, 0.07, 6)
    for source, wanted in enumerate(slow_best(sources, targets, 0.07, 7)):
        assert found.items[source].tolist() == [item for item, _ in wanted]
        np.testing.assert_allclose(found.scores[source], [score for _, score in wanted], rtol=1e-5)


@pytest.mark.parametrize("block", [1, 14, 31, 100, 1 << 24])
def test_blocks_do_not_show(block: int, monkeypatch: pytest.MonkeyPatch):
    sources, targets = vectors(3, 17)
    whole = best_neighbours(sources, targets, 0.25, 5)
    monkeypatch.setattr(module, "BLOCK_SCORES", block)
    parts = best_neighbours(sources, targets, 0.25, 5)
    assert parts.items.tobytes() == whole.items.tobytes()
    assert parts.scores.tobytes() == whole.scores.tobytes()


def slow_lists(neighbours: Neighbours, length: int, cut: float) -> list[dict[int, np.float32]]:
    """Return {item: value} of every source: the best ``length`` less a share of the best score left out."""
    lists = []
    for items, scores in zip(neighbours.items, neighbours.scores, strict=True):
        left_out = max(scores[length], np.float32(0)) if len(scores) > length else np.float32(0)
        values = {}
        for item, score in list(zip(items.tolist(), scores, strict=True))[:length]:
            value = score - np.float32(cut) * left_out
            if value > 0:
                values[item] = value
        lists.append(values)
    return lists


def as_dicts(lists: Transitions) -> list[dict[int, float]]:
    """Return CSR lists as dictionaries, and check their form."""
    assert (lists.indptr.dtype, lists.items.dtype, lists.values.dtype) == (np.int64, np.int32, np.float32)
    assert lists.indptr[0] == 0
    assert lists.indptr[-1] == len(lists.items) == len(lists.values)
    assert (lists.values > 0).all()
    rows = []
    for item in range(len(lists.indptr) - 1):
        ids, values = lists.row(item)
        assert (np.diff(ids) > 0).all(), "ascending ids, each once"
        rows.append(dict(zip(ids.tolist(), values.tolist(), strict=True)))
    return rows


@pytest.mark.parametrize("cut", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("length", [1, 4, 8, 9, 10, 30])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_lists_equal_a_loop(count: int, length: int, cut: float):
    random = np.random.default_rng(count)
    sources, targets = random.normal(size=(2, count, 4)).astype(np.float32)
    neighbours = best_neighbours(sources, targets, 0.1, 8)
    assert as_dicts(lists_of(neighbours, length, cut)) == slow_lists(neighbours, length, cut)


def test_lists_written_out():
    scores = np.array([[5.0, 3.0, 2.0, -1.0], [1.0, -1.0, -2.0, -3.0]], np.float32)
    neighbours = Neighbours(np.array([[3, 1, 2, 4], [4, 0, 2, 3]], np.int32), scores)
    assert as_dicts(lists_of(neighbours, 2, 1.0)) == [{3: 3.0, 1: 1.0}, {4: 1.0}]
    assert as_dicts(lists_of(neighbours, 2, 0.5)) == [{3: 4.0, 1: 2.0}, {4: 1.0}]
    assert as_dicts(lists_of(neighbours, 3, 1.0)) == [{3: 5.0, 1: 3.0, 2: 2.0}, {4: 1.0}], "below 0 nothing is lost"
    assert as_dicts(lists_of(neighbours, 4, 1.0)) == [{3: 5.0, 1: 3.0, 2: 2.0}, {4: 1.0}], "nothing left out"


def transitions_of(dense: np.ndarray) -> Transitions:
    """Return the entries > 0 of a dense matrix as lists."""
    indptr = np.cumsum([0, *(dense > 0).sum(axis=1)]).astype(np.int64)
    return Transitions(indptr, np.nonzero(dense > 0)[1].astype(np.int32), dense[dense > 0].astype(np.float32))


@st.composite
def weighted_parts(draw: st.DrawFn) -> list[tuple[float, np.ndarray]]:
    """Draw one to three sparse non-negative matrices of one size, with weights, at least one above 0."""
    count = draw(st.integers(1, 5))
    values = st.sampled_from([0.0, 0.0, 0.0, 1e-30, 0.1, 0.7, 3.0, 1e4])
    parts = []
    for number in range(draw(st.integers(1, 3))):
        flat = draw(st.lists(values, min_size=count * count, max_size=count * count))
        weight = draw(st.sampled_from([1.0, 0.5, 25.0] if number == 0 else [0.0, 1.0, 0.3]))
        parts.append((weight, np.array(flat, np.float32).reshape(count, count)))
    return parts


@settings(max_examples=150, deadline=None)
@given(weighted_parts())
def test_merging_equals_a_dense_sum(parts):
    total = np.zeros(parts[0][1].shape)
    for weight, dense in parts:
        for row in range(len(dense)):
            for column in range(len(dense)):
                total[row, column] += weight * float(dense[row, column])
    found = as_dicts(merge_lists([(weight, transitions_of(dense)) for weight, dense in parts]))
    for row, values in enumerate(total.astype(np.float32)):
        assert found[row] == {item: float(value) for item, value in enumerate(values) if value > 0}


def test_values_that_round_to_zero_are_left_out():
    tiny = transitions_of(np.array([[0.0, 1e-44], [1.0, 0.0]], np.float32))
    assert as_dicts(merge_lists([(1e-3, tiny)])) == [{}, {0: np.float32(1e-3)}]


def test_nothing_to_merge_is_an_error():
    lists = transitions_of(np.ones((2, 2), np.float32))
    for parts in ([], [(0.0, lists)]):
        with pytest.raises(ValueError, match="no list has a weight above 0"):
            merge_lists(parts)


def test_evidence_weighs_counts_beside_learned_scores_only():
    counted = transitions_of(np.array([[0, 2, 0], [0, 0, 1], [0, 0, 0]], np.float32))
    scores = np.array([[4.0, 1.0], [3.0, 2.0], [0.5, 0.25]], np.float32)
    neighbours = Neighbours(np.array([[1, 2], [0, 2], [1, 0]], np.int32), scores)
    chosen = ListSettings(length=1, cut=1.0, counted_weight=0.5)
    both = ItemEvidence(neighbours, np.ones(2, np.float32), counted)
    assert as_dicts(both.lists(chosen)) == [{1: 3.0 + 1.0}, {0: 1.0, 2: 0.5}, {1: 0.25}]
    assert as_dicts(ItemEvidence(None, None, counted).lists(chosen)) == [{1: 2.0}, {2: 1.0}, {}]
    assert as_dicts(ItemEvidence(neighbours, None, None).lists(chosen)) == [{1: 3.0}, {0: 1.0}, {1: 0.25}]


def test_age_weights_are_the_models_own_or_decay():
    own = np.array([2.0, 4.0, 1.0], np.float32)
    evidence = ItemEvidence(None, own, transitions_of(np.ones((2, 2), np.float32)))
    assert evidence.weights(ListSettings(), 20).tolist() == [0.5, 1.0, 0.25]
    assert evidence.weights(ListSettings(), 1).tolist() == [1.0]
    assert evidence.weights(ListSettings(decay=0.5), 3).tolist() == [1.0, 0.5, 0.25]
    alone = ItemEvidence(None, None, evidence.counted)
    np.testing.assert_allclose(alone.weights(ListSettings(), 3), [1.0, 0.7, 0.49])


def test_settings_without_validation_are_the_configured_ones():
    lists = transitions_of(np.ones((2, 2), np.float32))
    given = {"additive_length": 7, "additive_cut": 0.25, "counted_weight": 0.0, "decay": 0.9}
    family = tiny_config(**{f"families.item.{key}": value for key, value in given.items()}).families.item
    assert fixed_settings(ItemEvidence(None, None, lists), family) == ListSettings(7, 0.25, 0.0, 0.9)
    learned = ItemEvidence(None, np.ones(3), lists)
    assert fixed_settings(learned, family) == ListSettings(7, 0.25, 0.0, None), "it has weights of its own"
    assert fixed_settings(learned, tiny_config().families.item) == ListSettings()
    assert ListSettings(**ListSettings(7, 0.25, 0.0, 0.9).to_json()) == ListSettings(7, 0.25, 0.0, 0.9)


@given(st.lists(st.dictionaries(st.integers(0, 5), st.floats(0.125, 4, width=32), max_size=5), min_size=6, max_size=6))
@settings(max_examples=40, deadline=None)
def test_only_the_own_item_is_weighed(rows: list[dict[int, float]]):
    dense = np.array([[row.get(item, 0.0) for item in range(6)] for row in rows])
    for weight in (0.0, 0.5, 1.0, 2.0):
        wanted = dense * (1 + np.eye(6) * (weight - 1))
        assert as_dicts(weigh_own(transitions_of(dense), weight)) == as_dicts(transitions_of(wanted))


def test_new_items_gain_in_every_list():
    dense = np.array([[0, 1.0, 2.0], [1.0, 0, 4.0], [3.0, 1.0, 0]])
    lists = transitions_of(dense)
    new = np.array([False, False, True])
    evidence = ItemEvidence(None, None, lists, new=new)
    assert as_dicts(evidence.lists(ListSettings())) == as_dicts(lists)
    wanted = transitions_of(dense * [1, 1, 1.5])
    assert as_dicts(evidence.lists(ListSettings(new_gain=1.5))) == as_dicts(wanted)
    assert as_dicts(weigh_items(lists, new, 0.0)) == as_dicts(transitions_of(dense * [1, 1, 0]))
    assert fixed_settings(evidence, tiny_config(**{"families.item.new_gain": 1.5}).families.item).new_gain == 1.5


def test_counted_lists_with_repeats_hold_their_own_item():
    config = tiny_config(**{"families.item.length": 1}).families.item
    train = sequences_of([[0, 1, 0], [2, 1], [2, 2]])
    lists = count_transitions(train, 4, config)
    found = as_dicts(with_repeats(lists, train, config))
    assert [sorted(set(row) - set(old)) for row, old in zip(found, as_dicts(lists), strict=True)] == [[0], [], [2], []]
    spread = config.source_power + config.target_power
    assert found[2][2] == pytest.approx((1 + config.reverse) / 3**spread)
    assert found[0][0] == pytest.approx((1 + config.reverse) / 2 / 2**spread)
