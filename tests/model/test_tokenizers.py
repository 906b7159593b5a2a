"""Each tokenizer against a slow, literal reading of its equations; causality; padding; user features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.config import ModelConfig
from sparcode.errors import ConfigError
from sparcode.model.tokenizers.layers import Tokenizer, build_tokenizer

KINDS = ["sasrec", "gru4rec", "dnn", "self-attentive", "capsule"]
WIDTH, HISTORY = 8, 6


def make(kind: str, feature_width: int = 0, **changes: object) -> Tokenizer:
    torch.manual_seed(3)
    settings = {"width": WIDTH, "history": HISTORY, "heads": 3, "dropout": 0.3, "user_features": True} | changes
    tokenizer = build_tokenizer(ModelConfig(tokenizer=kind, **settings), 10, feature_width).eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return tokenizer


def run(tokenizer: Tokenizer, vectors: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
    rows = torch.tensor(vectors, dtype=torch.float32)
    given_features = None if features is None else torch.tensor(features, dtype=torch.float32)
    with torch.no_grad():
        return tokenizer(rows, torch.ones(rows.shape[:2], dtype=torch.bool), given_features).numpy()


def vectors_of(seed: int, rows: int = 2, length: int = HISTORY) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, length, WIDTH))


def norm(x, gain, offset):
    return (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).mean() + 1e-5) * gain + offset


def softmax(x):
    e = np.exp(np.asarray(x) - np.max(x))
    return e / e.sum()


def relu(x):
    return np.maximum(x, 0)


def sasrec_state(a, prefix, spec):
    x = [v + a["positions"][t] for t, v in enumerate(prefix)]
    for b in range(spec["blocks"]):
        p = {name.removeprefix(f"blocks.{b}."): value for name, value in a.items() if name.startswith(f"blocks.{b}.")}
        y = [norm(v, p["norm1.weight"], p["norm1.bias"]) for v in x]
        qkv = [p["qkv.weight"] @ v + p["qkv.bias"] for v in y]
        size = WIDTH // spec["attention_heads"]
        after = []
        for t in range(len(x)):
            mixed = []
            for h in range(spec["attention_heads"]):
                part = [slice(i * WIDTH + h * size, i * WIDTH + (h + 1) * size) for i in range(3)]
                weights = softmax([qkv[t][part[0]] @ qkv[s][part[1]] / math.sqrt(size) for s in range(t + 1)])
                mixed.append(sum(weights[s] * qkv[s][part[2]] for s in range(t + 1)))
            z = x[t] + p["out.weight"] @ np.concatenate(mixed) + p["out.bias"]
            inner = relu(p["inner.weight"] @ norm(z, p["norm2.weight"], p["norm2.bias"]) + p["inner.bias"])
            after.append(z + p["outer.weight"] @ inner + p["outer.bias"])
        x = after
    return norm(x[-1], a["norm.weight"], a["norm.bias"])[None]


def gru4rec_state(a, prefix, spec):
    inputs = list(prefix)
    for layer in range(spec["blocks"]):
        w, u = a[f"gru.weight_ih_l{layer}"], a[f"gru.weight_hh_l{layer}"]
        bw, bu = a[f"gru.bias_ih_l{layer}"], a[f"gru.bias_hh_l{layer}"]
        h, outputs = np.zeros(WIDTH), []
        for x in inputs:
            (ir, iz, i_n), (hr, hz, h_n) = np.split(w @ x + bw, 3), np.split(u @ h + bu, 3)
            r, z = 1 / (1 + np.exp(-(ir + hr))), 1 / (1 + np.exp(-(iz + hz)))
            h = (1 - z) * np.tanh(i_n + r * h_n) + z * h
            outputs.append(h)
        inputs = outputs
    return inputs[-1][None]


def dnn_state(a, prefix, spec):
    x = np.mean(prefix, axis=0)
    x = relu(a["layers.0.weight"] @ x + a["layers.0.bias"])
    x = relu(a["layers.1.weight"] @ x + a["layers.1.bias"])
    return (a["layers.2.weight"] @ x + a["layers.2.bias"])[None]


def self_attentive_state(a, prefix, spec):
    states = []
    for row in a["attention.weight"]:
        logits = [row @ np.tanh(a["inner.weight"] @ (x + a["positions"][t])) for t, x in enumerate(prefix)]
        states.append(sum(w * x for w, x in zip(softmax(logits), prefix, strict=True)))
    return np.array(states)


def capsule_state(a, prefix, spec):
    capsules = [a["bilinear.weight"] @ x for x in prefix]
    logits = a["routing"][:, : len(prefix)].astype(float)
    for _ in range(spec["iterations"]):
        v = []
        for k in range(spec["heads"]):
            z = sum(softmax(logits[:, s])[k] * capsules[s] for s in range(len(prefix)))
            square = z @ z
            v.append(square / (1 + square) * z / math.sqrt(square + 1e-9))
        logits = logits + np.array([[v[k] @ u for u in capsules] for k in range(spec["heads"])])
    return np.array(v)


STATES = {
    "sasrec": sasrec_state,
    "gru4rec": gru4rec_state,
    "dnn": dnn_state,
    "self-attentive": self_attentive_state,
    "capsule": capsule_state,
}


def slow_tokens(tokenizer: Tokenizer, prefix: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """Tokens (K_u, d) of one prefix of raw item vectors, by loops in float64."""
    spec = tokenizer.spec()
    a = {name.removeprefix("tokenizer."): value.astype(float) for name, value in tokenizer.arrays().items()}
    if len(prefix) == 0:
        states = a["empty_state"]
    else:
        states = STATES[spec["kind"]](a, [math.sqrt(WIDTH) * x for x in prefix], spec)
    if features is not None:
        states = states + a["features.weight"] @ features
    if "head.weight" in a:
        return (a["head.weight"] @ states[0] + a["head.bias"]).reshape(spec["heads"], WIDTH)
    return states


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("blocks", "attention_heads"), [(1, 1), (2, 2)])
def test_every_position_follows_the_equations(kind: str, blocks: int, attention_heads: int) -> None:
    tokenizer = make(kind, feature_width=4, blocks=blocks, attention_heads=attention_heads)
    vectors, features = vectors_of(0), np.random.default_rng(1).normal(size=(2, 4))
    got = run(tokenizer, vectors, features)
    for b in range(2):
        for t in range(HISTORY):
            expected = slow_tokens(tokenizer, vectors[b, : t + 1], features[b])
            np.testing.assert_allclose(got[b, t], expected, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000), changed=st.integers(1, HISTORY - 1))
@settings(max_examples=10, deadline=None)
def test_a_later_event_never_changes_an_earlier_state(kind: str, seed: int, changed: int) -> None:
    tokenizer = make(kind)
    vectors = vectors_of(seed)
    other = vectors.copy()
    other[:, changed:] = np.random.default_rng(seed + 1).normal(size=other[:, changed:].shape)
    before, after = run(tokenizer, vectors), run(tokenizer, other)
    np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
    assert np.abs(before[:, changed:] - after[:, changed:]).max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_invisible(kind: str) -> None:
    tokenizer = make(kind)
    vectors = vectors_of(5)
    short = run(tokenizer, vectors[:, :4])
    padded = torch.tensor(vectors, dtype=torch.float32)
    padded[:, 4:] = float("nan")
    valid = torch.arange(HISTORY).expand(2, -1) < 4
    with torch.no_grad():
        long = tokenizer(padded, valid, None).numpy()
    np.testing.assert_allclose(long[:, :4], short, atol=1e-6)
    assert np.isfinite(long).all()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_history_is_answered_from_features(kind: str) -> None:
    tokenizer = make(kind, feature_width=4)
    features = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    with torch.no_grad():
        got = tokenizer.empty(torch.from_numpy(features)).numpy()
        assert tokenizer.empty().shape == (1, 3, WIDTH)
    for b in range(3):
        np.testing.assert_allclose(got[b], slow_tokens(tokenizer, np.zeros((0, WIDTH)), features[b]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: str) -> None:
    tokenizer = make(kind, feature_width=4).train()
    vectors = torch.tensor(vectors_of(4), dtype=torch.float32, requires_grad=True)
    features = torch.ones(2, 4)
    tokens = tokenizer(vectors, torch.ones(2, HISTORY, dtype=torch.bool), features)
    (tokens.square().sum() + tokenizer.empty(features).square().sum()).backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tokenizer.parameters())


def test_one_head_starts_as_the_identity() -> None:
    tokenizer = build_tokenizer(ModelConfig(width=8, heads=1), 10, 0)
    assert tokenizer.head is not None
    np.testing.assert_array_equal(tokenizer.head.weight.detach().numpy(), np.eye(8))


def test_user_features_are_ignored_unless_configured() -> None:
    tokenizer = build_tokenizer(ModelConfig(width=8, user_features=False), 10, 5)
    assert tokenizer.feature_width == 0
    assert tokenizer.features is None


def test_same_seed_same_weights() -> None:
    first, second = make("capsule").arrays(), make("capsule").arrays()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: build_tokenizer(ModelConfig(width=10, attention_heads=4), 10, 0), "not divisible"),
        (lambda: build_tokenizer(ModelConfig(), 0, 0), "at least one item"),
        (lambda: run(make("dnn"), np.zeros((1, HISTORY + 1, WIDTH))), "model.history"),
    ],
)
def test_bad_input_is_one_line(call, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()
