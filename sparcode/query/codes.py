"""From composite codes to posting lists: stored codes directly, all others through their nearest stored code."""

from __future__ import annotations

import numpy as np

from sparcode.index.layout import Index, composite

BLOCK_CELLS = 1 << 24
"""Distances (query code x stored code) computed at a time when no table holds the answer."""
MOST_REMEMBERED = 1 << 20
"""Answers for codes that are not stored, kept so that a repeated query does not search again."""


class CodeResolver:
    """Maps codes (..., M) to learned rows; the nearest stored code is the one whose decoded vector is nearest.

    With a fallback table (N^M <= 2^18) a look-up. Otherwise a binary search among the stored codes, and for codes
    that are not stored a search over sub-codebook tables: |x - y|^2 of decoded codes x, y is a sum of M look-ups
    for product codes, and of inner products of codewords for residual ones.
    """

    def __init__(self, index: Index, codebooks: np.ndarray, kind: str) -> None:
        self.first_row = index.family("learned").first_row
        self.codewords = codebooks.shape[1]
        self.table = index.code_rows
        self.stored = np.asarray(index.code_table)
        if self.table is None:
            keys = composite(self.stored, self.codewords)
            self.order = np.argsort(keys, kind="stable")
            self.keys = keys[self.order]
            self.decoded = decode(self.stored, codebooks, kind)
            self.codebooks, self.kind = codebooks, kind
            self._known: dict[int, int] = {}

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Return int32 row numbers (...) of codes (..., M)."""
        keys = composite(codes, self.codewords)
        if self.table is not None:
            return self.table[keys] + np.int32(self.first_row)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = self.order[place]
        missing = self.keys[place] != keys
        if missing.any():
            found = np.where(missing, 0, found)
            found[missing] = self._nearest_cached(codes[missing], keys[missing])
        return (found + self.first_row).astype(np.int32)

    def _nearest_cached(self, codes: np.ndarray, keys: np.ndarray) -> np.ndarray:
        unknown = [place for place, key in enumerate(keys.tolist()) if key not in self._known]
        if unknown:
            nearest = nearest_stored(decode(codes[unknown], self.codebooks, self.kind), self.decoded)
            if len(self._known) > MOST_REMEMBERED:
                self._known.clear()
            self._known.update(zip(keys[unknown].tolist(), nearest.tolist(), strict=True))
        return np.array([self._known[key] for key in keys.tolist()], np.int64)


def decode(codes: np.ndarray, codebooks: np.ndarray, kind: str) -> np.ndarray:
    """Return the vectors (X, d) float32 of codes (X, M): concatenated codewords (product) or their sum (residual)."""
    parts = [book[column] for book, column in zip(codebooks, codes.T, strict=True)]
    if kind == "product":
        return np.concatenate(parts, axis=1).astype(np.float32)
    return np.asarray(np.sum(parts, axis=0, dtype=np.float32))


def nearest_stored(vectors: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return the row (X,) int64 of ``stored`` (C, d) nearest to each of ``vectors`` (X, d); ties to the smaller."""
    norms = 0.5 * (stored * stored).sum(1)
    step = max(1, BLOCK_CELLS // max(len(stored), 1))
    blocks = [(norms - vectors[low : low + step] @ stored.T).argmin(1) for low in range(0, len(vectors), step)]
    return np.concatenate(blocks) if blocks else np.empty(0, np.int64)
