"""SIDs as sortable keys: one number where the capacity fits into 63 bits, big-endian bytes where it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def keys(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return (n,) keys of codes (n, L), ordered as the codes are: by the first digit, then the second, and so on.

    The digits must lie in their sizes. Keys of the same sizes can be compared, those of others cannot.
    """
    codes = np.asarray(codes)
    if math.prod(sizes) < 1 << 63:
        key = np.zeros(len(codes), np.int64)
        for digit, size in enumerate(sizes):
            key = key * size + codes[:, digit]
        return key
    # Padding of a bytes type is zeros, which compare below everything: fixed-width text is safe to compare.
    wide = np.ascontiguousarray(codes, dtype=">u4")
    return wide.view(f"S{4 * wide.shape[1]}").reshape(len(codes))


@dataclass(frozen=True)
class Groups:
    """Rows by key: group g is ``order[starts[g]:starts[g + 1]]``, rows ascending; ``of`` (n,) is the group of a row."""

    order: np.ndarray
    starts: np.ndarray
    of: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Return the rows of every group, (groups,) int64."""
        return np.diff(self.starts)


def group(key: np.ndarray) -> Groups:
    """Group rows (n,) by equal key; groups are in the order of their keys."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    new = np.ones(len(key), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    starts = np.append(np.flatnonzero(new), len(key))
    of = np.empty(len(key), np.int64)
    of[order] = np.cumsum(new) - 1
    return Groups(order, starts, of)


def rank_in_group(key: np.ndarray) -> np.ndarray:
    """Return for every row how many earlier rows have its key, (n,) int64."""
    groups = group(key)
    rank = np.empty(len(key), np.int64)
    rank[groups.order] = np.arange(len(key)) - np.repeat(groups.starts[:-1], groups.counts)
    return rank
