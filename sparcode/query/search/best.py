"""The order of answers, score descending and id ascending, and a row of the best k that is kept in it."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact


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
