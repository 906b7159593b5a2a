"""Steering the bias b~ so that a target share of (code, item) pairs keeps a positive score."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparcode.model.sparcode import SparCodeModel


class DensitySteering:
    """Sets b~ = -(quantile of S over codes x items), where codes count once each, however often queries use them.

    The index stores each occupied code once, so its density is an average over *distinct* codes; steering by the
    batch as it comes would weight codes by traffic and miss the target.
    """

    def __init__(self, model: SparCodeModel, percent: float, seed: int, momentum: float = 0.9) -> None:
        self.model, self.share, self.momentum = model, percent / 100.0, momentum
        self.rng = np.random.default_rng(seed)

    def nudge(self, codes: Tensor) -> None:
        """Move b~ towards the target, measured on a few distinct codes (X, M) of the current step."""
        wanted = self._wanted(codes, most_codes=64, most_items=2048)
        self.model.bias.mul_(self.momentum).add_(wanted * (1 - self.momentum))

    def settle(self, codes: Tensor) -> None:
        """Set b~ from a large sample of the distinct codes (X, M) of an epoch, so that a checkpoint is on target."""
        self.model.bias.fill_(self._wanted(codes, most_codes=512, most_items=8192))

    @torch.no_grad()
    def _wanted(self, codes: Tensor, most_codes: int, most_items: int) -> float:
        model = self.model
        assert model.quantizer is not None
        codes = torch.unique(codes, dim=0)
        codes = codes[self._some(len(codes), most_codes)]
        ids = self._some(model.item_count, most_items)[None].to(codes.device)
        was_training = model.training
        model.eval()  # item-id dropout would blur the quantile
        items = model.items.tokens(model.items.table()[ids])
        tokens = model.quantizer.decode(codes)[None, :, None, :]
        scores = torch.cat([model.scorer.candidates(part, items, ids).flatten() for part in tokens.split(64, dim=1)])
        model.train(was_training)
        kept = max(1, round(self.share * scores.numel()))
        return -float(scores.kthvalue(max(1, scores.numel() - kept)).values)

    def _some(self, count: int, most: int) -> Tensor:
        if count <= most:
            return torch.arange(count)
        return torch.from_numpy(np.sort(self.rng.choice(count, most, replace=False)))
