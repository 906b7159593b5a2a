"""Clicks added one by one give the tokens of the whole history, bit for bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import QueryError
from sparcode.query.encoder.encoder import Encoder
from tests.query.encoder.test_encoder import FEATURES, HISTORY, ITEMS, KINDS, Pair

clicks = st.lists(st.integers(0, ITEMS - 1), min_size=0, max_size=3 * HISTORY)


@cache
def encoder_of(kind: str, blocks: int) -> Encoder:
    """An encoder with two heads, user features and ``blocks`` blocks or layers."""
    return Pair(kind, 2, blocks, True, attention_heads=2).encoder()


@settings(max_examples=40, deadline=None)
@given(before=clicks, after=clicks, featured=st.booleans())
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_any_clicks_equal_a_full_recomputation(kind, blocks, before, after, featured):
    encoder = encoder_of(kind, blocks)
    features = np.linspace(-1, 1, FEATURES).astype(np.float32) if featured else None
    state, history = encoder.start(np.array(before, np.int32)), list(before)
    for item in [None, *after]:
        if item is not None:
            state = encoder.append(state, item)
            history.append(item)
        whole = encoder.encode_one(np.array(history, np.int32), features)
        np.testing.assert_array_equal(encoder.tokens_of(state, features), whole)
    assert state.items.tolist() == history[-HISTORY:]
    assert state.seen == len(history)


@pytest.mark.parametrize("kind", KINDS)
def test_wide_encoders_too(kind, monkeypatch):
    from tests.query.encoder import test_encoder

    monkeypatch.setattr(test_encoder, "WIDTH", 64)
    monkeypatch.setattr(test_encoder, "HISTORY", 50)
    encoder = Pair(kind, 4, 2, attention_heads=2).encoder()
    history = np.random.default_rng(0).integers(0, ITEMS, 60).astype(np.int32)
    state = encoder.start()
    for place, item in enumerate(history):
        state = encoder.append(state, item)
        np.testing.assert_array_equal(encoder.tokens_of(state), encoder.encode_one(history[: place + 1]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_stays_what_it_was(kind):
    encoder = encoder_of(kind, 1)
    base = encoder.start([1, 2])
    before = encoder.tokens_of(base)
    left, right = encoder.append(base, 3), encoder.append(base, 4)
    np.testing.assert_array_equal(encoder.tokens_of(base), before)
    np.testing.assert_array_equal(encoder.tokens_of(left), encoder.encode_one(np.array([1, 2, 3])))
    np.testing.assert_array_equal(encoder.tokens_of(right), encoder.encode_one(np.array([1, 2, 4])))
    assert 0 < base.bytes < 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_appended_is_refused(kind):
    encoder, other = encoder_of(kind, 1), Pair(kind).encoder()
    for history in ([], list(range(HISTORY))):
        for item in (-1, ITEMS):
            with pytest.raises(QueryError, match=rf"item {item}, .* 0\.\.39"):
                encoder.append(encoder.start(history), item)
    with pytest.raises(QueryError, match="item 99"):
        encoder.start([1, 99])
    for call in (other.tokens_of, lambda state: other.append(state, 1)):
        with pytest.raises(QueryError, match="another encoder; start it again"):
            call(encoder.start([1]))
