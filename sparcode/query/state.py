"""A batch between the stages: encoded queries, and the candidates that their lists gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.errors import QueryError
from sparcode.types import Queries


@dataclass(frozen=True)
class QueryState:
    """Encoded queries: tokens (B, K_u, d), ``known`` (B,) (the encoder had something to read), and the posting
    lists to read as CSR ``rows``/``weights`` by ``indptr`` (B + 1,); of query b the lists from
    ``item_start[b]`` on are evidence: those of all families but the learned one."""

    queries: Queries
    tokens: np.ndarray
    known: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    indptr: np.ndarray
    item_start: np.ndarray


@dataclass(frozen=True)
class Candidates:
    """Best items of each query by cached sums: ids (B, R) int32 padded with -1, sums (B, R) uint32."""

    ids: np.ndarray
    sums: np.ndarray


def check_items(queries: Queries, item_count: int) -> None:
    """Raise QueryError for an item outside 0..n-1 in a history."""
    items = queries.items
    if len(items) and (items.min() < 0 or items.max() >= item_count):
        raise QueryError(f"a history holds an internal item id outside 0..{item_count - 1}")
