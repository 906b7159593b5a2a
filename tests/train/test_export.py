"""What leaves torch answers as torch does: tokens, codes, scores, traffic."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from sparcode.index.arrays import read_arrays
from sparcode.model.item_tokens import unit
from sparcode.model.sparcode import SparCodeModel
from sparcode.model.two_tower import TwoTowerModel
from sparcode.query.encoder.encoder import Encoder
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.train.export import (
    encoder_arrays,
    export_codes,
    export_sparcode,
    export_two_tower,
    rescorer_arrays,
    with_end,
)
from sparcode.train.negatives import CandidateSampler
from sparcode.train.objective import Objective
from sparcode.train.validation import pad_histories
from tests.worlds import queries_of, random_sequences, sequences_of, tiny_config

ITEMS, FEATURES = 19, 3


def made(kind=SparCodeModel, features: int = 0, **changes):
    """Return a model whose trained scorer parameters and item embeddings are random."""
    torch.manual_seed(0)
    config = tiny_config(**{"model.user_features": features > 0, "model.item_tokens": 2} | changes)
    model = kind(config, ITEMS, None, features)
    for parameter in [*model.scorer.parameters(), model.items.embedding]:
        if parameter.requires_grad:  # the two-tower keeps its item bias at zero
            torch.nn.init.normal_(parameter, std=0.5)
    if model.quantizer is not None:
        model.quantizer.start(unit(torch.randn(100, config.model.width)), seed=0)
    return model.eval()


def histories(rows: int = 40) -> list[list[int]]:
    """Return histories of 1 to 12 items: longer ones than the model reads (8), and repeats."""
    random = np.random.default_rng(0)
    return [random.integers(0, ITEMS, random.integers(1, 13)).tolist() for _ in range(rows)]


@torch.no_grad()
def torch_tokens(model: SparCodeModel, rows: list[list[int]], features: np.ndarray | None) -> torch.Tensor:
    """Return the model's tokens (B, K_u, d)."""
    items, lengths = pad_histories([np.array(row) for row in rows], model.config.model.history)
    given = None if features is None else torch.from_numpy(features)
    return model.last_tokens(model.items.table(), items, lengths, given)


CASES = {
    "sasrec": {},
    "residual": {"quantizer.kind": "residual", "model.heads": 1},
    "gru4rec": {"model.tokenizer": "gru4rec", "model.blocks": 2},
    "dnn": {"model.tokenizer": "dnn", "quantizer.books": 4},
    "self-attentive": {"model.tokenizer": "self-attentive", "quantizer.books": 1},
    "capsule": {"model.tokenizer": "capsule"},
}


@pytest.mark.parametrize("features", [0, FEATURES])
@pytest.mark.parametrize("case", CASES)
def test_tokens_and_codes_equal_torch(case, features):
    model, rows = made(features=features, **CASES[case]), histories()
    given = np.random.default_rng(1).normal(size=(len(rows), features)).astype(np.float32) if features else None
    encoder = Encoder(*encoder_arrays(model))
    wanted = torch_tokens(model, rows, given)
    tokens = encoder.tokens(queries_of(rows, given))
    np.testing.assert_allclose(tokens, wanted.numpy(), atol=1e-5)
    codes = encoder.codes(tokens)[0][:, :, 0]
    np.testing.assert_array_equal(codes, model.quantise(wanted)[1].numpy())


def test_features_alone_equal_torch():
    model = made(features=FEATURES)
    given = np.random.default_rng(1).normal(size=(5, FEATURES)).astype(np.float32)
    tokens = Encoder(*encoder_arrays(model)).tokens(queries_of([[]] * 5, given))
    np.testing.assert_allclose(tokens, model.empty_tokens(torch.from_numpy(given)).detach().numpy(), atol=1e-5)


SCORERS = {
    "hadamard": {},
    "two layers": {"scorer.layers": 2},
    "no cosine": {"scorer.skip": False},
    "concatenation": {"scorer.kind": "concatenation", "scorer.layers": 2},
    "dot": {"scorer.kind": "dot"},
    "counts": {"scorer.kind": "counts"},
    "steered": {"sparsity.target_density": 5.0},
}


@pytest.mark.parametrize("item_tokens", [1, 3])
@pytest.mark.parametrize("case", SCORERS)
def test_scores_equal_torch(case, item_tokens):
    model = made(**SCORERS[case] | {"model.item_tokens": item_tokens})
    rescorer = Rescorer(*rescorer_arrays(model))
    tokens = torch_tokens(model, histories(7), None)
    wanted = model.score_all(model.items.table(), tokens).numpy()
    np.testing.assert_allclose(rescorer.score_all(tokens.numpy()), wanted, atol=1e-4, rtol=1e-5)
    for row in range(7):
        found = rescorer.score(tokens[row].numpy(), np.arange(ITEMS, dtype=np.int32))
        np.testing.assert_allclose(found, wanted[row], atol=1e-4, rtol=1e-5)


