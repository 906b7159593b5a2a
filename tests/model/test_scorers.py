"""The all-to-all scores against the equations written out as loops (arXiv 2311.18213, section 3.2.3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sparcode.config import ScorerConfig
from sparcode.model.item_tokens import unit
from sparcode.model.scorers import HadamardScorer, Scorer, build_scorer, mixture
from sparcode.model.scorers.base import PerceptronScorer
from sparcode.model.scorers.mixture import MixtureScorer

GROUPS, POSITIONS, HEADS, CANDIDATES, ITEM_TOKENS, WIDTH, HIDDEN, ITEMS = 2, 3, 5, 7, 3, 11, 13, 17
TEMPERATURE = 0.3


def made(kind: str, item_tokens: int = ITEM_TOKENS, **options) -> Scorer:
    """Return a scorer whose every parameter is random, in float64."""
    torch.manual_seed(1)
    scorer = build_scorer(ScorerConfig(kind=kind, hidden=HIDDEN, **options), WIDTH, item_tokens, ITEMS, TEMPERATURE)
    for parameter in scorer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return scorer.double()


def inputs(item_tokens: int = ITEM_TOKENS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return tokens (G, P, K_u, d), item tokens (G, N, K_c, d) and ids (G, N)."""
    random = torch.Generator().manual_seed(2)
    tokens = torch.randn(GROUPS, POSITIONS, HEADS, WIDTH, generator=random, dtype=torch.float64)
    items = torch.randn(GROUPS, CANDIDATES, item_tokens, WIDTH, generator=random, dtype=torch.float64)
    return tokens, items, torch.randint(ITEMS, (GROUPS, CANDIDATES), generator=random)


@torch.no_grad()
def literal(scorer: Scorer, token: np.ndarray, item: np.ndarray, number: int) -> float:
    """S(t, c) of one token (d,) and the tokens (K_c, d) of item ``number``, one scalar operation at a time."""
    score = float(scorer.item_bias[number])
    if scorer.skip:
        cosine = sum(token[x] * item[j][x] for j in range(len(item)) for x in range(WIDTH))
        score += cosine / (TEMPERATURE * len(item))
    if isinstance(scorer, MixtureScorer):
        return score + literal_mixture(scorer, list(token), [value for part in item for value in part])
    if not isinstance(scorer, PerceptronScorer):
        return score
    if isinstance(scorer, HadamardScorer):
        values = [token[x] * item[j][x] for j in range(len(item)) for x in range(WIDTH)]
    else:
        values = [*token, *(item[j][x] for j in range(len(item)) for x in range(WIDTH))]
    values = [value * math.sqrt(WIDTH) for value in values]
    layers = [(scorer.first_weight, scorer.first_bias), *((layer.weight, layer.bias) for layer in scorer.middle)]
    for weight, bias in layers:
        sums = [sum(float(w) * v for w, v in zip(row, values, strict=True)) for row in weight]
        values = [max(0.0, total + float(b)) for total, b in zip(sums, bias, strict=True)]
    out = sum(float(w) * v for w, v in zip(scorer.out_weight, values, strict=True))
    return score + out + float(scorer.out_bias)


def literal_mixture(scorer: MixtureScorer, token: list[float], item: list[float]) -> float:
    """The gated sum of all logits of a token (d,) and an item's tokens in a row (K_c d,)."""

    def product(matrix: torch.Tensor, vector: list[float]) -> list[float]:
        return [sum(float(w) * v for w, v in zip(row, vector, strict=True)) for row in matrix]

    logits = []
    for query_map in scorer.query_maps:
        for item_map in scorer.item_maps:
            q, e = product(query_map, token), product(item_map, item)
            norm = math.sqrt(sum(x * x for x in q) * sum(x * x for x in e))
            logits.append(sum(x * y for x, y in zip(q, e, strict=True)) / (norm * TEMPERATURE))
    sums = zip(product(scorer.hidden_weight, logits), scorer.hidden_bias, strict=True)
    hidden = [max(0.0, total + float(bias)) for total, bias in sums]
    sides = product(scorer.query_gate, token), product(scorer.item_gate, item), product(scorer.out_weight, hidden)
    shares = [math.exp(x + y + z + float(bias)) for x, y, z, bias in zip(*sides, scorer.out_bias, strict=True)]
    mixed = sum(share * logit for share, logit in zip(shares, logits, strict=True)) / sum(shares)
    return mixed if scorer.scale is None else mixed * float(scorer.scale)


CASES = [
    ("dot", 3, {}),
    ("hadamard", 3, {}),
    ("hadamard", 1, {}),
    ("hadamard", 2, {"layers": 3}),
    ("hadamard", 3, {"skip": False}),
    ("concatenation", 3, {}),
    ("concatenation", 1, {"layers": 2, "skip": False}),
    ("mixture", 3, {"query_components": 3, "item_components": 2}),
    ("mixture", 1, {"query_components": 1, "skip": False}),
]


