"""A history encoded inside another kernel gives the tokens of ``encode_one``, to the last bit, for every kind."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from sparcode.errors import QueryError
from sparcode.index.arrays import read_only
from sparcode.jit.addresses import entry_of, plain_address, status_address
from sparcode.jit.packing import pack, unpacked
from sparcode.query.encoder.encode import encode
from sparcode.query.encoder.encoder import Encoder
from tests.query.encoder.test_encoder import FEATURES, HISTORY, ITEMS, KINDS, Pair


@njit
def encoded(history, features, address, kind):
    return encode(history, features, *unpacked(address, kind))


class Single:
    """An encoder behind one address."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.parts = encoder, encoder.single()
        self.address, self.kind, self.table = pack(self.parts)
        example = (read_only(np.zeros(1, np.int32)), encoder._row(None), self.address, self.kind)
        self.entry = entry_of(encoded, example)

    def tokens(self, history, features=None):
        """Return the tokens (K_u, d), None where an item is unknown."""
        known = self.entry(history, self.encoder._row(features), self.address, self.kind)
        return self.parts[2][0].copy() if known else None


@pytest.mark.parametrize(("kind", "blocks"), [*((kind, 1) for kind in KINDS), ("sasrec", 2)])
def test_tokens_are_those_of_encode_one(kind, blocks):
    encoder = Pair(kind, blocks=blocks, features=True).encoder()
    single, rng = Single(encoder), np.random.default_rng(4)
    for length in [1, 2, HISTORY - 1, HISTORY, HISTORY + 1, 3 * HISTORY, 1]:
        history = rng.integers(0, ITEMS, length).astype(np.int32)
        for features in (None, rng.normal(size=FEATURES)):
            np.testing.assert_array_equal(single.tokens(history, features), encoder.encode_one(history, features))


def test_unknown_items_are_told_and_leave_nothing_behind():
    encoder = Pair("sasrec").encoder()
    single, good = Single(encoder), np.array([3, 1], np.int32)
    for item in (-1, ITEMS, 2**31 - 1):
        assert single.tokens(np.array([2, item, 1], np.int32)) is None
        np.testing.assert_array_equal(single.tokens(good), encoder.encode_one(good))


def test_unknown_items_before_the_window_are_not_looked_at():
    encoder = Pair("dnn").encoder()
    history = np.array([ITEMS + 5, *range(HISTORY)], np.int32)
    np.testing.assert_array_equal(Single(encoder).tokens(history), encoder.encode_one(history))


def test_features_of_another_width_are_refused():
    encoder = Pair("dnn", features=True).encoder()
    with pytest.raises(QueryError, match="user features"):
        encoder._row(np.zeros(FEATURES + 1))
    assert Pair("dnn").encoder()._row(np.zeros(9)).shape == (1, 0)


@njit
def half(number):
    return number / 2


def test_a_kernel_of_another_result_has_no_address():
    with pytest.raises(TypeError, match="half returns float64, expected int64"):
        status_address(half, (1,))
    with pytest.raises(TypeError, match="half returns float64, expected none"):
        plain_address(half, (1,))
