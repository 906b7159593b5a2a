"""Tiles of distances against the plain loop in the same order, bit for bit, and nearest codewords against sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from sparcode.jit import contracted
from sparcode.jit.tiles import LANES, tile_distances
from sparcode.quantize.nearest import Scratch, half_distances, nearest_words, smallest


@njit(fastmath={"contract"})
def in_order(x, book, norms):
    """Return distances (R, N), each summed by itself in the order of the coordinates."""
    out = np.empty((x.shape[0], book.shape[1]), np.float32)
    for r in range(x.shape[0]):
        for c in range(book.shape[1]):
            total = norms[c]
            for i in range(x.shape[1]):
                total -= x[r, i] * book[i, c]
            out[r, c] = total
    return out


@contracted
def tile(x, book, norms, values, least, words):
    return tile_distances(x, book, norms, None, None, values, least, words)


@contracted
def tile_with_rest(x, book, norms, rest, rests, values, least, words):
    return tile_distances(x, book, norms, rest, rests, values, least, words)


def numbers(rng: np.random.Generator, whole: bool, *shape: int) -> np.ndarray:
    """Return whole numbers, whose sums are exact and often equal, or others."""
    drawn = rng.integers(-2, 3, size=shape) if whole else rng.normal(size=shape)
    return drawn.astype(np.float32)


def scratch(rows: int, words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.full((rows, words), np.nan, np.float32), np.empty((rows, LANES), np.float32),
        np.empty((rows, LANES), np.int32),
    )  # fmt: skip


any_case = given(
    seed=st.integers(0, 10_000), whole=st.booleans(), rows=st.integers(1, 9), width=st.sampled_from([1, 7, 32]),
    words=st.sampled_from([1, 15, 16, 40, 128, 300]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@any_case
def test_distances_are_those_of_the_plain_loop_bit_for_bit(seed, whole, rows, width, words):
    rng = np.random.default_rng(seed)
    wide = numbers(rng, whole, rows, width + 5)
    x, book, norms = wide[:, 3 : 3 + width], numbers(rng, whole, width, words), numbers(rng, whole, words)
    values, least, places = scratch(rows, words)
    half_distances(x, book, norms, values, least, places)
    expected = in_order(x.copy(), book, norms)
    np.testing.assert_array_equal(values, expected)
    for lane in range(min(LANES, words // LANES * LANES)):
        own = expected[:, lane : words // LANES * LANES : LANES]
        np.testing.assert_array_equal(least[:, lane], own.min(1))
        np.testing.assert_array_equal(places[:, lane], own.argmin(1) * LANES + lane)


@settings(max_examples=60, deadline=None)
@any_case
def test_nearest_and_smallest_are_a_stable_sort(seed, whole, rows, width, words):
    rng = np.random.default_rng(seed)
    x, book, norms = numbers(rng, whole, rows, width), numbers(rng, whole, width, words), numbers(rng, whole, words)
    values, least, places = scratch(rows, words)
    indices, kept = np.empty((rows, 1), np.int64), np.empty((rows, 1), np.float32)
    expected = in_order(x, book, norms)
    order = np.argsort(expected, axis=1, kind="stable")
    nearest_words(x, book, norms, Scratch(values, least, places, values), indices, kept)
    np.testing.assert_array_equal(indices[:, 0], order[:, 0])
    np.testing.assert_array_equal(kept[:, 0], expected.min(1))
    half_distances(x, book, norms, values, least, places)
    for count in {1, min(3, words), min(20, words)}:
        for r in range(rows):
            indices, kept = np.empty(count, np.int64), np.empty(count, np.float32)
            assert smallest(values[r], least[r], indices, kept) == count
            np.testing.assert_array_equal(indices, order[r, :count])
            np.testing.assert_array_equal(kept, expected[r, order[r, :count]])


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("words", [5, 48, 200])
@pytest.mark.parametrize("rested", [False, True])
def test_compiled_tiles_equal_their_python_source(rows, words, rested):
    rng = np.random.default_rng(rows + words)
    x, book, norms = (numbers(rng, True, *shape) for shape in ((rows, 6), (6, words), (words,)))
    rest, rests = numbers(rng, True, rows), numbers(rng, True, words)
    compiled, plain = scratch(rows, words), scratch(rows, words)
    if rested:
        stop = tile_with_rest(x, book, norms, rest, rests, *compiled)
        assert tile_distances(x, book, norms, rest, rests, *plain) == stop
    else:
        stop = tile(x, book, norms, *compiled)
        assert tile_distances(x, book, norms, None, None, *plain) == stop
    assert stop == words // 16 * 16
    for found, wanted in zip(compiled, plain, strict=True):
        np.testing.assert_array_equal(found, wanted)
