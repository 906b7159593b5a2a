"""Where candidates come from, and with what probability."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparcode.config import LossConfig
from sparcode.train.negatives import CandidateSampler

POPULARITY = np.array([40, 30, 20, 10, 0])
TARGETS = torch.tensor([[0, 1, 2], [3, 3, 0]])
VALID = torch.tensor([[True, True, False], [True, True, True]])


def frequencies(**options) -> np.ndarray:
    """Return how often each item is drawn in many steps."""
    sampler = CandidateSampler(LossConfig(negatives=500, **options), POPULARITY, seed=0)
    ids = torch.cat([sampler.draw(TARGETS, VALID, 0, step)[0].flatten() for step in range(60)])
    return np.bincount(ids.numpy(), minlength=5) / len(ids)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_mixed_sampling_follows_its_stated_probabilities(share):
    sampler = CandidateSampler(LossConfig(popular_share=share), POPULARITY, seed=0)
    wanted = (1 - share) * (POPULARITY > 0) / 4 + share * POPULARITY / POPULARITY.sum()
    np.testing.assert_allclose(frequencies(popular_share=share), wanted, atol=0.01)
    np.testing.assert_allclose(np.exp(sampler.log_probability.numpy()), np.maximum(wanted, 1e-12), rtol=1e-5)


def test_groups_draw_their_own_candidates():
    ids, log_q = CandidateSampler(LossConfig(negatives=50), POPULARITY, 0).draw(TARGETS, VALID, 0, 0)
    assert ids.shape == (2, 50)
    assert not torch.equal(ids[0], ids[1])
    assert log_q is None, "uniform sampling needs no correction"


def test_draws_depend_on_seed_epoch_and_step_only():
    def draw(seed: int, epoch: int, step: int) -> torch.Tensor:
        return CandidateSampler(LossConfig(negatives=50), POPULARITY, seed).draw(TARGETS, VALID, epoch, step)[0]

    assert torch.equal(draw(0, 1, 2), draw(0, 1, 2))
    assert not torch.equal(draw(0, 1, 2), draw(1, 1, 2))
    assert not torch.equal(draw(0, 1, 2), draw(0, 2, 2))
    assert not torch.equal(draw(0, 1, 2), draw(0, 1, 3))


def test_full_gives_every_item_of_training_once():
    ids, log_q = CandidateSampler(LossConfig(kind="full"), POPULARITY, 0).draw(TARGETS, VALID, 0, 0)
    assert ids.tolist() == [[0, 1, 2, 3]]
    assert log_q is None


@pytest.mark.parametrize("logq", [True, False])
def test_in_batch_takes_the_valid_targets_and_corrects_by_popularity(logq):
    ids, log_q = CandidateSampler(LossConfig(kind="in-batch", logq=logq), POPULARITY, 0).draw(TARGETS, VALID, 0, 0)
    assert ids.tolist() == [[0, 1, 3, 3, 0]]
    if logq:
        np.testing.assert_allclose(np.exp(log_q.numpy()), [[0.4, 0.3, 0.1, 0.1, 0.4]], rtol=1e-5)
    else:
        assert log_q is None


def test_items_without_a_training_event_are_drawn_where_asked_for():
    np.testing.assert_allclose(frequencies(unseen_negatives=True), np.full(5, 0.2), atol=0.01)
    mixed = 0.5 * np.full(5, 0.2) + 0.5 * POPULARITY / 100
    np.testing.assert_allclose(frequencies(unseen_negatives=True, popular_share=0.5), mixed, atol=0.01)
    full = CandidateSampler(LossConfig(kind="full", unseen_negatives=True), POPULARITY, seed=0)
    assert full.draw(TARGETS, VALID, 0, 0)[0].tolist() == [[0, 1, 2, 3, 4]]
