"""One history to tokens: what batches, single queries, states and other kernels all run.

The kernels of a kind (``remember``, ``recall``: ``model.tokenizers.arrays``) and ``finish`` are called by address,
so that each is compiled once and tokens are the same to the last bit whoever asks.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.arithmetic import add_product, affine, dot
from sparcode.jit import contracted
from sparcode.jit.addresses import call_plain, call_status
from sparcode.jit.packing import unpacked

_ZERO = np.float32(0.0)
_LEAST_LENGTH = np.float32(1e-8)


class Entries(NamedTuple):
    """Addresses of the compiled ``remember``, ``recall`` and ``finish``, uint64."""

    remember: np.uint64
    recall: np.uint64
    finish: np.uint64


class Head(NamedTuple):
    """What makes tokens of states, float32: ``feature_weight`` (F, d); ``weight`` (d, K_u d) maps the single state to
    K_u tokens, or has no rows where the states are the tokens; ``bias`` (K_u d,)."""

    feature_weight: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


class Output(NamedTuple):
    """``window``: H, how many events are read; ``empty`` (S, d): the states of no event; ``states`` (S, d): scratch."""

    window: int
    empty: np.ndarray
    head: Head
    states: np.ndarray


@contracted
def encode(history, features, entries, inputs, tokens, weights, memory, output):
    """Set ``tokens`` (1, K_u, d) to those of ``history`` (m,) and ``features`` (1, F) or (1, 0); tell whether all items
    are known. The other arguments are those of ``Encoder.single``: Entries, Inputs, tokens, the kind's weights and
    memory (scratch), Output.
    """
    return encode_history(history, features[0], entries, inputs, tokens[0], weights, memory, output) < 0


@contracted
def encode_history(history, features, entries, inputs, tokens, weights, memory, output):
    """Set ``tokens`` (K_u, d); return -1, or the place of an unknown item. ``features`` (F,) or (0,)."""
    first = max(len(history) - output.window, 0)
    events = history[first:]
    if len(events) > 0:
        bad = call_status(entries.remember, (inputs, events, np.int64(0), weights, memory))
        if bad >= 0:
            return first + bad
    last_step(np.int64(len(events)), features, entries, tokens, weights, memory, output)
    return np.int64(-1)


@contracted
def last_step(count, features, entries, tokens, weights, memory, output):
    """Set ``tokens`` (K_u, d) to those of a memory of ``count`` events."""
    if count > 0:
        call_plain(entries.recall, (count, weights, memory, output.states))
    else:
        for k in range(output.empty.shape[0]):
            for i in range(output.empty.shape[1]):
                output.states[k, i] = output.empty[k, i]
    call_plain(entries.finish, (output.states, count, features, output.head, tokens))


@contracted
def encode_packed(items, indptr, features, tokens, address, kind):
    """``encode_history`` of every ``items[indptr[b]:indptr[b + 1]]``, with what ``Encoder.single`` packed; return -1,
    or the place of an unknown item. ``features`` (B, F) or (B, 0), ``tokens`` (B, K_u, d)."""
    entries, inputs, _, weights, memory, output = unpacked(address, kind)
    for b in range(tokens.shape[0]):
        history = items[indptr[b] : indptr[b + 1]]
        bad = encode_history(history, features[b], entries, inputs, tokens[b], weights, memory, output)
        if bad >= 0:
            return indptr[b] + bad
    return np.int64(-1)


@contracted
def finish(states, count, features, head, tokens):
    """Turn the states (S, d) of ``count`` events into unit tokens (K_u, d).

    Features (F,) are projected and added to every state. Without events and non-zero features the tokens are zero.
    """
    heads, width = tokens.shape
    flat = tokens.reshape(heads * width)
    known = count > 0
    for f in range(features.shape[0]):
        known = known or features[f] != _ZERO
    if not known:
        flat[:] = _ZERO
        return
    projected = np.empty(width, np.float32)
    projected[:] = _ZERO
    if features.shape[0] > 0:
        add_product(features, head.feature_weight, projected)
    if head.weight.shape[0] > 0:
        for i in range(width):
            projected[i] += states[0, i]
        affine(projected, head.weight, head.bias, flat)
    else:
        for k in range(heads):
            for i in range(width):
                tokens[k, i] = states[k, i] + projected[i]
    for k in range(heads):
        norm = max(np.sqrt(dot(tokens[k], tokens[k])), _LEAST_LENGTH)
        for i in range(width):
            tokens[k, i] /= norm