@pytest.mark.parametrize(("kind", "item_tokens", "options"), CASES)
def test_candidates_equal_the_equation(kind, item_tokens, options):
    scorer, (tokens, items, ids) = made(kind, item_tokens, **options), inputs(item_tokens)
    found = scorer.candidates(tokens, items, ids)
    assert found.shape == (GROUPS, POSITIONS, HEADS, CANDIDATES)
    for g, p, h, c in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 3, 5), (1, 0, 2, 1)]:
        wanted = literal(scorer, tokens[g, p, h].numpy(), items[g, c].numpy(), int(ids[g, c]))
        assert found[g, p, h, c].item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("kind", "item_tokens", "options"), CASES)
def test_pairs_are_the_diagonal_of_candidates(kind, item_tokens, options):
    scorer, (tokens, items, ids) = made(kind, item_tokens, **options), inputs(item_tokens)
    everything = scorer.candidates(tokens, items, ids)
    for c in range(CANDIDATES):
        # Candidate c as the own item of every position.
        own = items[:, c, None].expand(GROUPS, POSITIONS, item_tokens, WIDTH)
        found = scorer.pairs(tokens, own, ids[:, c, None].expand(GROUPS, POSITIONS))
        assert found.shape == (GROUPS, POSITIONS, HEADS)
        torch.testing.assert_close(found, everything[..., c])


@pytest.mark.parametrize("kind", ["hadamard", "concatenation", "mixture"])
def test_gradients_of_candidates_and_pairs_agree(kind):
    scorer, (tokens, items, ids) = made(kind), inputs()
    tokens.requires_grad_()
    items.requires_grad_()
    wanted = [tokens, items, *scorer.parameters()]
    many = torch.autograd.grad(scorer.candidates(tokens, items, ids)[:, 1, :, 4].square().sum(), wanted)
    own = items[:, 4, None]
    one = torch.autograd.grad(scorer.pairs(tokens[:, 1:2], own, ids[:, 4, None]).square().sum(), wanted)
    for left, right in zip(many, one, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("kind", ["hadamard", "concatenation", "mixture"])
def test_training_starts_at_the_cosine_model(kind):
    torch.manual_seed(0)
    config = ScorerConfig(kind=kind, hidden=HIDDEN)
    scorer, (tokens, items, ids) = build_scorer(config, WIDTH, ITEM_TOKENS, ITEMS, TEMPERATURE), inputs()
    dot = build_scorer(ScorerConfig(kind="dot"), WIDTH, ITEM_TOKENS, ITEMS, TEMPERATURE)
    tokens, items = tokens.float(), items.float()
    torch.testing.assert_close(scorer.candidates(tokens, items, ids), dot.candidates(tokens, items, ids))


def test_a_mixture_without_the_cosine_starts_near_it():
    torch.manual_seed(0)
    config = ScorerConfig(kind="mixture", hidden=HIDDEN, skip=False)
    scorer, (tokens, items, ids) = build_scorer(config, WIDTH, ITEM_TOKENS, ITEMS, TEMPERATURE), inputs()
    tokens, items = unit(tokens.float()), unit(items.float())
    mean = unit(items.mean(dim=2))
    wanted = torch.einsum("gphd,gnd->gphn", tokens, mean) / TEMPERATURE
    torch.testing.assert_close(scorer.candidates(tokens, items, ids), wanted, atol=0.1 / TEMPERATURE, rtol=0)


def test_a_mixture_does_not_depend_on_its_blocks(monkeypatch):
    scorer, arguments = made("mixture"), inputs()
    whole = scorer.candidates(*arguments)
    monkeypatch.setattr(mixture, "PAIRS", 2 * CANDIDATES)
    torch.testing.assert_close(scorer.candidates(*arguments), whole)
    with torch.no_grad():
        torch.testing.assert_close(scorer.candidates(*arguments), whole.detach())


@pytest.mark.parametrize("kind", ["hadamard", "concatenation", "mixture"])
def test_without_the_cosine_gradient_flows_from_the_start(kind):
    torch.manual_seed(0)
    scorer = build_scorer(ScorerConfig(kind=kind, hidden=HIDDEN, skip=False), WIDTH, ITEM_TOKENS, ITEMS, TEMPERATURE)
    tokens, items, ids = inputs()
    tokens = tokens.float().requires_grad_()
    scorer.candidates(tokens, items.float(), ids).sum().backward()
    assert tokens.grad.abs().sum() > 0


def test_counts_rescores_with_the_dot_product():
    assert build_scorer(ScorerConfig(kind="counts"), WIDTH, 1, ITEMS, TEMPERATURE).kind == "dot"
