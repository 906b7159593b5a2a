"""The additive model: its encoder against a slow dense reference, its files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparcode.errors import CorruptIndexError, QueryError, RunError
from sparcode.index.arrays import export_encoder
from sparcode.query.encoder import additive as module
from sparcode.query.encoder.additive import AdditiveEncoder
from sparcode.retrievers.additive import additive, open_additive_encoder
from tests.worlds import queries_of

N, WIDTH, HISTORY = 30, 9, 5
HISTORIES = [[], [4], [1, 2, 3], [7, 7, 8, 7], [*range(20)], [29, 0, 29, 0, 29]]


def model(seed: int = 0) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return spec and arrays of a random model."""
    random = np.random.default_rng(seed)
    targets = random.normal(size=(N, WIDTH))
    arrays = {
        "sources": random.normal(size=(N, WIDTH)).astype(np.float32),
        "targets": (targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float32),
        "age_weights": (0.7 ** np.arange(HISTORY)).astype(np.float32),
    }
    return {"temperature": 0.1, "width": WIDTH, "items": N, "history": HISTORY}, arrays


def dense_tokens(arrays: dict[str, np.ndarray], histories: list[list[int]]) -> np.ndarray:
    """Weights as a dense (B, n) matrix times the sources, float64, scaled to length 1."""
    mixing = np.zeros((len(histories), N))
    for row, history in enumerate(histories):
        for age in range(min(len(history), HISTORY)):
            mixing[row, history[-1 - age]] += float(arrays["age_weights"][age])
    sums = mixing @ arrays["sources"].astype(np.float64)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-300)


def test_tokens_equal_the_dense_reference() -> None:
    spec, arrays = model()
    tokens = AdditiveEncoder(spec, arrays).tokens(queries_of(HISTORIES))
    assert tokens.shape == (len(HISTORIES), 1, WIDTH)
    assert tokens.dtype == np.float32
    np.testing.assert_allclose(tokens[:, 0], dense_tokens(arrays, HISTORIES), atol=1e-6)


def test_retrieval_equals_the_dense_reference() -> None:
    spec, arrays = model(1)
    hits = additive(AdditiveEncoder(spec, arrays)).retrieve(queries_of(HISTORIES), 6)
    scores = dense_tokens(arrays, HISTORIES) @ arrays["targets"].T.astype(np.float64)
    assert hits.ids[0].tolist() == [*range(6)]
    assert np.isnan(hits.scores[0]).all()
    for row, history in enumerate(HISTORIES[1:], start=1):
        scores[row, history] = -np.inf
        best = np.argsort(-scores[row], kind="stable")[:6]
        assert hits.ids[row].tolist() == best.tolist()
        np.testing.assert_allclose(hits.scores[row], scores[row, best], atol=1e-6)


def test_one_query_equals_the_batch_bit_for_bit() -> None:
    encoder = AdditiveEncoder(*model())
    batch = encoder.tokens(queries_of(HISTORIES))
    for row, history in enumerate(HISTORIES):
        one = encoder.encode_one(np.array(history, np.int32), features=np.ones(3, np.float32))
        np.testing.assert_array_equal(one, batch[row])
    assert encoder.has_tokens(queries_of(HISTORIES)).tolist() == [bool(history) for history in HISTORIES]


def test_a_sum_of_zero_stays_zero_and_is_ranked_by_id() -> None:
    spec, arrays = model()
    arrays["sources"][3] = 0.0
    hits = additive(AdditiveEncoder(spec, arrays)).retrieve(queries_of([[3, 3]]), 4)
    assert hits.ids[0].tolist() == [0, 1, 2, 4]
    assert hits.scores[0].tolist() == [0.0] * 4


def test_files_are_mapped_and_answer_alike(tmp_path: Path) -> None:
    spec, arrays = model()
    export_encoder(tmp_path / "model", "additive", spec, arrays)
    opened, made = open_additive_encoder(tmp_path / "model"), AdditiveEncoder(spec, arrays)
    np.testing.assert_array_equal(opened.tokens(queries_of(HISTORIES)), made.tokens(queries_of(HISTORIES)))
    assert not opened.sources.flags.writeable
    assert opened.temperature == 0.1
    assert opened.bytes == 4 * (N * WIDTH + HISTORY)


def test_kernel_in_plain_python() -> None:
    _, arrays = model()
    queries = queries_of(HISTORIES)
    arguments = (arrays["sources"], arrays["age_weights"], queries.items, queries.indptr)
    plain, compiled = (np.empty((len(queries), 1, WIDTH), np.float32) for _ in range(2))
    assert module.additive_tokens.py_func(*arguments, plain) == module.additive_tokens(*arguments, compiled) == -1
    np.testing.assert_allclose(plain, compiled, atol=1e-6)
    queries.items[-1] = N
    assert module.additive_tokens.py_func(*arguments, plain) == len(queries.items) - 1


@pytest.mark.parametrize("item", [-1, N])
def test_unknown_items_are_refused(item: int) -> None:
    with pytest.raises(QueryError, match=f"item {item}, but the model knows items 0..{N - 1}"):
        AdditiveEncoder(*model()).tokens(queries_of([[0], [item, 1]]))


@pytest.mark.parametrize("key", ["temperature", "width", "items", "history"])
def test_a_spec_without_a_key_is_refused(key: str) -> None:
    spec, arrays = model()
    del spec[key]
    with pytest.raises(CorruptIndexError, match=key):
        AdditiveEncoder(spec, arrays)


@pytest.mark.parametrize("name", ["sources", "targets", "age_weights"])
def test_arrays_of_another_shape_are_refused(name: str) -> None:
    spec, arrays = model()
    for wrong in (arrays | {name: arrays[name][1:]}, {key: arrays[key] for key in arrays if key != name}):
        with pytest.raises(CorruptIndexError, match=name):
            AdditiveEncoder(spec, wrong)


def test_a_temperature_of_zero_is_refused() -> None:
    spec, arrays = model()
    with pytest.raises(CorruptIndexError, match="temperature 0"):
        AdditiveEncoder(spec | {"temperature": 0}, arrays)


def test_a_run_without_the_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"families\.item\.additive': True"):
        open_additive_encoder(tmp_path / "model")
