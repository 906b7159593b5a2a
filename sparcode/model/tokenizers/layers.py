"""What every tokenizer shares in torch: input scaling, user features, heads, the state of an empty history, export."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sparcode.config import ModelConfig
from sparcode.errors import ConfigError
from sparcode.model.tokenizers import part_of


class Tokenizer(nn.Module):
    """Base class. A subclass turns scaled item vectors into states and says how many a position has.

    Input of every kind: ``x_t = sqrt(d) * item_vector_t``. Rows are right-padded. Output position t depends on
    events 0..t only, so every position of a training row is a query, and a served history of m events equals
    a training prefix of m events. Tokens are not normalised here.

    ``interests`` is False for kinds with one state a position, which K_u linear heads turn into tokens, and
    True for kinds that give K_u states themselves.
    """

    kind: ClassVar[str] = ""
    interests: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, feature_width: int) -> None:
        super().__init__()
        self.width = config.width
        self.heads = config.heads or 1
        self.history = config.history
        self.feature_width = feature_width
        self.dropout = nn.Dropout(config.dropout or 0.0)
        states = self.heads if self.interests else 1
        self.empty_state = nn.Parameter(torch.randn(states, self.width) * 0.02)
        self.features = nn.Linear(feature_width, self.width, bias=False) if feature_width else None
        self.head = None if self.interests else _heads(self.heads, self.width)

    def forward(self, item_vectors: Tensor, valid: Tensor, user_features: Tensor | None = None) -> Tensor:
        """Return tokens (B, L, K_u, d) from ``item_vectors`` (B, L, d), ``valid`` (B, L) bool, features (B, F).

        L is at most the configured history. Tokens at padding positions are finite and meaningless.
        """
        if item_vectors.shape[1] > self.history:
            raise ConfigError(f"rows of {item_vectors.shape[1]} events, but model.history is {self.history}")
        inputs = (item_vectors * math.sqrt(self.width)).masked_fill(~valid.unsqueeze(-1), 0.0)
        return self._finish(self.states(inputs), user_features)

    def empty(self, user_features: Tensor | None = None) -> Tensor:
        """Return the tokens (B, K_u, d) of queries without history; B = 1 when there are no features."""
        rows = 1 if user_features is None else len(user_features)
        states = self.empty_state.expand(rows, 1, *self.empty_state.shape)
        return self._finish(states, user_features)[:, 0]

    def states(self, inputs: Tensor) -> Tensor:
        """Return states (B, L, S, d) of scaled inputs (B, L, d), S = K_u for interests, else 1."""
        raise NotImplementedError

    def _finish(self, states: Tensor, user_features: Tensor | None) -> Tensor:
        if self.features is not None and user_features is not None:
            states = states + self.features(user_features)[:, None, None, :]
        if self.head is None:
            return states
        return self.head(states[:, :, 0]).unflatten(-1, (self.heads, self.width))

    def spec(self) -> dict[str, Any]:
        """Return what the served encoder must know besides arrays (JSON)."""
        return {
            "kind": self.kind,
            "width": self.width,
            "heads": self.heads,
            "history": self.history,
            "feature_width": self.feature_width,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every parameter and buffer as float32, named ``tokenizer.<torch name>``."""
        state = self.state_dict()
        return {f"tokenizer.{name}": value.detach().float().cpu().numpy().copy() for name, value in state.items()}


def _heads(heads: int, width: int) -> nn.Linear:
    # Head 0 starts as the identity, the others as random rotations: lengths stay, tokens differ from the start.
    linear = nn.Linear(width, heads * width)
    with torch.no_grad():
        linear.bias.zero_()
        linear.weight[:width] = torch.eye(width)
        for head in range(1, heads):
            nn.init.orthogonal_(linear.weight[head * width : (head + 1) * width])
    return linear


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Return (L, L) bool, True where event s (column) is not after position t (row)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def build_tokenizer(config: ModelConfig, item_count: int, feature_width: int) -> Tokenizer:
    """Return the tokenizer ``config.tokenizer`` names, freshly initialised from torch's global generator.

    ``feature_width``: F, columns of the user features; ignored unless ``config.user_features``.
    Raises ConfigError when the item count is not positive or the width does not suit the attention heads.
    """
    if item_count < 1:
        raise ConfigError(f"a tokenizer needs at least one item, got {item_count}")
    kind: type[Tokenizer] = part_of(config.tokenizer, "layers").TOKENIZER
    return kind(config, feature_width if config.user_features else 0)
