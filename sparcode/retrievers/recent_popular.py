"""Most popular items of the last share of the training events."""

from __future__ import annotations

import numpy as np

from sparcode.retrievers.popular import FixedOrder
from sparcode.types import Sequences


def recent_popular(train: Sequences, item_count: int, *, share: float = 0.1) -> FixedOrder:
    """Build the baseline; the score is the number of events among the last ``share`` of all training events.

    "Last" is by time; without times it is the last ``share`` of each row (rounded up). Events as late as the
    earliest one kept are kept too, so that the order of equal times in the file does not matter. Items without
    a recent event have no score.
    """
    counts = np.bincount(train.items[_recent(train, share)], minlength=item_count).astype(np.float64)
    return FixedOrder("recent-popular", np.where(counts > 0, counts, -np.inf))


def _recent(train: Sequences, share: float) -> np.ndarray:
    if len(train.times) == 0:
        lengths = np.diff(train.indptr)
        from_end = np.repeat(train.indptr[1:], lengths) - np.arange(len(train.items))
        late: np.ndarray = from_end <= np.ceil(share * np.repeat(lengths, lengths))
        return late
    wanted = max(1, int(np.ceil(share * len(train.times))))
    cut = np.partition(train.times, len(train.times) - wanted)[len(train.times) - wanted]
    kept: np.ndarray = train.times >= cut
    return kept
