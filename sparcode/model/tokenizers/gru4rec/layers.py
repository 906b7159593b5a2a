"""GRU4Rec (Hidasi et al. 2016, arXiv 1511.06939): the state is the last hidden vector of a GRU."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.model.tokenizers.layers import Tokenizer


class Gru4RecTokenizer(Tokenizer):
    """``blocks`` GRU layers of width d over the scaled item vectors, started from zeros; K_u heads."""

    kind: ClassVar[str] = "gru4rec"

    def __init__(self, config: ModelConfig, feature_width: int) -> None:
        super().__init__(config, feature_width)
        blocks = config.blocks or 1
        between = (config.dropout or 0.0) if blocks > 1 else 0.0
        self.gru = nn.GRU(config.width, config.width, blocks, batch_first=True, dropout=between)

    def states(self, inputs: Tensor) -> Tensor:
        """Return (B, L, 1, d)."""
        hidden, _ = self.gru(self.dropout(inputs))
        return self.dropout(hidden).unsqueeze(2)

    def spec(self) -> dict[str, Any]:
        """Add the number of layers."""
        return super().spec() | {"blocks": self.gru.num_layers}


TOKENIZER = Gru4RecTokenizer
