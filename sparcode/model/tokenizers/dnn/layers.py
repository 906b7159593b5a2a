"""Mean-pooled DNN (Covington et al. 2016): the mean of the events so far through two ReLU layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.model.tokenizers.layers import Tokenizer


class DnnTokenizer(Tokenizer):
    """``W2 relu(W1 relu(W0 mean(x_0..x_t)))`` with biases and hidden width 2 d; K_u heads."""

    kind: ClassVar[str] = "dnn"

    def __init__(self, config: ModelConfig, feature_width: int) -> None:
        super().__init__(config, feature_width)
        width = config.width
        self.layers = nn.ModuleList(
            [nn.Linear(width, 2 * width), nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, width)]
        )

    def states(self, inputs: Tensor) -> Tensor:
        """Return (B, L, 1, d)."""
        length = inputs.shape[1]
        count = torch.arange(1, length + 1, device=inputs.device, dtype=inputs.dtype)
        x = self.dropout(inputs.cumsum(1) / count[:, None])
        for layer in self.layers[:-1]:
            x = self.dropout(torch.relu(layer(x)))
        return self.layers[-1](x).unsqueeze(2)


TOKENIZER = DnnTokenizer
