"""Screened nearest codewords against a full search, and bounds that are bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.quantize import nearest as module
from sparcode.quantize.nearest import LANES, Scratch, Screen, bounds, prepare_screen, screened
from sparcode.query.encoder.encoder import Encoder
from tests.jit.test_tiles import in_order
from tests.query.encoder.test_encoder import WIDTH, Pair


@pytest.fixture(autouse=True)
def small_books_are_screened(monkeypatch):
    monkeypatch.setattr(module, "LEAST_WORDS", LANES)
    monkeypatch.setattr(module, "LEAST_WIDTH", 8)


def books_of(rng: np.random.Generator, kind: str, words: int, width: int) -> np.ndarray:
    if kind == "whole numbers":  # every sum is exact, ties are frequent
        return rng.integers(-2, 3, size=(1, words, width)).astype(np.float32)
    spread = np.geomspace(1, 0.01, width) if kind == "few directions" else np.ones(width)
    return (rng.normal(size=(1, words, width)) * spread).astype(np.float32)


def first(screen: Screen) -> Screen:
    """Return the screen of the first of several books."""
    return Screen(*(part[0] for part in screen))


def scratch_of(rows, words, width):
    return Scratch(
        np.empty((rows, words), np.float32), np.empty((rows, LANES), np.float32), np.empty((rows, LANES), np.int32),
        np.empty((rows, width), np.float32),
    )  # fmt: skip


def search(screen, book, x, count):
    """Return indices and distances (R, count) of the nearest codewords of rows (R, width)."""
    rows = len(x)
    indices, kept = np.empty((rows, count), np.int64), np.empty((rows, count), np.float32)
    screened(x, norms_of(book), first(screen), scratch_of(rows, *book.shape), indices, kept)
    return indices, kept


def norms_of(book):
    return (np.square(book.astype(np.float64)).sum(1) / 2).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["whole numbers", "few directions", "round"]),
    st.sampled_from([16, 17, 40, 200]),
    st.sampled_from([8, 12, 33]),
    st.sampled_from([1, 2, 5, 16]),
)
def test_screened_is_the_full_search(seed, kind, words, width, count):
    rng = np.random.default_rng(seed)
    books = books_of(rng, kind, words, width)
    screen = prepare_screen(books)
    x = rng.integers(-3, 4, size=(3, width)) if kind == "whole numbers" else rng.normal(size=(3, width))
    x = x.astype(np.float32)
    indices, kept = search(screen, books[0], x, count)
    full = in_order(x, books[0].T.copy(), norms_of(books[0]))
    order = np.argsort(full, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(kept, np.take_along_axis(full, order, 1))


def test_bounds_lie_below_and_hold_few_dimensions():
    rng = np.random.default_rng(3)
    books = books_of(rng, "few directions", 300, 24)
    screen = prepare_screen(books)
    assert screen.leading.shape == (1, 8, 300)
    norms = norms_of(books[0])
    x, scratch = rng.normal(size=(3, 24)).astype(np.float32), scratch_of(3, 300, 24)
    bounds(x, norms, first(screen), scratch)
    values = scratch.values
    exact = norms - x @ books[0].T
    assert (values <= exact + 1e-4).all()
    assert (values > exact.min(1, keepdims=True)).mean() > 0.5, "a screen that lets most through does not pay"
    np.testing.assert_array_equal(np.take_along_axis(values, scratch.places.astype(np.int64), 1), scratch.least)


@pytest.mark.parametrize("kind", ["product", "residual"])
@pytest.mark.parametrize("probes", [1, 3])
def test_an_encoder_gives_the_same_codes_with_and_without_a_screen(kind, probes, monkeypatch):
    rng, pair = np.random.default_rng(1), Pair("dnn")
    width = WIDTH
    books = rng.normal(size=(2, 50, width // 2 if kind == "product" else width)).astype(np.float32)
    spec = pair.spec | {"quantizer": {"kind": kind, "books": 2, "codewords": 50}}
    tokens = rng.normal(size=(40, 1, width)).astype(np.float32)
    found = Encoder(spec, pair.arrays | {"codebooks": books}).codes(tokens, probes)
    monkeypatch.setattr(module, "LEAST_WORDS", 51)
    expected = Encoder(spec, pair.arrays | {"codebooks": books}).codes(tokens, probes)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_small_books_have_no_screen(monkeypatch):
    monkeypatch.setattr(module, "LEAST_WORDS", 100)
    assert prepare_screen(np.ones((2, 99, 8), np.float32)) is None


@pytest.mark.parametrize("kind", ["product", "residual"])
@pytest.mark.parametrize("probes", [1, 3])
@pytest.mark.parametrize("least", [LANES, 1000])
def test_tokens_that_are_not_numbers_get_codes_of_the_book(kind, probes, least, monkeypatch):
    monkeypatch.setattr(module, "LEAST_WORDS", least)
    pair, width = Pair("dnn"), WIDTH
    books = np.ones((1, 50, width), np.float32)
    spec = pair.spec | {"quantizer": {"kind": kind, "books": 1, "codewords": 50}}
    tokens = np.full((1, 3, width), np.nan, np.float32)
    codes, _ = Encoder(spec, pair.arrays | {"codebooks": books}).codes(tokens, probes)
    assert (codes < 50).all()
