"""Synthetic posting lists, vectors, queries and scorers of given sizes; the same seed gives the same world."""

from __future__ import annotations

import numpy as np

from sparcode.index.layout import Family, Index, make_index, pack
from sparcode.query.rescore.rescorer import Rescorer

TOPIC_ITEMS = 4096
"""Items of a topic: half of a list comes from its topic, half from all items by popularity."""


def posting_index(items: int, codes: int, mean_list: int, seed: int = 0) -> Index:
    """Return an index of C lists of about p postings (an item drawn twice for a list is in it once)."""
    random = np.random.default_rng([seed, items, codes, mean_list])
    half = mean_list // 2
    popular = (items * random.random((codes, mean_list - half)) ** 2).astype(np.int64)
    pool = min(items, max(TOPIC_ITEMS, 2 * mean_list))
    topics = max(1, items // pool)
    first = random.integers(0, topics, (codes, 1)) * pool
    own = np.minimum(first + random.integers(0, pool, (codes, half)), items - 1)
    keys = np.unique(np.concatenate([popular, own], axis=1) + np.arange(codes)[:, None] * items)
    indptr = np.searchsorted(keys, np.arange(codes + 1) * items)
    impacts = np.clip(random.exponential(50, len(keys)), 1, 255).astype(np.int64)
    return make_index(indptr, pack(keys % items, impacts), items, 1.0, [Family("codes", 0, codes)])


def code_queries(count: int, codes: int, tokens: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return queries of K_u different rows (int32) of weight 1, uniform, so that lists are seldom in a near cache."""
    random = np.random.default_rng([seed, codes, tokens])
    weights = np.ones(tokens, np.int32)
    return [(random.choice(codes, tokens, replace=False).astype(np.int32), weights) for _ in range(count)]


def vectors(items: int, width: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors of items (n, d) and queries (queries, 1, d) float32 around a thousand centres."""
    random = np.random.default_rng([seed, width])
    centres = random.normal(size=(1000, width)).astype(np.float32)

    def around(count: int) -> np.ndarray:
        found = centres[random.integers(0, 1000, count)] + random.normal(size=(count, width)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    asked = around(queries)
    return around(items), asked[:, None, :]


def scorer(kind: str, items: int, width: int, item_tokens: int = 1, hidden: int = 0, seed: int = 0) -> Rescorer:
    """Return an all-to-all scorer with random weights; ``hidden`` > 0 for the kinds with a perceptron."""
    random = np.random.default_rng(seed)
    flat = width * item_tokens
    arrays = {
        "item_tokens": random.normal(size=(items, item_tokens, width)) / 8,
        "item_bias": random.normal(size=items),
    }
    if hidden:
        arrays |= {
            "mlp.0.weight": random.normal(size=(hidden, flat)) / 8, "mlp.0.bias": random.normal(size=hidden),
            "mlp.out.weight": random.normal(size=hidden), "mlp.out.bias": np.zeros(()),
        }  # fmt: skip
    spec = {
        "kind": kind, "hidden": hidden, "layers": 1, "skip": True, "temperature": 0.1, "item_tokens": item_tokens,
        "width": width, "items": items, "activation": "none",
    }  # fmt: skip
    return Rescorer(spec, {name: np.asarray(array, np.float32) for name, array in arrays.items()})


def product_codes(count: int, books: int, codewords: int, seed: int = 0) -> np.ndarray:
    """Return C different codes (C, M) uint16 in ascending order."""
    random = np.random.default_rng([seed, count])
    chosen = np.sort(random.choice(codewords**books, count, replace=False))
    return np.stack(np.unravel_index(chosen, (codewords,) * books), axis=1).astype(np.uint16)
