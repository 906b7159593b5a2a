"""Self-attentive pooling: Lin et al. 2017 (arXiv 1703.03130) as in ComiRec-SA: K_u states a position, no heads.

It is evaluated for every prefix at once, by causally masked (L, L) weights.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.model.tokenizers.layers import Tokenizer, causal_mask


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


TOKENIZER = SelfAttentiveTokenizer
