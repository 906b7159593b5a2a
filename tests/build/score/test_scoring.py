"""Factorised and fused scoring against the written-out formula on decoded codes."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.build.score import scoring as module
from sparcode.build.score.counts import BACK_OFF, CountScorer
from sparcode.build.score.scoring import CodeScorer
from sparcode.query.codes import decode
from sparcode.query.rescore import rescorer as rescorer_module
from tests.query.scorers import SETTINGS, literal, random_rescorer

KERNELS = (
    "score_items", "item_mean", "fill_angles", "dot_row", "fold_item", "multiply", "project", "angle_of",
    "fused_hadamard", "four_sums", "start_prefix", "fused_concatenation", "deep_hadamard", "deep_layers",
)  # fmt: skip


def some_codes(kind: str, books: int, width: int = 12, words: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    codebooks = rng.normal(size=(books, words, width // books if kind == "product" else width)).astype("f") / 3
    return codebooks, np.unique(rng.integers(0, words, (20, books)), axis=0).astype(np.uint16)


@pytest.mark.parametrize(("quantizer", "books"), [("product", 1), ("product", 2), ("product", 3), ("residual", 2)])
@pytest.mark.parametrize(("kind", "layers", "item_tokens"), SETTINGS[:-1])
def test_equals_the_formula(kind, layers, item_tokens, quantizer, books):
    rescorer, spec, arrays = random_rescorer(kind, layers=layers, item_tokens=item_tokens)
    codebooks, codes = some_codes(quantizer, books)
    scorer = CodeScorer(rescorer, codebooks, quantizer)
    vectors = decode(codes, codebooks, quantizer)
    expected = np.array([[literal(spec, arrays, v, item) for v in vectors] for item in range(37)])
    found = scorer.scores(scorer.plan(codes))
    assert np.allclose(found, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("kind", "layers"), [("hadamard", 1), ("hadamard", 2), ("concatenation", 1),
                                              ("mixture", 1), ("dot", 0)])  # fmt: skip
def test_a_score_does_not_depend_on_its_company(kind, layers):
    rescorer, _, _ = random_rescorer(kind, layers=layers, hidden=40)
    codebooks, codes = some_codes("product", 2)
    scorer = CodeScorer(rescorer, codebooks, "product")
    whole = scorer.scores(scorer.plan(codes))
    for start, stop in ((0, 1), (3, 8), (5, len(codes))):
        part = scorer.scores(scorer.plan(codes[start:stop]), 7, 30)
        assert part.tobytes() == np.ascontiguousarray(whole[7:30, start:stop]).tobytes()


@pytest.mark.parametrize("kind", ["hadamard", "mixture"])
def test_no_codes_no_items(kind):
    rescorer, _, _ = random_rescorer(kind)
    codebooks, codes = some_codes("product", 2)
    scorer = CodeScorer(rescorer, codebooks, "product")
    assert scorer.scores(scorer.plan(codes[:0])).shape == (37, 0)
    assert scorer.scores(scorer.plan(codes), 40, 50).shape == (0, len(codes))


@pytest.mark.parametrize(("kind", "layers"), [("hadamard", 1), ("hadamard", 2), ("concatenation", 1),
                                              ("concatenation", 2), ("dot", 0)])  # fmt: skip
def test_kernels_equal_their_python_source(kind, layers, monkeypatch):
    rescorer, _, _ = random_rescorer(kind, layers=layers, hidden=4, items=5)
    codebooks, codes = some_codes("residual", 2)
    scorer = CodeScorer(rescorer, codebooks, "residual")
    fast = scorer.scores(scorer.plan(codes))
    for name in KERNELS:
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    monkeypatch.setattr(module, "dense", rescorer_module.dense.py_func)
    assert np.allclose(scorer.scores(scorer.plan(codes)), fast, rtol=1e-4, atol=1e-4)


def test_counts_equal_the_formula():
    rng = np.random.default_rng(0)
    codes = np.array([[0, 1], [0, 2], [3, 1]], np.uint16)
    table = rng.integers(0, 4, (3, 6)) * (rng.random((3, 6)) < 0.5)
    rows, items = np.nonzero(table)
    indptr = np.searchsorted(rows, np.arange(4))
    scorer = CountScorer(codes, indptr, items.astype(np.int32), table[rows, items], 6)
    asked = np.array([[0, 1], [0, 2], [2, 2], [3, 1], [3, 2]], np.uint16)
    popularity = (table.sum(0) + 1) / (table.sum() + 6)
    for code, found in zip(asked, scorer.scores(scorer.plan(asked), 1, 6).T, strict=True):
        own = table[(codes == code).all(1)].sum(0)
        backs = []
        for m in range(2):
            under = table[codes[:, m] == code[m]].sum(0)
            backs.append((under + BACK_OFF * popularity) / (under.sum() + BACK_OFF))
        expected = np.log((own + BACK_OFF * np.mean(backs, axis=0)) / (own.sum() + BACK_OFF))
        assert np.allclose(found, expected[1:], rtol=1e-5)
