"""The additive model: what the ``item`` code family stores, trained by the same loss as every other model.

    h_t = sum over the events x_j of a history of w(age_j) v_{x_j},    v_i = a_i + A e_i
    f(q, c) = h_t . e_c / (|h_t| tau)

``e_i`` is the item vector (id embedding plus content) by which an item is predicted, ``v_i`` the one by which it
predicts. Numerator and lists are linear in the history, so item -> item scores v_i . e_c can be stored once and added
up at query time without any loss but that of cutting the lists.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparcode.config import Config, updated
from sparcode.data.features import Features
from sparcode.model.item_tokens import unit
from sparcode.model.two_tower import TwoTowerModel

FIRST_DECAY = 0.7
"""The age weights start at FIRST_DECAY^age, where counted transitions do best."""
LEAST_WEIGHT = 0.05


class AdditiveModel(TwoTowerModel):
    """A two-tower without attention: its query vector is a weighted sum over the last ``model.history`` items."""

    def __init__(self, config: Config, item_count: int, item_features: Features | None, feature_width: int = 0) -> None:
        # The parent's tokenizer and quantizer are not used: the smallest kinds keep them from costing anything.
        unused = {"model.tokenizer": "dnn", "quantizer.books": 1, "quantizer.codewords": 2}
        super().__init__(updated(config, unused), item_count, item_features, 0)
        del self.tokenizer
        width, history = config.model.width, config.model.history
        self.sources = nn.Parameter(torch.randn(item_count, width) * 0.02) if config.model.item_ids else None
        self.source_map = nn.Parameter(torch.eye(width))
        ages = torch.arange(history, dtype=torch.float32)
        self.log_weights = nn.Parameter((FIRST_DECAY**ages).clamp_min(LEAST_WEIGHT).log())
        self.dropout = nn.Dropout(config.model.dropout or 0.0)

    def source_vectors(self, table: Tensor) -> Tensor:
        """Return v (n, d) of all items from their vectors ``table`` (n, d)."""
        own, mapped = self._own_sources(), table @ self.source_map
        return mapped if own is None else own + mapped

    def _own_sources(self) -> Tensor | None:
        if self.sources is None or not self.items.some_unseen:
            return self.sources
        return self.sources * self.items.known

    def age_weights(self) -> Tensor:
        """Return w (history,), the weight of the event of age 0, 1, ...; positive."""
        return self.log_weights.exp()

    def query_tokens(
        self, table: Tensor, items: Tensor, valid: Tensor, features: Tensor | None, kept: Tensor | None = None
    ) -> Tensor:
        """Return unit tokens (R, L, 1, d): the sum over events 0..t of rows (R, L), padded on the right."""
        vectors = nn.functional.embedding(items, table) @ self.source_map
        own = self._own_sources()
        if own is not None:
            vectors = nn.functional.embedding(items, own) + vectors
        mask = valid if kept is None else valid & kept
        vectors = self.dropout(vectors) * mask[..., None]
        return unit(self._mixing(items.shape[1]) @ vectors)[:, :, None]

    def _mixing(self, length: int) -> Tensor:
        """Return the lower triangular (L, L) matrix whose entry (t, s) is w(t - s)."""
        place = torch.arange(length, device=self.log_weights.device)
        age = place[:, None] - place
        return torch.where(age >= 0, self.age_weights()[age.clamp_min(0)], 0.0)
