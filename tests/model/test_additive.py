"""The additive model against a loop over events and ages, in torch and from its exported arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparcode.data.features import FeatureLayout, Features
from sparcode.index.arrays import read_arrays
from sparcode.model.additive import FIRST_DECAY, LEAST_WEIGHT, AdditiveModel
from sparcode.query.encoder.additive import AdditiveEncoder
from sparcode.train.export import export_additive
from tests.worlds import queries_of, tiny_config

ITEMS, WIDTH, HISTORY = 7, 6, 6
ROWS = [[0, 1, 2, 3, 4, 5], [6, 6, 1], [3], [2, 2, 2, 2]]


def content() -> Features:
    """Return categories (item 2 has none) and two numbers of seven items."""
    bags = [[0, 2], [1], [], [3], [0, 1, 2], [2], [3]]
    numbers = np.random.default_rng(0).normal(size=(ITEMS, 2)).astype(np.float32)
    layout = FeatureLayout(["genre=a", "genre=b", "genre=c", "genre=d"])
    indptr = np.cumsum([0, *map(len, bags)]).astype(np.int64)
    return Features(layout, indptr, np.array(sum(bags, []), np.int32), numbers, None)


def made(with_content: bool = False, **changes) -> AdditiveModel:
    """Return a model in evaluation mode whose parameters are random."""
    torch.manual_seed(0)
    options = {"model.width": WIDTH, "model.history": HISTORY, "model.item_content": with_content}
    model = AdditiveModel(tiny_config(**options | changes), ITEMS, content() if with_content else None)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.7)
            assert parameter.grad is None, name
    return model.eval()


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return items (R, L), padded on the right, and which are valid."""
    items, valid = torch.zeros(len(rows), HISTORY, dtype=torch.long), torch.zeros(len(rows), HISTORY, dtype=torch.bool)
    for row, history in enumerate(rows):
        items[row, : len(history)], valid[row, : len(history)] = torch.tensor(history), True
    return items, valid


def slow_sum(model: AdditiveModel, history: list[int], kept: list[bool]) -> np.ndarray:
    """Return the unit vector of a history, event by event and age by age, float64."""
    table = model.items.table().detach().numpy().astype(np.float64)
    sources, mapped = model.sources.detach().numpy(), model.source_map.detach().numpy()
    total = np.zeros(WIDTH)
    for place, item in enumerate(history):
        if not kept[place]:
            continue
        weight = np.exp(model.log_weights.detach().numpy()[len(history) - 1 - place])
        for column in range(WIDTH):
            vector = sources[item, column]
            for row in range(WIDTH):
                vector += table[item, row] * mapped[row, column]
            total[column] += weight * vector
    return total / max(np.linalg.norm(total), 1e-8)


@pytest.mark.parametrize("with_content", [False, True])
@pytest.mark.parametrize("hiding", [False, True])
@torch.no_grad()
def test_tokens_equal_a_loop_over_events_and_ages(with_content: bool, hiding: bool):
    model = made(with_content)
    items, valid = padded(ROWS)
    kept = torch.rand(items.shape, generator=torch.Generator().manual_seed(1)) < 0.6 if hiding else None
    tokens = model.query_tokens(model.items.table(), items, valid, None, kept)
    assert tokens.shape == (len(ROWS), HISTORY, 1, WIDTH)
    assert torch.isfinite(tokens).all(), "also where nothing is valid"
    for row, history in enumerate(ROWS):
        for place in range(len(history)):
            shown = [True] * HISTORY if kept is None else kept[row].tolist()
            wanted = slow_sum(model, history[: place + 1], shown)
            np.testing.assert_allclose(tokens[row, place, 0], wanted, atol=1e-5)


@torch.no_grad()
def test_padding_never_reaches_a_token():
    model = made()
    items, valid = padded(ROWS)
    tokens = model.query_tokens(model.items.table(), items, valid, None)
    other = torch.where(valid, items, torch.tensor(5))
    again = model.query_tokens(model.items.table(), other, valid, None)
    assert torch.equal(tokens[valid], again[valid])


def test_age_weights_start_as_decay_and_stay_positive():
    torch.manual_seed(0)
    model = AdditiveModel(tiny_config(**{"model.history": 30}), ITEMS, None)
    wanted = [max(FIRST_DECAY**age, LEAST_WEIGHT) for age in range(30)]
    np.testing.assert_allclose(model.age_weights().detach(), wanted, rtol=1e-5)
    with torch.no_grad():
        model.log_weights.copy_(torch.linspace(-40, 10, 30))
    assert (model.age_weights() > 0).all()


def test_everything_it_learns_gets_a_gradient():
    model = made(True).train()
    items, valid = padded(ROWS)
    tokens = model.query_tokens(model.items.table(), items, valid, None)
    (tokens * torch.randn(WIDTH)).sum().backward()
    for name in ("sources", "source_map", "log_weights", "items.embedding", "items.content.categories"):
        assert model.get_parameter(name).grad.abs().sum() > 0, name
    assert not hasattr(model, "tokenizer")
    assert model.quantizer is None
    assert not model.scorer.item_bias.requires_grad


def test_its_width_is_not_bound_to_the_codebooks():
    assert made(**{"model.width": 9, "quantizer.books": 2, "model.attention_heads": 4}).sources.shape == (ITEMS, 9)


def test_dropout_is_for_training_only():
    model = made(**{"model.dropout": 0.5})
    items, valid = padded(ROWS)
    table = model.items.table().detach()
    once, twice = (model.query_tokens(table, items, valid, None) for _ in range(2))
    assert torch.equal(once, twice)
    model.train()
    assert not torch.equal(model.query_tokens(table, items, valid, None), once)


@pytest.mark.parametrize("with_content", [False, True])
@torch.no_grad()
def test_exported_arrays_reproduce_the_score(with_content: bool, tmp_path: Path):
    model = made(with_content, **{"model.temperature": 0.2})
    export_additive(model, tmp_path)
    arrays = read_arrays(tmp_path / "additive.safetensors")
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(
        ("sources", "targets", "age_weights"), np.dtype(np.float32)
    )
    np.testing.assert_allclose(np.linalg.norm(arrays["targets"], axis=1), 1, atol=1e-6)
    assert (arrays["age_weights"] > 0).all()
    histories = [*ROWS, [4, 3, 2, 1, 0, 1, 2, 3, 4]]  # the last is longer than what is read
    items, valid = padded([history[-HISTORY:] for history in histories])
    table = model.items.table()
    tokens = model.last_tokens(table, items, valid.sum(dim=1), None)
    wanted = model.score_all(table, tokens).numpy()
    encoder = AdditiveEncoder.open(tmp_path)
    assert (encoder.temperature, encoder.history) == (pytest.approx(0.2), HISTORY)
    served = encoder.tokens(queries_of(histories))[:, 0] @ arrays["targets"].T / encoder.temperature
    np.testing.assert_allclose(served, wanted, atol=1e-4)
    for row, history in enumerate(histories):
        # Linear in the events: the scores are a weighted sum of item -> item scores, up to one number a query.
        parts, length = np.zeros(ITEMS), np.zeros(WIDTH)
        for age, item in enumerate(history[::-1][:HISTORY]):
            weight = float(arrays["age_weights"][age])
            length += weight * arrays["sources"][item].astype(np.float64)
            for target in range(ITEMS):
                parts[target] += weight * float(arrays["sources"][item] @ arrays["targets"][target]) / 0.2
        np.testing.assert_allclose(parts / np.linalg.norm(length), wanted[row], atol=1e-4)
