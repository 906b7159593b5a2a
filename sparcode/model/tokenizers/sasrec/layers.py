"""SASRec (Kang and McAuley 2018, arXiv 1808.09781) with pre-norm blocks."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.errors import ConfigError
from sparcode.model.tokenizers.layers import Tokenizer

_EPSILON = 1e-5


class SasRecBlock(nn.Module):
    """``x + attention(LN(x))``, then ``x + W2 relu(W1 LN(x))`` with an inner width of 2 d."""

    def __init__(self, width: int, attention_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        self.attention_dropout = dropout
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, d) to (B, L, d), causally."""
        x = x + self.dropout(self._attention(self.norm1(x)))
        return x + self.dropout(self.outer(self.dropout(F.relu(self.inner(self.norm2(x))))))

    def _attention(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.attention_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        # Rows are right-padded: behind a causal mask padding is never seen by a valid position.
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class SasRecTokenizer(Tokenizer):
    """``x_t = sqrt(d) e_t + p_t``, t = 0 for the oldest event of the window; blocks; final LayerNorm; K_u heads."""

    kind: ClassVar[str] = "sasrec"

    def __init__(self, config: ModelConfig, feature_width: int) -> None:
        super().__init__(config, feature_width)
        attention_heads = config.attention_heads or 1
        if config.width % attention_heads:
            raise ConfigError(f"model.width {config.width} is not divisible by attention_heads {attention_heads}")
        self.attention_heads = attention_heads
        self.positions = nn.Parameter(torch.randn(config.history, config.width) * 0.02)
        self.blocks = nn.ModuleList(
            SasRecBlock(config.width, attention_heads, config.dropout or 0.0) for _ in range(config.blocks or 1)
        )
        self.norm = nn.LayerNorm(config.width, eps=_EPSILON)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def states(self, inputs: Tensor) -> Tensor:
        """Return (B, L, 1, d)."""
        x = self.dropout(inputs + self.positions[: inputs.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.norm(x).unsqueeze(2)

    def spec(self) -> dict[str, Any]:
        """Add the number of blocks and attention heads, the inner activation and the LayerNorm epsilon."""
        return super().spec() | {
            "blocks": len(self.blocks),
            "attention_heads": self.attention_heads,
            "activation": "relu",
            "epsilon": _EPSILON,
        }


TOKENIZER = SasRecTokenizer
