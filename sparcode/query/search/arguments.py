"""What kernels are given together. Tuples cost nothing in compiled code; ``linked`` and ``pack`` take them as well."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Lists(NamedTuple):
    """Posting lists of an index: ``indptr`` (rows + 1,) uint64 delimits them in ``postings`` (P,) uint32."""

    indptr: np.ndarray
    postings: np.ndarray


class SparseQuery(NamedTuple):
    """Rows a query reads, (K,) int32, and how much each counts, (K,) int32, at least 1."""

    rows: np.ndarray
    weights: np.ndarray


class Filters(NamedTuple):
    """What may not be answered: ids ``seen``, int32; items not in ``allow``, items in ``deny``, (n,) bool or empty."""

    seen: np.ndarray
    allow: np.ndarray
    deny: np.ndarray


class Answers(NamedTuple):
    """Where answers go, the best first: ``ids`` (k,) int32 and ``sums`` (k,) uint32; of a batch (B, k)."""

    ids: np.ndarray
    sums: np.ndarray


class Accumulators(NamedTuple):
    """Where kernels start (``fitting.ENTRIES``) and the scratch of one thread.

    ``narrow`` (n + 1,) uint16 and ``wide`` (n + 1,) uint32, all zero between calls. ``work`` uint64: BUCKETS histogram
    cells, all zero between calls, then two halves of equal size, each with room for n and the longest list.
    """

    entries: np.ndarray
    narrow: np.ndarray
    wide: np.ndarray
    work: np.ndarray
