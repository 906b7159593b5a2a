"""The scorer's weights as kernels take them: in rescoring, in the fused answer and in the offline job alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.query.rescore.item_vectors import Items


class Perceptron(NamedTuple):
    """The MLP of a ``hadamard`` or ``concatenation`` scorer with H units a layer; sizes are 0 where there is none.

    float32: ``query_weight`` (H, d) for concatenation, else (H, 0); ``item_weight`` (K_c d, H), sqrt(d) is inside both;
    ``first_bias`` (H,); ``middle`` (layers - 1, H, H) as (in, out); ``middle_bias`` (layers - 1, H); ``out_weight``
    (H,); ``out_bias``. ``hadamard``: whether tokens are multiplied with items, else both are inputs.
    """

    query_weight: np.ndarray
    item_weight: np.ndarray
    first_bias: np.ndarray
    middle: np.ndarray
    middle_bias: np.ndarray
    out_weight: np.ndarray
    out_bias: np.float32
    hadamard: bool


class ScorerWeights(NamedTuple):
    """S(t, c) = item_bias_c + cosine * sum_j t . c_j + what the ``perceptron`` gives; see ``rescorer``.

    ``items``: vectors of n items as ``item_vectors.Items``; ``item_bias`` (n,) float32; ``cosine`` float32, 0 for no
    such term; with ``relu`` a token counts max(S + bias, 0). ``perceptron`` is None for scores that have neither an
    MLP nor a mixture: kernels are then compiled without either.
    """

    items: Items
    item_bias: np.ndarray
    cosine: np.float32
    bias: np.float32
    relu: bool
    perceptron: Perceptron | None


class Evidence(NamedTuple):
    """Score units, float32, of one unit of a candidate's cached sum, and of what lists other than learned ones give."""

    cached: np.float32
    evidence: np.float32
