"""From states to unit tokens."""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import numpy as np

from sparcode.arithmetic import add_product, affine, dot
from sparcode.jit import contracted

_ZERO = np.float32(0.0)


@contracted
def finish(states, lengths, features, feature_weight, head, head_bias, tokens, valid):
    """Turn states (B, S, d) into unit tokens (B, K_u, d).

    Features (B, F) are projected by (F, d) and added to every state; ``head`` (d, K_u d) maps the single state
    to K_u tokens, or has no rows when the states are the tokens. ``valid[b]`` is False, and the tokens zero,
    when there is neither history nor a non-zero feature.
    """
    batch, heads, width = tokens.shape
    projected = np.empty(width, np.float32)
    flat = tokens.reshape(batch, heads * width)
    for b in range(batch):
        known = lengths[b] > 0
        projected[:] = _ZERO
        for f in range(features.shape[1]):
            known = known or features[b, f] != _ZERO
        valid[b] = known
        if not known:
            flat[b, :] = _ZERO
            continue
        if features.shape[1] > 0:
            add_product(features[b], feature_weight, projected)
        if head.shape[0] > 0:
            for i in range(width):
                projected[i] += states[b, 0, i]
            affine(projected, head, head_bias, flat[b])
        else:
            for k in range(heads):
                for i in range(width):
                    tokens[b, k, i] = states[b, k, i] + projected[i]
        for k in range(heads):
            norm = max(np.sqrt(dot(tokens[b, k], tokens[b, k])), np.float32(1e-8))
            for i in range(width):
                tokens[b, k, i] /= norm
