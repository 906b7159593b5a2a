"""The validation figure that selects the epoch: NDCG@10 of exhaustive scores on a fixed random sample of users."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparcode.build.items.transitions import Transitions
from sparcode.model.sparcode import SparCodeModel
from sparcode.seeding import generator
from sparcode.types import EvaluationSet

CUTOFF = 10
MOST_EVENTS = 20


EVIDENCE_WEIGHT = 5.0
"""What a counted transition weighs beside a cosine / temperature; near the best of the fits of our own tables."""


class Validator:
    """Scores a model by NDCG@10, full ranking; items of the history are left out, unless ``include_seen``.

    ``counted``: lists whose evidence is added to the model's scores, event of age a times ``decay`` ^ a. A model whose
    lists will be merged with counts must be chosen by what it adds to them: alone it is best when it has learned
    them too, and then adds least (Beauty: item lists with counts .0743 against .0805 validation NDCG@10).
    """

    def __init__(
        self, evaluation: EvaluationSet, users: int, history: int, features: np.ndarray | None, seed: int,
        counted: Transitions | None = None, decay: float = 0.7, include_seen: bool = False,
    ) -> None:  # fmt: skip
        usable = np.flatnonzero(np.diff(evaluation.queries.indptr) > 0)
        rng = generator(seed, "validation-sample")
        chosen = np.sort(rng.choice(usable, size=min(users, len(usable)), replace=False))
        self.histories = [evaluation.queries.history(row) for row in chosen]
        self.targets = [evaluation.targets(row) for row in chosen]
        self.history, self.include_seen = history, include_seen
        self.features = None if features is None else torch.from_numpy(features[evaluation.users[chosen]])
        self.evidence = None if counted is None else [_evidence(counted, events, decay) for events in self.histories]

    def __len__(self) -> int:
        return len(self.histories)

    @torch.no_grad()
    def measure(self, model: SparCodeModel, quantised: bool) -> dict[str, float]:
        """Return ``ndcg@10`` of the unquantised score and, if asked, ``quantised_ndcg@10`` of the quantised one."""
        model.eval()
        table = model.items.table()
        size = int(np.clip(20_000_000 // (model.item_count * max(model.config.scorer.hidden, 1)), 4, 256))
        totals = np.zeros(2)
        for low in range(0, len(self), size):
            tokens = self._tokens(model, table, low, min(low + size, len(self)))
            totals[0] += self._gain(model.score_all(table, tokens), low)
            if quantised:
                totals[1] += self._gain(model.score_all(table, tokens, quantised=True), low)
        means = totals / max(len(self), 1)
        return {"ndcg@10": float(means[0])} | ({"quantised_ndcg@10": float(means[1])} if quantised else {})

    def _tokens(self, model: SparCodeModel, table: Tensor, low: int, high: int) -> Tensor:
        device = model.items.known.device
        items, lengths = pad_histories(self.histories[low:high], self.history)
        features = None if self.features is None else self.features[low:high].to(device)
        return model.last_tokens(table, items.to(device), lengths.to(device), features)

    def _gain(self, scores: Tensor, low: int) -> float:
        scores = scores.float().cpu()
        total = 0.0
        for row, score in enumerate(scores):
            if self.evidence is not None:
                items, values = self.evidence[low + row]
                score[items] += values
            if not self.include_seen:
                score[torch.from_numpy(self.histories[low + row].astype(np.int64))] = -torch.inf
        # The ids of equal scores ascend, as everywhere: a stable sort of the negated scores.
        best = torch.topk(scores, min(4 * CUTOFF, scores.shape[1]), dim=1).indices.sort(dim=1).values
        order = scores.gather(1, best).argsort(dim=1, descending=True, stable=True)
        top = best.gather(1, order)[:, :CUTOFF]
        ranked = torch.isfinite(scores.gather(1, top)).numpy()  # in a tiny catalogue items of the history come last
        for row, ids in enumerate(top.numpy()):
            targets = self.targets[low + row]
            hits = np.isin(ids, targets) & ranked[row]
            ideal = (1 / np.log2(np.arange(2, 2 + min(len(targets), CUTOFF)))).sum()
            total += float((hits / np.log2(np.arange(2, 2 + len(ids)))).sum() / ideal)
        return total


def _evidence(counted: Transitions, history: np.ndarray, decay: float) -> tuple[Tensor, Tensor]:
    """Return distinct items and their weighted counts after a history, times EVIDENCE_WEIGHT."""
    recent = history[::-1][:MOST_EVENTS]
    rows = [counted.row(int(item)) for item in recent]
    items = np.concatenate([row[0] for row in rows]).astype(np.int64)
    values = np.concatenate([row[1] * decay**age for age, row in enumerate(rows)])
    found, place = np.unique(items, return_inverse=True)
    sums = EVIDENCE_WEIGHT * np.bincount(place.reshape(-1), values, len(found))
    return torch.from_numpy(found), torch.from_numpy(sums.astype(np.float32))


def pad_histories(histories: list[np.ndarray], history: int) -> tuple[Tensor, Tensor]:
    """Return the last ``history`` events of each row as (R, history) int64, padded on the right, and lengths (R,)."""
    items = np.zeros((len(histories), history), np.int64)
    lengths = np.zeros(len(histories), np.int64)
    for row, events in enumerate(histories):
        recent = events[-history:]
        items[row, : len(recent)] = recent
        lengths[row] = len(recent)
    return torch.from_numpy(items), torch.from_numpy(lengths)