def test_the_specs_say_what_the_lists_need():
    steered = made(**SCORERS["steered"])
    steered.bias.fill_(-0.25)
    assert rescorer_arrays(steered)[0]["bias"] == -0.25
    assert rescorer_arrays(made())[0]["bias"] is None
    assert rescorer_arrays(made(**SCORERS["counts"]))[0]["lists"] == "counts"
    assert rescorer_arrays(made(**SCORERS["counts"]))[0]["kind"] == "dot"
    json.dumps([encoder_arrays(steered)[0], rescorer_arrays(steered)[0]])


def test_files_open_as_they_were_written(tmp_path: Path):
    model = made()
    export_sparcode(model, tmp_path)
    rows = histories(5)
    tokens = Encoder.open(tmp_path).tokens(queries_of(rows))
    np.testing.assert_allclose(tokens, torch_tokens(model, rows, None).numpy(), atol=1e-5)
    wanted = model.score_all(model.items.table(), torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(Rescorer.open(tmp_path).score_all(tokens), wanted, atol=1e-4)


def test_two_tower_files_answer_as_an_inner_product(tmp_path: Path):
    model = made(TwoTowerModel)
    export_two_tower(model, tmp_path)
    rows = histories(5)
    tokens = Encoder.open(tmp_path, "two_tower").tokens(queries_of(rows))[:, 0]
    vectors = read_arrays(tmp_path / "two_tower.safetensors")["item_vectors_out"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    wanted = model.score_all(model.items.table(), torch_tokens(model, rows, None)).numpy()
    np.testing.assert_allclose(tokens @ vectors.T / model.scorer.temperature, wanted, atol=1e-4)


def test_same_model_same_bytes(tmp_path: Path):
    for name in "ab":
        export_sparcode(made(), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("longest", [7, 20])
def test_codes_traffic_and_followers_equal_a_dictionary(tmp_path: Path, longest: int):
    model = made(**{"model.history": 50})
    sequences = random_sequences(np.random.default_rng(2), 15, longest, ITEMS)
    sampler = CandidateSampler(model.config.loss, np.ones(ITEMS, int), 0)
    summary = export_codes(model, Objective(model, sampler, None, 0.0), sequences, model.config, tmp_path)
    traffic: Counter = Counter()
    followers: dict = defaultdict(Counter)
    for row in range(len(sequences)):
        items = sequences.row(row).tolist()
        for place in range(len(items)):
            for code in model.quantise(torch_tokens(model, [items[: place + 1]], None))[1][0].tolist():
                traffic[tuple(code)] += 1
                if place + 1 < len(items):
                    followers[tuple(code)][items[place + 1]] += 1
    stored = read_arrays(tmp_path / "codes.safetensors")
    codes = [tuple(code) for code in stored["codes"].tolist()]
    assert codes == sorted(traffic)
    assert stored["codes"].dtype == np.uint16
    assert stored["traffic"].tolist() == [traffic[code] for code in codes]
    for place, code in enumerate(codes):
        low, high = stored["next_indptr"][place : place + 2]
        found = dict(
            zip(stored["next_items"][low:high].tolist(), stored["next_counts"][low:high].tolist(), strict=True)
        )
        assert found == followers[code]
    assert stored["next_indptr"][-1] == len(stored["next_items"])
    assert summary == {"occupied_codes": len(codes), "training_queries": sum(traffic.values())}


def test_with_end_marks_the_end_of_every_sequence():
    ended = with_end(sequences_of([[3, 4], [], [5]]), 9)
    assert [ended.row(row).tolist() for row in range(3)] == [[3, 4, 9], [9], [5, 9]]


@pytest.mark.parametrize(("stored", "share"), [("float16", 2), ("int8", 4)])
def test_item_vectors_are_written_as_the_configuration_says(stored, share):
    spec, arrays = rescorer_arrays(made(**{"query.item_vectors": stored}))
    _, exact = rescorer_arrays(made())
    assert arrays["item_tokens"].dtype == stored
    assert arrays["item_tokens"].nbytes * share == exact["item_tokens"].nbytes
    rescorer = Rescorer(spec, arrays)
    np.testing.assert_allclose(rescorer.flat.reshape(exact["item_tokens"].shape), exact["item_tokens"], atol=4e-3)
