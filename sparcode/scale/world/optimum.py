"""The best items of users over a catalogue that passes by in pieces, with their exact probabilities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Optimum(NamedTuple):
    """The best k items of B users, best first, equal ones by id.

    ``ids``: (B, k) int64. ``probability``: (B, k) float64, P(c | u) over the items that were ranked.
    """

    ids: np.ndarray
    probability: np.ndarray

    @property
    def ndcg(self) -> np.ndarray:
        """Float64 (B,): expected NDCG@k of this ranking for one next event. No ranking has a larger one."""
        return np.asarray(self.probability @ (1 / np.log2(np.arange(2, self.ids.shape[1] + 2))))

    @property
    def recall(self) -> np.ndarray:
        """Float64 (B,): expected recall@k for one next event."""
        return np.asarray(self.probability.sum(axis=1))


class Best:
    """The best k items of some users so far, and the sum of exp over all items seen so far."""

    def __init__(self, histories: list[np.ndarray], k: int) -> None:
        self.k = k
        self.seen_rows = np.repeat(np.arange(len(histories)), list(map(len, histories)))
        self.seen_items = np.concatenate(histories)
        self.scores = np.full((len(histories), k), -np.inf)
        self.ids = np.full((len(histories), k), np.iinfo(np.int64).max)
        self.log_total = np.full(len(histories), -np.inf)

    def add(self, scores: np.ndarray, start: int) -> None:
        """Take the scores of items ``start`` on; (B, items), overwritten."""
        here = (self.seen_items >= start) & (self.seen_items < start + scores.shape[1])
        scores[self.seen_rows[here], self.seen_items[here] - start] = -np.inf
        rows, columns = np.nonzero(scores >= self.scores[:, -1:])
        # Rows of different length: all candidates in one list, sorted by row, score, id, and cut at k a row.
        kept = np.repeat(np.arange(len(self.scores)), self.k)
        rows = np.concatenate([kept, rows])
        values = np.concatenate([self.scores.ravel(), scores[rows[len(kept) :], columns]])
        ids = np.concatenate([self.ids.ravel(), columns + start])
        order = np.lexsort((ids, -values, rows))
        place = np.arange(len(rows)) - np.searchsorted(rows[order], np.arange(len(self.scores)))[rows[order]]
        order = order[place < self.k]
        self.scores, self.ids = values[order].reshape(-1, self.k), ids[order].reshape(-1, self.k)
        self.log_total = np.logaddexp(self.log_total, _log_sum_exp(scores))

    def optimum(self) -> Optimum:
        """Return the result; all items must have been added."""
        return Optimum(self.ids, np.exp(self.scores - self.log_total[:, None]))


def _log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Return log Σ exp of every row, -inf for a row of -inf alone; overwrites ``scores``."""
    largest = scores.max(axis=1)
    largest[np.isneginf(largest)] = 0.0
    scores -= largest[:, None]
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(scores, out=scores).sum(axis=1)) + largest)
