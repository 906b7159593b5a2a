"""A semantic-ID decoder with random weights: beam search over levels, every matrix product counted.

It costs what a trained one costs and finds nothing. It is a lower bound: no encoder of the history, no prefix trie
that keeps to existing items, no softmax over more than N codewords, numpy's matrix products for all of it.
"""

from __future__ import annotations

import numpy as np

from costing.formulas import Decoder


class BeamSearch:
    """Decodes with random weights; ``products`` counts the multiplications of matrix products since it was made."""

    def __init__(self, sizes: Decoder, seed: int = 0) -> None:
        self.sizes, self.products = sizes, 0
        random = np.random.default_rng(seed)
        w, f = sizes.width, sizes.inner

        def weights(*shape: int) -> np.ndarray:
            return (random.normal(size=shape) / np.sqrt(shape[-2])).astype(np.float32)

        self.words = weights(sizes.levels, sizes.codewords, w)
        self.out = weights(sizes.levels, w, sizes.codewords)
        self.start = weights(1, w)
        self.attention = weights(sizes.layers, 6, w, w)
        self.up, self.down = weights(sizes.layers, w, f), weights(sizes.layers, f, w)
        self.keys, self.values = (weights(sizes.layers, sizes.context, w) for _ in range(2))

    def search(self, beams: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the b most likely codes found (b, L) int64 and their log probabilities (b,) float32, best first."""
        sizes = self.sizes
        state, scores = self.start, np.zeros(1, np.float32)
        paths = np.zeros((1, 0), np.int64)
        past = np.zeros((2, sizes.layers, 1, 0, sizes.width), np.float32)
        for level in range(sizes.levels):
            hidden, past = self._layers(state, past)
            total = scores[:, None] + log_softmax(self._product(hidden, self.out[level]))
            best = largest(total.ravel(), beams)
            parents, words = np.divmod(best, sizes.codewords)
            scores, past = total.ravel()[best], past[:, :, parents]
            paths = np.concatenate([paths[parents], words[:, None]], axis=1)
            state = self.words[level][words]
        return paths, scores

    def _layers(self, state: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run all layers on one new position of every beam (b, w); ``past``: keys and values (2, D, b, t, w)."""
        grown = np.empty((*past.shape[:3], past.shape[3] + 1, past.shape[4]), np.float32)
        grown[:, :, :, :-1] = past
        for layer in range(self.sizes.layers):
            query, key, value, mix, cross, cross_mix = self.attention[layer]
            new = normed(state)
            grown[0, layer, :, -1], grown[1, layer, :, -1] = self._product(new, key), self._product(new, value)
            state = state + self._product(self._own(self._product(new, query), *grown[:, layer]), mix)
            asked = self._product(normed(state), cross)
            state = state + self._product(self._shared(asked, self.keys[layer], self.values[layer]), cross_mix)
            state = state + self._product(np.maximum(self._product(normed(state), self.up[layer]), 0), self.down[layer])
        return state, grown

    def _own(self, asked: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Attention of every beam to its own past: (b, w), (b, t, w) twice -> (b, w)."""
        self.products += 2 * keys.size
        shares = softmax(np.matmul(keys, asked[:, :, None])[:, :, 0])
        return np.matmul(shares[:, None, :], values)[:, 0]

    def _shared(self, asked: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Attention of every beam to the one context: (b, w), (T, w) twice -> (b, w)."""
        return self._product(softmax(self._product(asked, keys.T)), values)

    def _product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.products += left.size * right.shape[-1]
        return left @ right


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the ``count`` largest values, largest first."""
    count = min(count, len(values))
    places = np.argpartition(values, len(values) - count)[len(values) - count :]
    return places[np.argsort(-values[places], kind="stable")]


def normed(state: np.ndarray) -> np.ndarray:
    """Return rows (b, w) of root mean square 1."""
    return state / np.sqrt((state * state).mean(axis=1, keepdims=True) + np.float32(1e-6))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return rows (b, t) of exponentials that sum to 1."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return rows (b, N) of log probabilities."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
