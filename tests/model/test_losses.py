"""Losses against torch's own and against loops."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from sparcode.model.losses import bpr_loss, logq_corrected, mask_equal, softmax_loss

GROUPS, POSITIONS, CANDIDATES = 2, 3, 5


def scores() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return positive (G, P), candidates (G, P, N) and weight (G, P) with one padded position."""
    random = torch.Generator().manual_seed(4)
    positive = 3 * torch.randn(GROUPS, POSITIONS, generator=random, dtype=torch.float64)
    candidates = 3 * torch.randn(GROUPS, POSITIONS, CANDIDATES, generator=random, dtype=torch.float64)
    weight = torch.ones(GROUPS, POSITIONS, dtype=torch.float64)
    weight[1, 2] = 0
    return positive, candidates, weight


def test_softmax_is_cross_entropy_of_the_positive():
    positive, candidates, weight = scores()
    logits = torch.cat([positive[..., None], candidates], dim=-1).view(-1, CANDIDATES + 1)
    each = functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="none")
    wanted = (each * weight.view(-1)).sum() / 5
    torch.testing.assert_close(softmax_loss(positive, candidates, weight), wanted)


def test_softmax_gradient_is_that_of_cross_entropy():
    positive, candidates, weight = scores()
    inputs = [positive.requires_grad_(), candidates.requires_grad_()]
    found = torch.autograd.grad(softmax_loss(positive, candidates, weight), inputs)
    logits = torch.cat([positive[..., None], candidates], dim=-1)
    plain = -(logits.log_softmax(-1)[..., 0] * weight).sum() / 5
    for left, right in zip(found, torch.autograd.grad(plain, inputs), strict=True):
        torch.testing.assert_close(left, right)


def test_full_softmax_counts_the_positive_once():
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 6, dtype=torch.float64)
    targets = torch.tensor([[2, 0, 5, 2]])
    masked = mask_equal(logits, torch.arange(6)[None], targets)
    positive = logits.gather(2, targets[..., None])[..., 0]
    found = softmax_loss(positive, masked, torch.ones(1, 4, dtype=torch.float64))
    torch.testing.assert_close(found, functional.cross_entropy(logits[0], targets[0]))


def test_softmax_survives_large_scores_and_masked_candidates():
    positive = torch.tensor([[1000.0, -1000.0]]).requires_grad_()
    candidates = torch.tensor([[[999.0, -torch.inf], [-torch.inf, -torch.inf]]])
    loss = softmax_loss(positive, candidates, torch.ones(1, 2))
    loss.backward()
    assert math.isclose(loss.item(), math.log1p(math.exp(-1)) / 2, rel_tol=1e-3)
    assert torch.isfinite(positive.grad).all()


def test_bpr_equals_loops_and_skips_masked_candidates():
    positive, candidates, weight = scores()
    candidates[0, 1, 3] = candidates[1, 0, :] = -torch.inf
    total = 0.0
    for g, p in np.ndindex(GROUPS, POSITIONS):
        pairs = [float(positive[g, p] - value) for value in candidates[g, p] if math.isfinite(value)]
        losses = [-math.log(1 / (1 + math.exp(-pair))) for pair in pairs]
        total += float(weight[g, p]) * sum(losses) / max(len(losses), 1)
    candidates.requires_grad_()
    found = bpr_loss(positive, candidates, weight)
    assert math.isclose(found.item(), total / 5, rel_tol=1e-9)
    found.backward()
    assert torch.isfinite(candidates.grad).all()


def test_logq_subtracts_from_every_position():
    _, candidates, _ = scores()
    log_q = torch.log(torch.rand(GROUPS, CANDIDATES, dtype=torch.float64))
    found = logq_corrected(candidates, log_q)
    for g, p, n in np.ndindex(GROUPS, POSITIONS, CANDIDATES):
        assert found[g, p, n] == candidates[g, p, n] - log_q[g, n]


def test_mask_hides_the_own_target_only():
    ids, targets = torch.tensor([[3, 1, 3], [0, 2, 2]]), torch.tensor([[3, 0], [2, 5]])
    found = mask_equal(torch.zeros(2, 2, 3), ids, targets)
    for g, p, n in np.ndindex(2, 2, 3):
        assert (found[g, p, n] == -torch.inf) == (ids[g, n] == targets[g, p]).item()


def test_no_valid_position_costs_nothing():
    positive, candidates, weight = scores()
    assert softmax_loss(positive, candidates, weight * 0) == 0
    assert bpr_loss(positive, candidates, weight * 0) == 0
