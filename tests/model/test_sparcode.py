"""The whole model against its equation f(q, c) = sum_i ReLU(S(T~_i, c) + b)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparcode.model.item_tokens import unit
from sparcode.model.sparcode import SparCodeModel
from tests.worlds import tiny_config

ITEMS, HEADS, WIDTH, ROWS, LENGTH = 13, 3, 10, 5, 7


def made(**changes) -> SparCodeModel:
    """Return a model in evaluation mode with random scorer weights and fitted codebooks."""
    torch.manual_seed(0)
    settings = {"model.width": WIDTH, "model.heads": HEADS, "model.item_tokens": 2, "quantizer.codewords": 5}
    model = SparCodeModel(tiny_config(**settings | changes), ITEMS, None, 0).eval()
    for parameter in model.scorer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.quantizer.start(unit(torch.randn(50, WIDTH)), seed=0)
    return model


def histories() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return items (R, L), valid (R, L) and lengths (R,)."""
    random = torch.Generator().manual_seed(1)
    items = torch.randint(ITEMS, (ROWS, LENGTH), generator=random)
    lengths = torch.tensor([7, 1, 3, 5, 2])
    return items, torch.arange(LENGTH) < lengths[:, None], lengths


@pytest.mark.parametrize("bias", [None, -0.7, 0.4])
def test_score_all_is_the_equation(bias):
    model = made(**{"sparsity.bias": bias})
    items, _, lengths = histories()
    table = model.items.table()
    tokens = model.last_tokens(table, items, lengths, None)
    unquantised = model.score_all(table, tokens)
    indexed = model.score_all(table, tokens, quantised=True)
    assert unquantised.shape == indexed.shape == (ROWS, ITEMS)
    item_tokens = model.items.tokens(table)
    for row, item in np.ndindex(ROWS, ITEMS):
        words = model.quantizer.decode(model.quantizer.encode(tokens[row]))
        plain = cached = 0.0
        for head in range(HEADS):
            score = [
                float(model.scorer.pairs(token[None], item_tokens[item], torch.tensor(item))[0].detach())
                for token in (tokens[row, head], words[head])
            ]
            plain += score[0]
            cached += score[1] if bias is None else max(0.0, score[1] + bias)
        assert unquantised[row, item].item() == pytest.approx(plain, abs=1e-4)
        assert indexed[row, item].item() == pytest.approx(cached, abs=1e-4)


def test_activation_is_relu_of_score_plus_bias():
    scores = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0])
    assert torch.equal(made(**{"sparsity.bias": 1.0}).activation(scores), torch.tensor([0.0, 0.5, 1.0, 1.5, 4.0]))
    steered = made(**{"sparsity.target_density": 5.0})
    steered.bias.fill_(-1.0)
    assert torch.equal(steered.activation(scores), torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0]))
    assert torch.equal(made().activation(scores), scores)


def test_the_bias_is_steered_not_learned():
    assert "bias" in dict(made().named_buffers())
    assert "bias" not in dict(made().named_parameters())


def test_tokenizer_learns_through_the_codebooks_and_they_do_not():
    model = made()
    items, valid, _ = histories()
    table = model.items.table()
    tokens = model.query_tokens(table, items, valid, None)
    values, codes, errors = model.quantise(tokens)
    assert values.shape == tokens.shape == (ROWS, LENGTH, HEADS, WIDTH)
    assert codes.shape == (ROWS, LENGTH, HEADS, 2)
    assert errors.shape == (ROWS, LENGTH, HEADS)
    before = model.quantizer.codebooks().clone()
    ids = torch.arange(ITEMS)[None].expand(ROWS, ITEMS)
    model.scorer.candidates(values, model.items.tokens(table)[ids], ids).square().sum().backward()
    assert sum(p.grad.abs().sum() for p in model.tokenizer.parameters() if p.grad is not None) > 0
    assert all(buffer.grad is None for buffer in model.quantizer.buffers())
    assert torch.equal(before, model.quantizer.codebooks())


def test_tokens_have_length_one_and_look_only_back():
    model = made()
    items, valid, lengths = histories()
    table = model.items.table()
    tokens = model.query_tokens(table, items, valid, None).detach()
    np.testing.assert_allclose(tokens[valid].norm(dim=-1).numpy(), 1.0, atol=1e-5)
    last = model.last_tokens(table, items, lengths, None).detach()
    for row in range(ROWS):
        short = model.last_tokens(table, items[row : row + 1, : lengths[row]], lengths[row : row + 1], None)
        torch.testing.assert_close(last[row], short[0].detach())
        torch.testing.assert_close(last[row], tokens[row, lengths[row] - 1])


def test_hidden_events_count_as_zero_vectors():
    model = made()
    items, valid, _ = histories()
    kept = torch.zeros_like(valid)
    found = model.query_tokens(model.items.table(), items, valid, None, kept)
    zero = model.query_tokens(torch.zeros(ITEMS, WIDTH), items, valid, None)
    torch.testing.assert_close(found, zero)


def test_features_without_history_give_tokens():
    torch.manual_seed(0)
    config = tiny_config(**{"model.user_features": True})
    model = SparCodeModel(config, ITEMS, None, 4).eval()
    found = model.empty_tokens(torch.randn(3, 4))
    assert found.shape == (3, 2, 16)
    np.testing.assert_allclose(found.detach().norm(dim=-1).numpy(), 1.0, atol=1e-5)
    assert not torch.allclose(found[0], found[1])
