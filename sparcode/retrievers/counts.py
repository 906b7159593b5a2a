"""Item -> next-item transition counts alone: the lists of the ``item`` family without learned codes."""

from __future__ import annotations

import numpy as np

from sparcode.retrievers.lists import ItemLists


def counts(
    indptr: np.ndarray, items: np.ndarray, values: np.ndarray, *, decay: float = 0.7, history: int = 20
) -> ItemLists:
    """Build the baseline from transition lists (CSR, one row an item; float values above 0).

    The event of age a (0 = the last) has weight ``decay^a``; the last ``history`` events are read.
    """
    return ItemLists("counts", indptr, items, values, decay=decay, history=history)
