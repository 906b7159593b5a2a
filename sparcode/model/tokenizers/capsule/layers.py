"""Capsule routing: MIND (arXiv 1904.08030) and ComiRec-DR (arXiv 2005.09347): K_u states a position, no heads.

It is evaluated for every prefix at once, by causally masked (L, L) weights.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.model.tokenizers.layers import Tokenizer, causal_mask

_SQUASH_EPSILON = 1e-9


class CapsuleTokenizer(Tokenizer):
    """Dynamic routing of ``u_s = S x_s`` into K_u capsules, anew for every prefix.

    ``routing_iterations`` times: ``w_ks = softmax_k(b_ks)``, ``v_k = squash(sum_{s<=t} w_ks u_s)``,
    ``b_ks += v_k . u_s``. The initial b depends on interest and position only and is stored, so that the
    tokens of a history are always the same. Gradients flow through the last iteration alone, as in ComiRec.
    """

    kind: ClassVar[str] = "capsule"
    interests: ClassVar[bool] = True
    routing: Tensor

    def __init__(self, config: ModelConfig, feature_width: int) -> None:
        super().__init__(config, feature_width)
        self.iterations = config.routing_iterations
        self.bilinear = nn.Linear(config.width, config.width, bias=False)
        own = torch.Generator().manual_seed(0)
        self.register_buffer("routing", torch.randn(self.heads, config.history, generator=own))

    def states(self, inputs: Tensor) -> Tensor:
        """Return (B, L, K_u, d)."""
        length = inputs.shape[1]
        capsules = self.bilinear(self.dropout(inputs))
        mask = causal_mask(length, inputs.device)[:, None, :]
        logits = self.routing[None, None, :, :length]
        with torch.no_grad():
            for _ in range(self.iterations - 1):
                agreement = self._route(logits, mask, capsules) @ capsules.unsqueeze(1).transpose(2, 3)
                logits = logits + agreement
        return self._route(logits, mask, capsules)

    @staticmethod
    def _route(logits: Tensor, mask: Tensor, capsules: Tensor) -> Tensor:
        # logits (B or 1, t, K_u, s) -> squashed capsules (B, t, K_u, d)
        weights = logits.softmax(2).masked_fill(~mask, 0.0)
        return squash(weights @ capsules.unsqueeze(1))

    def spec(self) -> dict[str, Any]:
        """Add the number of routing iterations."""
        return super().spec() | {"iterations": self.iterations}


def squash(x: Tensor) -> Tensor:
    """Return ``|x|^2 / (1 + |x|^2) * x / |x|`` over the last axis."""
    square = x.square().sum(-1, keepdim=True)
    return x * (square / (1.0 + square) / (square + _SQUASH_EPSILON).sqrt())


TOKENIZER = CapsuleTokenizer
