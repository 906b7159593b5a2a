"""Which codes the queries of training use, how often, and what followed them."""

from __future__ import annotations

import numpy as np

from sparcode.index.arrays import Arrays


def code_traffic(codes: np.ndarray, targets: np.ndarray, item_count: int) -> Arrays:
    """Return the arrays of ``codes.safetensors`` for X queries.

    ``codes`` (X, M); ``targets`` (X,) the item that followed each query, -1 where none did. Arrays: ``codes`` (U, M)
    uint16 in ascending order, ``traffic`` (U,) int64, and as CSR over codes the next items seen under each code:
    ``next_indptr`` (U + 1,) int64, ``next_items`` int32, ``next_counts`` int32.
    """
    unique, inverse, traffic = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    known = targets >= 0
    pairs = inverse.reshape(-1)[known].astype(np.int64) * item_count + targets[known]
    pairs, counts = np.unique(pairs, return_counts=True)
    rows = pairs // item_count
    return {
        "codes": unique.astype(np.uint16),
        "traffic": traffic.astype(np.int64),
        "next_indptr": np.searchsorted(rows, np.arange(len(unique) + 1)).astype(np.int64),
        "next_items": (pairs % item_count).astype(np.int32),
        "next_counts": counts.astype(np.int32),
    }
