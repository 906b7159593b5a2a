"""Ranking losses on (positive, candidates) scores. All return the mean over valid positions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def softmax_loss(positive: Tensor, candidates: Tensor, weight: Tensor) -> Tensor:
    """Negative log-likelihood of the positive among {positive} and its candidates.

    positive: (G, P); candidates: (G, P, N), ``-inf`` where a candidate must not count (it is the positive
    itself); weight: (G, P), 0 for padding. Sampled, in-batch and full softmax differ only in the candidates
    and in the log sampling probabilities subtracted from them (see ``logq_corrected``).
    """
    peak = torch.maximum(positive, candidates.amax(dim=-1)).detach()
    others = torch.exp(candidates - peak[..., None]).sum(dim=-1)
    total = torch.log(torch.exp(positive - peak) + others) + peak
    return _weighted_mean(total - positive, weight)


def bpr_loss(positive: Tensor, candidates: Tensor, weight: Tensor) -> Tensor:
    """Bayesian personalised ranking (Rendle et al. 2009): -log sigmoid(positive - negative), mean over negatives."""
    counted = torch.isfinite(candidates)
    margins = torch.where(counted, positive[..., None] - candidates, torch.zeros_like(candidates))
    losses = functional.softplus(-margins) * counted
    return _weighted_mean(losses.sum(-1) / counted.sum(-1).clamp_min(1), weight)


def logq_corrected(scores: Tensor, log_probabilities: Tensor) -> Tensor:
    """Subtract log sampling probabilities, broadcast over positions (Bengio & Senecal 2008; Yi et al. 2019).

    scores: (G, P, N); log_probabilities: (G, N), log of the chance that the sampler draws the candidate.
    """
    return scores - log_probabilities[:, None, :]


def mask_equal(scores: Tensor, candidate_ids: Tensor, target_ids: Tensor) -> Tensor:
    """Set candidates that are the position's own target to ``-inf``. Shapes (G, P, N), (G, N), (G, P)."""
    same = candidate_ids[:, None, :] == target_ids[:, :, None]
    return scores.masked_fill(same, float("-inf"))


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1.0)
