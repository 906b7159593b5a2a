"""The all-to-all score on plain arrays: exact rescoring of candidates and exhaustive scoring, without torch.

For a query token t and an item c with K_c unit tokens c_j (arXiv 2311.18213, section 3.2.3, plus bias and skip):

    hadamard       S(t, c) = bias_c + [skip] sum_j t.c_j / (tau K_c) + MLP(sqrt(d) [t*c_1; ...; t*c_Kc])
    concatenation  S(t, c) = bias_c + [skip] sum_j t.c_j / (tau K_c) + MLP(sqrt(d) [t; c_1; ...; c_Kc])
    mixture        S(t, c) = bias_c + [skip] sum_j t.c_j / (tau K_c) + mixture(t, c)    see ``index.mixture``
    dot, counts    S(t, c) = bias_c +        sum_j t.c_j / (tau K_c)

A query's score is the sum of S over its K_u tokens, or of relu(S + b) when the activation was trained in. Items may be
stored in fewer bytes, see ``item_vectors``; everything here scores the vectors as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import CorruptIndexError
from sparcode.jit import contracted, reordered
from sparcode.query.rescore.dot import dot_candidates
from sparcode.query.rescore.item_vectors import decoded, item_row, open_items, vector_length
from sparcode.query.rescore.mixture import Mixture, mixture_shapes
from sparcode.query.rescore.weights import Perceptron, ScorerWeights
from sparcode.spec_values import choice_of, count_of, number_of

KINDS = ("hadamard", "concatenation", "mixture", "dot", "counts")
ITEM_BLOCK = 4096


class Rescorer:
    """Scores unquantised query tokens against items; ``spec`` and ``arrays`` as written by training."""

    def __init__(self, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Check shapes and lay the weights out for the kernels.

        ``arrays``: "item_tokens" (n, K_c, d) of the type ``spec["item_vectors"]`` (absent: float32; int8 has
        "item_scales" (n,) beside it), "item_bias" (n,), and for the MLP kinds "mlp.0.weight",
        "mlp.0.bias", further "mlp.<i>.*", "mlp.out.weight" (H,), "mlp.out.bias" (), for the mixture those of
        ``mixture_shapes``. Raises CorruptIndexError.
        """
        self.spec = dict(spec)
        self.kind = str(spec["kind"])
        if self.kind not in KINDS:
            raise CorruptIndexError(f"rescorer of unknown kind {self.kind!r}, expected one of {', '.join(KINDS)}")
        self.width = count_of(spec, "width", 1, 1 << 16)
        self.item_tokens_per_item = count_of(spec, "item_tokens", 1, 1 << 12)
        self.temperature = number_of(spec, "temperature", 1e-9, 1e9)
        self.relu = choice_of(spec, "activation", ("none", "relu"), "none") == "relu"
        self.bias = 0.0 if spec.get("bias") is None else number_of(spec, "bias", -1e30, 1e30)
        self.has_perceptron = self.kind in ("hadamard", "concatenation")
        self.skip = choice_of(spec, "skip", (True, False), True) or self.kind in ("dot", "counts")
        self.item_count = count_of(spec, "items", 0)
        shape = (self.item_count, self.item_tokens_per_item, self.width)
        self.items = open_items(arrays, str(spec.get("item_vectors", "float32")), shape)
        self.item_bias = _expect(arrays, "item_bias", (self.item_count,))
        self.perceptron = self._open_perceptron(arrays)
        self.mixture: Mixture | None = None
        if self.kind == "mixture":
            for key in ("query_components", "item_components", "hidden"):
                count_of(spec, key, 1, 1 << 12)
            parts = {name: _expect(arrays, name, shape) for name, shape in mixture_shapes(self.spec).items()}
            self.mixture = Mixture(self.spec, parts, self.flat)
        self.bytes = sum(int(np.asarray(a).nbytes) for a in arrays.values())

    @classmethod
    def open(cls, folder: Path, stem: str = "rescorer") -> Rescorer:
        """Open ``<stem>.json`` and ``<stem>.safetensors`` (memory-mapped) of ``folder``."""
        from sparcode.index.arrays import open_encoder_files

        spec, arrays = open_encoder_files(Path(folder), stem)
        try:
            return cls(spec, arrays)
        except CorruptIndexError as problem:
            raise CorruptIndexError(
                f"{folder}/{stem}.json and {stem}.safetensors do not fit: {problem}; put the files back, or train the "
                "run again"
            ) from None
        except (KeyError, TypeError, ValueError) as problem:
            raise CorruptIndexError(
                f"{folder}/{stem}.json does not fit {stem}.safetensors ({type(problem).__name__}: {problem}); "
                "put the files back, or train the run again"
            ) from None

    @cached_property
    def flat(self) -> np.ndarray:
        """The item vectors (n, K_c d) as float32: decoded once, for work on all items."""
        return decoded(self.items)

    def _open_perceptron(self, arrays: Mapping[str, np.ndarray]) -> Perceptron:
        sizes = {"hidden": 0, "layers": 1} | self.spec
        flat, split = self.width * self.item_tokens_per_item, self.width if self.kind == "concatenation" else 0
        if not self.has_perceptron:
            none, empty = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)
            return Perceptron(empty, empty, none, np.zeros((0, 0, 0), np.float32), empty, none, np.float32(0.0), False)
        hidden, layers = count_of(sizes, "hidden", 0, 1 << 16), count_of(sizes, "layers", 1, 64)
        first = _expect(arrays, "mlp.0.weight", (hidden, flat + split)) * np.float32(math.sqrt(self.width))
        first_bias = _expect(arrays, "mlp.0.bias", (hidden,))
        out_weight = _expect(arrays, "mlp.out.weight", (hidden,))
        out_bias = np.float32(np.asarray(arrays["mlp.out.bias"]).reshape(()))
        middle, middle_bias = np.zeros((layers - 1, hidden, hidden), np.float32), np.zeros((layers - 1, hidden), "f")
        for i in range(1, layers):
            middle[i - 1] = _expect(arrays, f"mlp.{i}.weight", (hidden, hidden)).T
            middle_bias[i - 1] = _expect(arrays, f"mlp.{i}.bias", (hidden,))
        return Perceptron(
            np.ascontiguousarray(first[:, :split]),
            np.ascontiguousarray(first[:, split:].T),  # hidden units are contiguous
            first_bias, middle, middle_bias, out_weight, out_bias, self.kind == "hadamard",
        )  # fmt: skip

    def score(self, tokens: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the score float32 (R,) of ``candidates`` (R,) int32 for query tokens (K_u, d)."""
        tokens = np.ascontiguousarray(tokens, np.float32)
        candidates = np.ascontiguousarray(candidates, np.int32)
        if len(candidates) and not 0 <= candidates.min() <= candidates.max() < self.item_count:
            raise IndexError(f"candidate ids must lie in 0..{self.item_count - 1}")
        out = np.zeros(len(candidates), np.float32)
        if self.mixture is None:
            score_candidates(tokens, candidates, self.weights, out)
        else:
            score_with_mixture(tokens, candidates, self.weights, self.mixture.of_candidates(tokens, candidates), out)
        return out

    @cached_property
    def weights(self) -> ScorerWeights:
        """What the kernels take, items as they are stored."""
        cosine = np.float32(1.0 / (self.temperature * self.item_tokens_per_item) if self.skip else 0.0)
        perceptron = None if self.kind in ("dot", "counts") else self.perceptron
        return ScorerWeights(self.items, self.item_bias, cosine, np.float32(self.bias), self.relu, perceptron)

    def score_all(self, tokens: np.ndarray) -> np.ndarray:
        """Return scores (B, n) float32 of every item for tokens (B, K_u, d); items are taken in blocks."""
        batch, heads, width = tokens.shape
        flat = np.ascontiguousarray(tokens, np.float32).reshape(batch * heads, width)
        scores = np.empty((batch, self.item_count), np.float32)
        for start in range(0, self.item_count, ITEM_BLOCK):
            part = self.token_scores(flat, slice(start, start + ITEM_BLOCK))
            if self.relu:
                part = np.maximum(part + np.float32(self.bias), np.float32(0.0))
            scores[:, start : start + ITEM_BLOCK] = part.reshape(batch, heads, -1).sum(axis=1)
        return scores

    def token_scores(self, tokens: np.ndarray, items: slice) -> np.ndarray:
        """Return S (T, I) float32, before any activation, of single tokens (T, d) and a slice of the items."""
        tokens = np.asarray(tokens, np.float32)
        flat = decoded(self.items, items)
        scores = np.broadcast_to(self.item_bias[items], (len(tokens), len(flat))).copy()
        if self.skip:
            mean = flat.reshape(len(flat), -1, self.width).mean(axis=1) / np.float32(self.temperature)
            scores += tokens @ mean.T
        if self.mixture is not None:
            mixed = np.zeros((len(flat), len(tokens)), np.float32)
            self.mixture.add(self.mixture.lanes(tokens), items.indices(self.item_count)[0], mixed)
            scores += mixed.T
        if self.has_perceptron:
            for number, token in enumerate(tokens):
                scores[number] += self._perceptron_of_token(token, flat)
        return scores

    def _perceptron_of_token(self, token: np.ndarray, flat: np.ndarray) -> np.ndarray:
        network = self.perceptron
        if network.hadamard:
            weight = np.tile(token, self.item_tokens_per_item)[:, None] * network.item_weight
            hidden = flat @ weight + network.first_bias
        else:
            hidden = flat @ network.item_weight + (network.query_weight @ token + network.first_bias)
        hidden = np.maximum(hidden, 0.0)
        for weight, bias in zip(network.middle, network.middle_bias, strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        return np.asarray(hidden @ network.out_weight + network.out_bias, np.float32)


def _expect(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise CorruptIndexError(f"the rescorer has no array {name!r}; its spec and its arrays do not belong together")
    array = np.ascontiguousarray(arrays[name], np.float32)
    if array.shape != shape:
        raise CorruptIndexError(f"rescorer array {name!r} has shape {array.shape}, its spec says {shape}")
    return array


@reordered
def score_candidates(tokens, candidates, weights, out):  # type: ignore[no-untyped-def]
    """Add the score of every candidate (R,) int32 for all query tokens (K_u, d) to ``out`` (R,) float32.

    ``weights``: ScorerWeights, of a scorer without a mixture.
    """
    _score_candidates(tokens, candidates, weights, weights.perceptron, out)


@reordered
def _score_candidates(tokens, candidates, weights, perceptron, out):  # type: ignore[no-untyped-def]
    # Whether an argument is None is decided while compiling: what the other kinds need is then not compiled at all.
    if perceptron is None:
        dot_candidates(tokens, candidates, weights, out)
    else:
        score_with_mixture(tokens, candidates, weights, None, out)


@reordered
def score_with_mixture(tokens, candidates, weights, mixture, out):  # type: ignore[no-untyped-def]
    """``score_candidates`` of any scorer; ``mixture`` (K_u, R) or None is added to the score of each token."""
    items, item_bias, cosine, bias, relu, network = weights
    middle, middle_bias, out_weight = network.middle, network.middle_bias, network.out_weight
    width, size, units = tokens.shape[1], vector_length(items), network.first_bias.shape[0]
    buffer = np.empty(size, np.float32)
    folded = np.empty((size, units), np.float32)
    start = np.empty(units, np.float32)
    hidden = np.empty(units, np.float32)
    after = np.empty(units, np.float32)
    for token in range(tokens.shape[0]):
        _fold(tokens[token], network, folded, start)
        for place in range(candidates.shape[0]):
            item = candidates[place]
            vector = item_row(items, item, buffer)
            score = item_bias[item]
            if cosine != 0.0:
                dot = np.float32(0.0)
                for block in range(0, size, width):
                    for j in range(width):
                        dot += tokens[token, j] * vector[block + j]
                score += cosine * dot
            if units > 0:
                dense(vector, folded, start, hidden)
                for layer in range(middle.shape[0]):
                    for h in range(units):
                        hidden[h] = max(hidden[h], np.float32(0.0))
                    dense(hidden, middle[layer], middle_bias[layer], after)
                    for h in range(units):
                        hidden[h] = after[h]
                total = network.out_bias
                for h in range(units):
                    total += out_weight[h] * max(hidden[h], np.float32(0.0))
                score += total
            if mixture is not None:
                score += mixture[token, place]
            out[place] += max(score + bias, np.float32(0.0)) if relu else score


@reordered
def _fold(token, perceptron, folded, start):  # type: ignore[no-untyped-def]
    # W (t * c) = (W * t) c, so one query token turns the first layer into a plain matrix applied to the item.
    query_weight, item_weight, hadamard = perceptron.query_weight, perceptron.item_weight, perceptron.hadamard
    size, units = folded.shape
    width = token.shape[0]
    for h in range(units):
        start[h] = perceptron.first_bias[h]
        if not hadamard:
            total = np.float32(0.0)
            for j in range(width):
                total += query_weight[h, j] * token[j]
            start[h] += total
    for j in range(size):
        factor = token[j % width] if hadamard else np.float32(1.0)
        for h in range(units):
            folded[j, h] = item_weight[j, h] * factor


@contracted
def dense(x, weight, bias, out):  # type: ignore[no-untyped-def]
    # out = bias + x @ weight; four inputs at a time, so that ``out`` is loaded and stored a quarter as often.
    size, units = weight.shape
    for h in range(units):
        out[h] = bias[h]
    whole = size - size % 4
    for j in range(0, whole, 4):
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        for h in range(units):
            # One product a statement, see ``encoder.math.add_product``.
            total = out[h] + x0 * weight[j, h]
            total += x1 * weight[j + 1, h]
            total += x2 * weight[j + 2, h]
            out[h] = total + x3 * weight[j + 3, h]
    for j in range(whole, size):
        for h in range(units):
            out[h] += x[j] * weight[j, h]
