"""A small evaluation set with several targets and retrievers of known quality."""

from __future__ import annotations

import numpy as np

from sparcode.retrievers.ranking import rank_scores
from sparcode.types import EvaluationSet, Hits, Queries

ITEMS = 60


def evaluation_set(users: int = 40, targets: int = 1, seed: int = 0) -> EvaluationSet:
    """Histories of 3 items and ``targets`` distinct later items that are not among them."""
    random = np.random.default_rng(seed)
    rows = np.array([random.permutation(ITEMS)[: 3 + targets] for _ in range(users)], np.int32)
    queries = Queries(np.arange(users + 1) * 3, rows[:, :3].ravel())
    return EvaluationSet(
        np.arange(users, dtype=np.int32) + 100, queries, np.arange(users + 1) * targets, rows[:, 3:].ravel()
    )


class Planted:
    """Puts each query's first target at a known rank (``places[row]``), the other items by id."""

    def __init__(self, part: EvaluationSet, places: np.ndarray, name: str = "planted") -> None:
        self.name = name
        self.calls = 0
        self._rank = {self._key(part.queries, row): int(places[row]) for row in range(len(part))}
        self._target = {self._key(part.queries, row): int(part.targets(row)[0]) for row in range(len(part))}

    @staticmethod
    def _key(queries: Queries, row: int) -> bytes:
        return queries.history(row).tobytes()

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        self.calls += 1

        def block(start: int, stop: int) -> np.ndarray:
            scores = np.tile(-np.arange(ITEMS, dtype=np.float32), (stop - start, 1))
            for row in range(start, stop):
                key, history = self._key(queries, row), set(queries.history(row).tolist())
                others = [item for item in range(ITEMS) if item not in history and item != self._target[key]]
                order = [*others[: self._rank[key]], self._target[key], *others[self._rank[key] :]]
                scores[row - start, order] = -np.arange(len(order), dtype=np.float32)
            return scores

        return rank_scores(block, queries, k, ITEMS, include_seen)


class Names:
    """External ids: a prefix and the number."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def to_external(self, ids: np.ndarray) -> list[str]:
        return [f"{self.prefix}{int(number)}" for number in ids]
