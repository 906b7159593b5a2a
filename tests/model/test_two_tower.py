"""The two-tower is a plain inner product of unit vectors."""

from __future__ import annotations

import numpy as np
import torch

from sparcode.model.two_tower import TwoTowerModel
from tests.worlds import tiny_config


def test_score_is_the_cosine_over_the_temperature():
    torch.manual_seed(0)
    config = tiny_config(**{"model.item_tokens": 3, "model.temperature": 0.2, "sparsity.target_density": 5.0})
    model = TwoTowerModel(config, 11, None, 0).eval()
    table = model.items.table()
    tokens = model.last_tokens(table, torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]), None)
    assert tokens.shape == (2, 1, 16)
    vectors = (table / table.norm(dim=1, keepdim=True)).detach().numpy()
    wanted = tokens[:, 0].detach().numpy() @ vectors.T / 0.2
    np.testing.assert_allclose(model.score_all(table, tokens).numpy(), wanted, atol=1e-5)


def test_it_has_no_codes_no_interaction_and_no_learned_bias():
    model = TwoTowerModel(tiny_config(), 11, None, 0)
    assert model.quantizer is None
    assert model.scorer.kind == "dot"
    assert not model.scorer.item_bias.requires_grad
    assert not model.sparse
    assert not [name for name in model.state_dict() if "quantizer" in name]
