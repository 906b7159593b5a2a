"""The selection figure against NDCG@10 written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sparcode.model.item_tokens import unit
from sparcode.model.sparcode import SparCodeModel
from sparcode.train.validation import Validator, pad_histories
from sparcode.types import EvaluationSet
from tests.worlds import queries_of, sequences_of, tiny_config

ITEMS = 23


def evaluation(histories: list[list[int]], targets: list[list[int]], users: list[int] | None = None) -> EvaluationSet:
    """Return held-out targets of histories; users are numbered by row unless given."""
    held = sequences_of(targets)
    known = np.arange(len(histories), dtype=np.int32) if users is None else np.array(users, np.int32)
    return EvaluationSet(known, queries_of(histories), held.indptr, held.items)


def made(items: int = ITEMS) -> SparCodeModel:
    """Return an untrained model with codebooks."""
    torch.manual_seed(0)
    model = SparCodeModel(tiny_config(), items, None, 0)
    model.quantizer.start(unit(torch.randn(50, 16)), seed=0)
    return model


def literal(model: SparCodeModel, held: EvaluationSet, quantised: bool) -> float:
    """Mean NDCG@10 over queries with a history, by sorting."""
    model.eval()
    gains = []
    for row in range(len(held)):
        history = held.queries.history(row)[-model.config.model.history :]
        if not len(history):
            continue
        items = torch.from_numpy(history.astype(np.int64))[None]
        tokens = model.last_tokens(model.items.table(), items, torch.tensor([len(history)]), None)
        scores = model.score_all(model.items.table(), tokens, quantised)[0].tolist()
        seen = set(held.queries.history(row).tolist())
        ranked = sorted((i for i in range(model.item_count) if i not in seen), key=lambda i: (-scores[i], i))[:10]
        targets = set(held.targets(row).tolist())
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked) if item in targets)
        gains.append(gain / sum(1 / math.log2(place + 2) for place in range(min(len(targets), 10))))
    return sum(gains) / len(gains)


def test_repeats_count_if_they_are_ranked():
    held = evaluation([[1, 2], [3], [4, 5, 4]], [[2], [3], [4]])
    model = made(8)  # fewer items than places: every target that is ranked is found
    assert Validator(held, 10, 8, None, 0).measure(model, False)["ndcg@10"] == 0
    assert Validator(held, 10, 8, None, 0, include_seen=True).measure(model, False)["ndcg@10"] > 0.3


HISTORIES = [[1, 2, 3], [4], [], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1], [2, 2], [20]]
TARGETS = [[4], [5, 6], [7], [2], [9, 2], [*range(12)]]


@pytest.mark.parametrize("quantised", [False, True])
def test_measure_equals_the_definition(quantised):
    model, held = made(), evaluation(HISTORIES, TARGETS)
    validator = Validator(held, 100, 8, None, seed=0)
    assert len(validator) == 5, "queries without a history are left out"
    found = validator.measure(model, quantised)
    assert found["ndcg@10"] == pytest.approx(literal(model, held, False))
    assert ("quantised_ndcg@10" in found) == quantised
    if quantised:
        assert found["quantised_ndcg@10"] == pytest.approx(literal(model, held, True))


def test_items_of_the_history_never_count_even_when_few_items_are_left():
    model, held = made(5), evaluation([[0, 1, 2, 3]], [[1]])
    assert Validator(held, 10, 8, None, seed=0).measure(model, False)["ndcg@10"] == 0


def test_the_sample_is_fixed_by_the_seed():
    histories = [[item % ITEMS] for item in range(60)]
    held = evaluation(histories, [[0]] * 60)
    samples = [np.concatenate(Validator(held, 20, 8, None, seed).histories).tolist() for seed in (0, 0, 1)]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]
    assert len(samples[0]) == 20


def test_features_follow_their_users():
    held = evaluation([[1], [], [2], [3]], [[4]] * 4, users=[5, 0, 2, 4])
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    validator = Validator(held, 10, 8, features, seed=0)
    assert validator.features.tolist() == [[10, 11], [4, 5], [8, 9]]


def test_pad_histories_keeps_the_latest_events():
    items, lengths = pad_histories([np.array([1, 2, 3, 4]), np.array([7])], 3)
    assert items.tolist() == [[2, 3, 4], [7, 0, 0]]
    assert lengths.tolist() == [3, 1]


def test_counted_evidence_is_added_to_the_scores_of_a_model() -> None:
    from sparcode.build.items.transitions import Transitions
    from sparcode.train.validation import EVIDENCE_WEIGHT, _evidence

    lists = Transitions(
        np.array([0, 2, 3, 3], np.int64), np.array([1, 2, 2], np.int32), np.array([0.5, 1.0, 4.0], np.float32)
    )
    items, values = _evidence(lists, np.array([2, 1, 0], np.int32), 0.5)
    assert items.tolist() == [1, 2]
    np.testing.assert_allclose(values.numpy(), EVIDENCE_WEIGHT * np.array([0.5, 1.0 + 0.5 * 4.0]))
    items, values = _evidence(lists, np.array([2], np.int32), 0.5)
    assert len(items) == len(values) == 0
