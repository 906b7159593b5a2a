"""Stored codes: which learned codes get a list, and to which of them every other code falls back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.index.layout import MAX_CODE_TABLE, composite
from sparcode.query.codes import decode, nearest_stored


@dataclass(frozen=True)
class Stored:
    """The learned codes that get lists: ``codes`` (C, M) uint16 ascending, ``traffic`` (C,), ``codewords`` N."""

    codes: np.ndarray
    traffic: np.ndarray
    codewords: int


def busiest(codes: np.ndarray, traffic: np.ndarray, codewords: int, most: int | None) -> Stored:
    """Keep the ``most`` used codes (all when None), ties by smaller code, in ascending order."""
    keys = composite(codes, codewords)
    chosen = np.lexsort((keys, -traffic))[:most]
    chosen = chosen[np.argsort(keys[chosen])]
    return Stored(codes[chosen], traffic[chosen], codewords)


def fallback_table(stored: Stored, codebooks: np.ndarray, kind: str) -> np.ndarray | None:
    """Return the nearest stored row (N^M,) int32 of every composite code, None when N^M > 2^18."""
    books, codewords = stored.codes.shape[1], stored.codewords
    if codewords**books > MAX_CODE_TABLE:
        return None
    every = np.indices((codewords,) * books).reshape(books, -1).T.astype(np.uint16)
    return nearest_rows(every, stored, codebooks, kind).astype(np.int32)


def nearest_rows(codes: np.ndarray, stored: Stored, codebooks: np.ndarray, kind: str) -> np.ndarray:
    """Return the stored row (X,) of codes (X, M): their own where stored, else the nearest by decoded vectors."""
    keys, own = composite(codes, stored.codewords), composite(stored.codes, stored.codewords)
    rows = np.searchsorted(own, keys).clip(max=len(own) - 1)
    missing = own[rows] != keys
    if missing.any():
        rows[missing] = nearest_stored(decode(codes[missing], codebooks, kind), decode(stored.codes, codebooks, kind))
    return rows


def rows_of(
    codes: np.ndarray, stored: Stored, table: np.ndarray | None, codebooks: np.ndarray, kind: str
) -> np.ndarray:
    """Return the stored row (X,) of codes (X, M) as ``nearest_rows`` does, by the fallback table if there is one."""
    keys = composite(codes, stored.codewords)
    if table is not None:
        return table[keys]
    unique, inverse = np.unique(keys, return_inverse=True)
    first = np.zeros(len(unique), np.int64)
    first[inverse.reshape(-1)] = np.arange(len(keys))
    return nearest_rows(codes[first], stored, codebooks, kind)[inverse.reshape(-1)]
