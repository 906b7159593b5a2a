"""The all-to-all rescorer against the written-out formula."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.errors import CorruptIndexError
from sparcode.index.arrays import export_encoder
from sparcode.query.rescore import rescorer as module
from sparcode.query.rescore.rescorer import Rescorer
from tests.query.scorers import SETTINGS, literal, random_rescorer

TOKENS = np.random.default_rng(7).normal(size=(3, 12)).astype("f") / 3
CANDIDATES = np.array([4, 0, 36, 4, 20], np.int32)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("kind", "layers", "item_tokens"), SETTINGS)
def test_every_path_equals_the_formula(kind, layers, item_tokens, skip):
    rescorer, spec, arrays = random_rescorer(kind, layers=layers, item_tokens=item_tokens, skip=skip)
    table = np.array([[literal(spec, arrays, token, item) for item in range(37)] for token in TOKENS])
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * np.abs(table).max()}
    assert np.allclose(rescorer.token_scores(TOKENS, slice(None)), table, **tolerance)
    assert np.allclose(rescorer.token_scores(TOKENS, slice(5, 9)), table[:, 5:9], **tolerance)
    assert np.allclose(rescorer.score(TOKENS, CANDIDATES), table.sum(0)[CANDIDATES], **tolerance)
    assert np.allclose(rescorer.score_all(TOKENS[None])[0], table.sum(0), **tolerance)


@pytest.mark.parametrize("kind", ["hadamard", "mixture"])
def test_trained_in_relu_is_applied_to_each_token(kind, monkeypatch):
    monkeypatch.setattr(module, "ITEM_BLOCK", 8)
    rescorer, spec, arrays = random_rescorer(kind, activation="relu", bias=-0.5)
    table = np.array([[max(literal(spec, arrays, t, item) - 0.5, 0) for item in range(37)] for t in TOKENS])
    assert np.allclose(rescorer.score(TOKENS, CANDIDATES), table.sum(0)[CANDIDATES], rtol=1e-4, atol=1e-3)
    assert np.allclose(rescorer.score_all(TOKENS[None])[0], table.sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("kind", "layers"), [("hadamard", 2), ("concatenation", 1), ("dot", 0)])
def test_kernels_equal_their_python_source(kind, layers, monkeypatch):
    rescorer, _, _ = random_rescorer(kind, layers=layers, hidden=4, width=8, items=6)
    tokens, ids = TOKENS[:, :8].copy(), np.arange(6, dtype=np.int32)
    fast = rescorer.score(tokens, ids)
    for name in ("score_candidates", "_score_candidates", "score_with_mixture", "_fold", "dense"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    assert np.allclose(rescorer.score(tokens, ids), fast, rtol=1e-4, atol=1e-4)


def test_nothing_to_score_and_unknown_items():
    for kind in ("dot", "mixture"):
        rescorer, _, _ = random_rescorer(kind)
        assert rescorer.score(TOKENS, np.empty(0, np.int32)).shape == (0,)
    for bad in (-1, 37):
        with pytest.raises(IndexError, match="0..36"):
            rescorer.score(TOKENS, np.array([bad], np.int32))


def test_opens_what_was_exported(tmp_path):
    rescorer, spec, arrays = random_rescorer("hadamard")
    export_encoder(tmp_path, "rescorer", spec, arrays)
    opened = Rescorer.open(tmp_path)
    assert np.array_equal(opened.score(TOKENS, CANDIDATES), rescorer.score(TOKENS, CANDIDATES))
    assert opened.bytes == sum(array.nbytes for array in arrays.values())


def test_spec_and_arrays_must_fit():
    _, spec, arrays = random_rescorer("hadamard")
    with pytest.raises(CorruptIndexError, match="unknown kind"):
        Rescorer(spec | {"kind": "bilinear"}, arrays)
    with pytest.raises(CorruptIndexError, match=r"mlp\.0\.bias"):
        Rescorer(spec, {name: array for name, array in arrays.items() if name != "mlp.0.bias"})
    with pytest.raises(CorruptIndexError, match="shape"):
        Rescorer(spec | {"width": 6}, arrays)
    _, spec, arrays = random_rescorer("mixture")
    with pytest.raises(CorruptIndexError, match=r"mixture\.query\.maps"):
        Rescorer(spec | {"query_components": 5}, arrays)
