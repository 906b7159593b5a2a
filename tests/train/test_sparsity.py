"""The steered bias keeps the wanted share of (distinct code, item) pairs."""

from __future__ import annotations

import pytest
import torch

from sparcode.model.item_tokens import unit
from sparcode.model.sparcode import SparCodeModel
from sparcode.train.sparsity import DensitySteering
from tests.worlds import tiny_config

ITEMS = 211


def made(percent: float) -> tuple[SparCodeModel, torch.Tensor]:
    """Return a model and the codes (X, M) of its training queries, some far more frequent than others."""
    torch.manual_seed(0)
    model = SparCodeModel(tiny_config(**{"sparsity.target_density": percent}), ITEMS, None, 0)
    for parameter in model.scorer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.quantizer.start(unit(torch.randn(200, 16)), seed=0)
    codes = model.quantizer.encode(unit(torch.randn(150, 16)))
    return model, torch.cat([codes, codes[:3].repeat(500, 1)])


@torch.no_grad()
def density(model: SparCodeModel, codes: torch.Tensor) -> float:
    """Percent of pairs of a distinct code and an item whose S + b is positive, one code at a time."""
    model.eval()
    kept, distinct = 0, sorted({tuple(code) for code in codes.tolist()})
    item_tokens = model.items.tokens(model.items.table())
    for code in distinct:
        token = model.quantizer.decode(torch.tensor([code]))
        scores = model.scorer.pairs(token.expand(ITEMS, 1, 16), item_tokens, torch.arange(ITEMS))
        kept += int((scores + model.bias > 0).sum())
    return 100 * kept / (len(distinct) * ITEMS)


@pytest.mark.parametrize("percent", [0.5, 1.0, 5.0, 60.0])
def test_settle_lands_on_the_target(percent):
    model, codes = made(percent)
    DensitySteering(model, percent, seed=0).settle(codes)
    assert density(model, codes) == pytest.approx(percent, rel=0.05)


def test_nudges_approach_the_target():
    model, codes = made(5.0)
    steering = DensitySteering(model, 5.0, seed=0)
    for _ in range(60):
        steering.nudge(codes)
    assert density(model, codes) == pytest.approx(5.0, rel=0.25)


def test_a_tiny_world_does_not_break_it():
    model, codes = made(99.9)
    steering = DensitySteering(model, 99.9999, seed=0)
    steering.settle(codes[:1])
    assert torch.isfinite(model.bias)


def test_steering_leaves_the_mode_alone():
    model, codes = made(5.0)
    steering = DensitySteering(model, 5.0, seed=0)
    for mode in (True, False):
        model.train(mode)
        steering.nudge(codes)
        assert model.training is mode
