"""The order of answers, score descending and id ascending, and how one more answer is put in its place.

Where scores are whole numbers, score and id are one key (see ``touched``), the larger the better: two keys are compared
and moved at once. Elsewhere ids and scores stand in two rows.
"""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact, exact_inlined
from sparcode.query.search.base import Number


@exact
def worse(score: float, item: int, other_score: float, other_item: int) -> bool:
    """True when (score, item) stands behind (other_score, other_item)."""
    return score < other_score or (score == other_score and item > other_item)


@exact
def insert_best(ids: np.ndarray, scores: np.ndarray, count: int, item: int, score: float) -> int:
    """Insert into a best-first row (k,) of ``count`` entries if it is good enough; return the new count."""
    k = len(ids)
    if count == k and not worse(scores[k - 1], ids[k - 1], score, item):
        return count
    place = count if count < k else k - 1
    while place > 0 and worse(scores[place - 1], ids[place - 1], score, item):
        ids[place] = ids[place - 1]
        scores[place] = scores[place - 1]
        place -= 1
    ids[place] = item
    scores[place] = score
    return min(count + 1, k)


@exact_inlined
def insert_key(keys: np.ndarray, place: Number, key: Number, gap: Number) -> None:
    """Put ``key`` among the keys that stand before ``place``, at steps of ``gap``, and descend; smaller ones move up.

    The key at ``place`` is written over.
    """
    while place >= gap and keys[place - gap] < key:
        keys[place] = keys[place - gap]
        place -= gap
    keys[place] = key
