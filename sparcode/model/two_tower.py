"""The two-tower baseline: the same tokenizer and item tokens, one query vector, cosine / temperature, no codes."""

from __future__ import annotations

from sparcode.config import Config, updated
from sparcode.data.features import Features
from sparcode.model.sparcode import SparCodeModel


class TwoTowerModel(SparCodeModel):
    """Score = (unit query vector . unit item vector) / temperature; searched exactly or by HNSW.

    One vector on each side (K_u = K_c = 1) and no item bias, so that the score is a plain inner product and
    every dense index answers it.
    """

    def __init__(self, config: Config, item_count: int, item_features: Features | None, feature_width: int) -> None:
        single = {"model.heads": 1, "model.item_tokens": 1, "scorer.kind": "dot"}
        config = updated(config, single | {"sparsity.target_density": None, "sparsity.bias": None})
        super().__init__(config, item_count, item_features, feature_width)
        self.quantizer = None
        self.scorer.item_bias.requires_grad_(False)
