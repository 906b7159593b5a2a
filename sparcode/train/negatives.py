"""Candidates each group of positions is scored against, with the log probabilities of drawing them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparcode.config import LossConfig
from sparcode.seeding import generator


class CandidateSampler:
    """Draws candidates for a loss: uniform, mixed with popular ones, in-batch, or all that training knows.

    Items without a training event are not drawn unless the configuration says so: they would only ever be negatives,
    and a model that knows them by their content would learn to keep them from everybody.
    """

    def __init__(self, config: LossConfig, popularity: np.ndarray, seed: int) -> None:
        self.config, self.seed, self.items = config, seed, len(popularity)
        drawn = np.ones(self.items, bool) if config.unseen_negatives else popularity > 0
        self._drawn = np.flatnonzero(drawn)
        share = popularity / max(popularity.sum(), 1)
        self._cumulative = np.cumsum(share)
        uniform = drawn / max(len(self._drawn), 1)
        mixed = (1 - config.popular_share) * uniform + config.popular_share * share
        if config.kind == "in-batch":
            mixed = np.maximum(share, 1e-12)
        self.log_probability = torch.from_numpy(np.log(np.maximum(mixed, 1e-12)).astype(np.float32))

    def draw(self, targets: Tensor, valid: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor | None]:
        """Return candidate ids (G, N) for targets (G, P), and their log probabilities (G, N) or None.

        In-batch and full candidates are one set for all groups (G = 1 in the result): positions are then
        scored as one group.
        """
        if self.config.kind == "full":
            return torch.from_numpy(self._drawn)[None], None
        if self.config.kind == "in-batch":
            ids = targets[valid][None]
        else:
            ids = self._sample(len(targets), epoch, step)
        corrected = self.config.logq and (self.config.kind == "in-batch" or self.config.popular_share > 0)
        return ids, self.log_probability[ids] if corrected else None

    def _sample(self, groups: int, epoch: int, step: int) -> Tensor:
        rng = generator(self.seed, "negatives", epoch, step)
        shape = (groups, self.config.negatives)
        ids = self._drawn[rng.integers(0, len(self._drawn), shape)]
        if self.config.popular_share > 0:
            popular = np.searchsorted(self._cumulative, rng.random(shape), side="right").clip(max=self.items - 1)
            ids = np.where(rng.random(shape) < self.config.popular_share, popular, ids)
        return torch.from_numpy(ids)
