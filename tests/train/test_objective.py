"""The loss of a step against the same loss written out position by position."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sparcode.model.item_tokens import unit
from sparcode.model.sparcode import SparCodeModel
from sparcode.train.batches import Batch, epoch_batches
from sparcode.train.negatives import CandidateSampler
from sparcode.train.objective import Objective
from tests.worlds import random_sequences, tiny_config

ITEMS, WIDTH, FEATURES = 11, 6, 3
LOSSES = {
    "sampled": {"loss.kind": "sampled"},
    "mixed": {"loss.kind": "sampled", "loss.popular_share": 0.5},
    "full": {"loss.kind": "full"},
    "in-batch": {"loss.kind": "in-batch"},
    "bpr": {"loss.kind": "bpr"},
    "steered": {"sparsity.bias": 0.2},
}


def made(features: int = 0, **changes) -> tuple[SparCodeModel, Objective, Batch]:
    """Return a model in float64 with random scorer weights, its objective and one batch with padding."""
    torch.manual_seed(0)
    settings = {"model.width": WIDTH, "model.dropout": 0.0, "model.history": 5, "quantizer.codewords": 4}
    settings |= {"loss.negatives": 7, "model.user_features": features > 0}
    model = SparCodeModel(tiny_config(**settings | changes), ITEMS, None, features).double()
    for parameter in model.scorer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.quantizer.start(unit(torch.randn(40, WIDTH)), seed=0)
    model.quantizer.double()
    sequences = random_sequences(np.random.default_rng(0), 9, 6, ITEMS)
    sampler = CandidateSampler(model.config.loss, np.bincount(sequences.items, minlength=ITEMS), 3)
    table = torch.randn(9, features, dtype=torch.float64) if features else None
    batches = epoch_batches(sequences, 5, 256, 0, 0)
    batch = max(batches, key=lambda batch: (~batch.valid).sum())
    assert batch.valid.any()
    assert not batch.valid.all()
    return model, Objective(model, sampler, table, 0.0), batch


def total(model: SparCodeModel, tokens: torch.Tensor, item: int, quantised: bool) -> float:
    """f(q, c): sum over tokens of S, or of ReLU(S + b) for quantised tokens of a sparse model."""
    item_tokens = model.items.tokens(model.items.table()[item])
    scores = [float(model.scorer.pairs(token[None], item_tokens, torch.tensor(item))[0]) for token in tokens]
    if quantised and model.sparse:
        scores = [max(0.0, score + float(model.bias)) for score in scores]
    return sum(scores)


@torch.no_grad()
def literal(model: SparCodeModel, objective: Objective, batch: Batch, quantised: bool) -> float:
    """The mean loss over valid positions, without the commitment."""
    sampler, losses = objective.sampler, []
    valid = torch.from_numpy(batch.valid)
    groups = len(batch.items) // batch.group_rows
    shape = (groups, -1)
    targets = torch.from_numpy(batch.targets).reshape(shape)
    ids, log_q = sampler.draw(targets, valid.reshape(shape), 2, batch.number)
    for row, place in zip(*np.nonzero(batch.valid), strict=True):
        items = torch.from_numpy(batch.items[row : row + 1, : place + 1])
        tokens = model.last_tokens(model.items.table(), items, torch.tensor([place + 1]), None)[0]
        if quantised:
            tokens = model.quantizer.decode(model.quantizer.encode(tokens))
        target = int(batch.targets[row, place])
        group = 0 if len(ids) == 1 else row // batch.group_rows
        positive = total(model, tokens, target, quantised)
        others = [(total(model, tokens, int(i), quantised), int(i)) for i in ids[group] if int(i) != target]
        if log_q is not None:
            positive -= float(sampler.log_probability[target])
            others = [(score - float(sampler.log_probability[i]), i) for score, i in others]
        if sampler.config.kind == "bpr":
            losses.append(sum(math.log1p(math.exp(score - positive)) for score, _ in others) / max(len(others), 1))
        else:
            losses.append(math.log(math.exp(positive) + sum(math.exp(score) for score, _ in others)) - positive)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("loss", LOSSES)
def test_unquantised_step_equals_loops(loss):
    model, objective, batch = made(**LOSSES[loss])
    result = objective.step(batch, 2, quantised=False)
    assert result.ranking == pytest.approx(literal(model, objective, batch, False), rel=1e-5)
    assert result.loss.item() == pytest.approx(result.ranking)
    assert result.codes is None


@pytest.mark.parametrize("loss", LOSSES)
def test_quantised_step_adds_both_scores_and_the_commitment(loss):
    weights = {"loss.unquantised_weight": 0.3, "quantizer.commitment": 0.7}
    model, objective, batch = made(**LOSSES[loss] | weights)
    result = objective.step(batch, 2, quantised=True)
    ranking = literal(model, objective, batch, True)
    assert result.ranking == pytest.approx(ranking, rel=1e-5)
    with torch.no_grad():
        queries, _ = objective.queries_of(model.items.table(), batch)
        commitment = float(model.quantise(queries)[2].mean())
    wanted = ranking + 0.3 * literal(model, objective, batch, False) + 0.7 * commitment
    assert result.loss.item() == pytest.approx(wanted, rel=1e-5)
    count = int(batch.valid.sum()) * 2
    assert result.tokens.shape == (count, WIDTH)
    assert result.codes.shape == (count, 2)
    assert torch.equal(model.quantizer.encode(result.tokens), result.codes)


def test_ranking_loss_of_codes_reaches_the_tokenizer_and_not_the_codebooks():
    model, objective, batch = made(**{"loss.unquantised_weight": 0.0, "quantizer.commitment": 0.0})
    objective.step(batch, 0, quantised=True).loss.backward()
    assert sum(p.grad.abs().sum() for p in model.tokenizer.parameters() if p.grad is not None) > 0
    assert not list(model.quantizer.parameters())


def test_padding_changes_nothing():
    model, objective, batch = made()
    junk = np.where(batch.valid, batch.items, 4), np.where(batch.valid, batch.targets, 9)
    other = Batch(*junk, batch.valid, batch.users, batch.first, batch.group_rows, batch.number)
    assert objective.step(other, 0, True).loss.item() == pytest.approx(objective.step(batch, 0, True).loss.item())


def test_features_also_predict_the_first_event():
    model, objective, batch = made(FEATURES)
    tokens, targets = objective.queries_of(model.items.table(), batch)
    starts = batch.first & batch.valid[:, 0]
    assert starts.any()
    assert len(targets) == batch.valid.sum() + starts.sum()
    wanted = [*batch.items[starts, 0], *batch.targets[batch.valid]]
    assert sorted(targets.tolist()) == sorted(wanted)
    row = int(np.flatnonzero(starts)[0])
    own = model.empty_tokens(objective.features[torch.from_numpy(batch.users[row : row + 1])])
    assert (tokens - own).abs().sum(dim=(1, 2)).min() < 1e-9
    assert math.isfinite(objective.step(batch, 0, True).loss.item())


def test_history_dropout_only_in_training():
    model, objective, batch = made()
    hidden = Objective(model, objective.sampler, None, 0.9)
    plain = objective.step(batch, 0, False).loss.item()
    assert hidden.step(batch, 0, False).loss.item() != pytest.approx(plain)
    model.eval()
    assert hidden.step(batch, 0, False).loss.item() == pytest.approx(plain)
