"""Multi-interest tokenizers: K_u states a position straight from the events, no heads.

Self-attentive pooling: Lin et al. 2017 (arXiv 1703.03130) as in ComiRec-SA; capsule routing: MIND (arXiv 1904.08030)
and ComiRec-DR (arXiv 2005.09347). Both are evaluated for every prefix at once, by causally masked (L, L) weights.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.model.tokenizers.base import Tokenizer

_SQUASH_EPSILON = 1e-9


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Return (L, L) bool, True where event s (column) is not after position t (row)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class SelfAttentiveTokenizer(Tokenizer):
    """Interest k at t is ``sum_{s<=t} a_s x_s``, ``a = softmax_{s<=t}(w_k . tanh(W (x_s + p_s)))``, W (4 d, d)."""

    kind: ClassVar[str] = "self-attentive"
    interests: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, feature_width: int) -> None:
        super().__init__(config, feature_width)
        self.positions = nn.Parameter(torch.randn(config.history, config.width) * 0.02)
        self.inner = nn.Linear(config.width, 4 * config.width, bias=False)
        self.attention = nn.Linear(4 * config.width, self.heads, bias=False)

    def states(self, inputs: Tensor) -> Tensor:
        """Return (B, L, K_u, d)."""
        length = inputs.shape[1]
        x = self.dropout(inputs)
        logits = self.attention(torch.tanh(self.inner(x + self.positions[:length]))).transpose(1, 2)
        mask = causal_mask(length, inputs.device)
        # (B, K_u, t, s): softmax over the prefix subtracts the prefix maximum, so it cannot overflow.
        weights = logits.unsqueeze(2).masked_fill(~mask, float("-inf")).softmax(-1)
        return (weights @ x.unsqueeze(1)).transpose(1, 2)


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
