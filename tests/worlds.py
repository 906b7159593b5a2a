"""Small worlds of the model, training and pipeline tests: configurations, planted data, random parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.config import Config, updated
from sparcode.data.synthetic import planted_groups
from sparcode.types import Queries, Sequences

TINY: dict[str, Any] = {
    "model.width": 16,
    "model.heads": 2,
    "model.history": 8,
    "model.dropout": 0.1,
    "quantizer.books": 2,
    "quantizer.codewords": 8,
    "quantizer.warmup": 0.34,
    "scorer.hidden": 6,
    "loss.negatives": 12,
    "train.epochs": 3,
    "train.batch_positions": 256,
    "train.learning_rate": 1e-2,
    "train.threads": 1,
    "query.rescore": 20,
}
"""A configuration that trains in a second."""


def tiny_config(**changes: Any) -> Config:
    """Return the tiny configuration with dotted keys replaced: ``tiny_config(**{"model.heads": 1})``."""
    return updated(Config(), TINY | changes)


def planted_table(users: int = 60, items: int = 40, seed: int = 0, noise: float = 0.1) -> pa.Table:
    """Return interactions in which users follow a noisy cycle of the items of their group."""
    return planted_groups(users, items, 4, 10, noise=noise, seed=seed).interactions


def sequences_of(rows: list[list[int]]) -> Sequences:
    """Return lists of items as sequences without times."""
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Sequences(indptr, np.array(sum(rows, []), np.int32), np.empty(0))


def queries_of(histories: list[list[int]], features: np.ndarray | None = None) -> Queries:
    """Return histories as a batch of queries."""
    rows = sequences_of(histories)
    return Queries(rows.indptr, rows.items, features)


def random_sequences(rng: np.random.Generator, rows: int, longest: int, items: int) -> Sequences:
    """Return sequences of random lengths 0..longest."""
    lengths = rng.integers(0, longest + 1, rows)
    return sequences_of([rng.integers(0, items, length).tolist() for length in lengths])
