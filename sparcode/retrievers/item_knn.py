"""Item-kNN: cosine similarity of the sets of training users two items share."""

from __future__ import annotations

import numpy as np

from sparcode.jit import exact
from sparcode.retrievers.lists import ItemLists
from sparcode.retrievers.ranking import select
from sparcode.types import Sequences


def item_knn(train: Sequences, item_count: int, *, neighbours: int = 50) -> ItemLists:
    """Build the baseline: score = sum over the distinct history items of their cosine to the item.

    cosine(i, j) = |users(i) & users(j)| / sqrt(|users(i)| |users(j)|); only the ``neighbours`` best of each
    item are kept (ties: smaller id). Time is the sum over users of the square of their distinct items.
    """
    indptr, items, values = cosine_lists(train, item_count, neighbours)
    return ItemLists("item-knn", indptr, items, values, distinct=True)


def cosine_lists(train: Sequences, item_count: int, neighbours: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the neighbour lists as indptr (n + 1,) int64, items int32, values float32, best first."""
    rows = np.repeat(np.arange(len(train), dtype=np.int64), np.diff(train.indptr))
    pairs = np.unique(rows * item_count + train.items)
    row_items = (pairs % item_count).astype(np.int32)
    row_indptr = np.concatenate(([0], np.cumsum(np.bincount(pairs // item_count, minlength=len(train)))))
    by_item = np.argsort(row_items, kind="stable")
    item_rows = (pairs // item_count)[by_item]
    item_indptr = np.concatenate(([0], np.cumsum(np.bincount(row_items, minlength=item_count))))
    width = min(neighbours, item_count)
    ids, scores, counts = _neighbours(row_indptr, row_items, item_indptr, item_rows, width)
    kept = np.arange(width) < counts[:, None]
    return np.concatenate(([0], np.cumsum(counts))), ids[kept], scores[kept]


@exact
def _neighbours(
    row_indptr: np.ndarray, row_items: np.ndarray, item_indptr: np.ndarray, item_rows: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(item_indptr) - 1
    ids = np.zeros((n, width), np.int32)
    scores = np.zeros((n, width), np.float32)
    counts = np.zeros(n, np.int64)
    shared = np.zeros(n, np.int64)
    cosine = np.empty(n, np.float32)
    blocked = np.zeros(n, np.bool_)
    for item in range(n):
        shared[:] = 0
        for place in range(item_indptr[item], item_indptr[item + 1]):
            row = item_rows[place]
            for other in range(row_indptr[row], row_indptr[row + 1]):
                shared[row_items[other]] += 1
        own = item_indptr[item + 1] - item_indptr[item]
        for other in range(n):
            users = item_indptr[other + 1] - item_indptr[other]
            cosine[other] = shared[other] / np.sqrt(own * users) if shared[other] > 0 else -np.inf
        blocked[item] = True
        counts[item] = select(cosine, blocked, ids[item], scores[item])
        blocked[item] = False
    return ids, scores, counts
