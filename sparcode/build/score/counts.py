"""The ``counts`` scorer: log-frequency of an item as the next item under a code, with back-off. No training.

P(c)         = (n_c + 1) / (sum + n)                                      add-one smoothed popularity
P_m(c | k_m) = (n_{m,k_m,c} + mu P(c)) / (n_{m,k_m} + mu)                 one sub-book's codeword
P(c | code)  = (n_{code,c} + mu mean_m P_m(c | k_m)) / (n_code + mu)      Dirichlet back-off, mu = 20
S            = log P(c | code)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparcode.errors import CorruptIndexError
from sparcode.query.model_checks import read_codes

BACK_OFF = 20.0


class CountPlan:
    """Codes to score, with the rows they have among the counted codes (-1: never seen)."""

    def __init__(self, slots: np.ndarray, rows: np.ndarray) -> None:
        self.slots, self.rows = slots, rows


class CountScorer:
    """Scores codes by counts; offers the same calls as ``CodeScorer``."""

    def __init__(
        self, codes: np.ndarray, indptr: np.ndarray, items: np.ndarray, counts: np.ndarray, item_count: int
    ) -> None:
        """``codes`` (U, M) and, as CSR over them, the next items seen under each with their counts."""
        self.codes, self.indptr, self.items, self.item_count = codes, indptr, items, item_count
        self.counts = np.asarray(counts, np.float64)
        self._row = {code.tobytes(): row for row, code in enumerate(np.ascontiguousarray(codes, np.uint16))}
        self._owner = np.repeat(np.arange(len(codes)), np.diff(indptr))
        total = np.bincount(items, self.counts, item_count)
        self.popularity = (total + 1) / (total.sum() + item_count)

    @classmethod
    def open(cls, model: Path, item_count: int) -> CountScorer:
        """Open the counts of ``model/codes.safetensors``; CorruptIndexError when it holds none."""
        path = Path(model) / "codes.safetensors"
        arrays = read_codes(path, item_count)
        if "next_indptr" not in arrays:
            raise CorruptIndexError(f"{path} holds no next-item counts; train the run again")
        return cls(arrays["codes"], arrays["next_indptr"], arrays["next_items"], arrays["next_counts"], item_count)

    def plan(self, codes: np.ndarray) -> CountPlan:
        """Prepare codes (C, M) for ``scores``."""
        codes = np.ascontiguousarray(codes, np.uint16)
        return CountPlan(codes, np.array([self._row.get(code.tobytes(), -1) for code in codes], np.int64))

    def scores(self, plan: CountPlan, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return S (stop - start, C) float32 of items ``start:stop`` and the codes of ``plan``."""
        stop = self.item_count if stop is None else min(stop, self.item_count)
        inside = (self.items >= start) & (self.items < stop)
        owner, items, counts = self._owner[inside], self.items[inside] - start, self.counts[inside]
        base = self.popularity[start:stop]
        mean = np.zeros((len(plan.slots), stop - start))
        for m in range(self.codes.shape[1]):
            words, column = np.unique(plan.slots[:, m], return_inverse=True)
            found = np.searchsorted(words, self.codes[owner, m]).clip(max=len(words) - 1)
            mine = words[found] == self.codes[owner, m]
            table = np.zeros((len(words), stop - start))
            np.add.at(table, (found[mine], items[mine]), counts[mine])
            sums = self._word_totals(m, words)
            table = (table + BACK_OFF * base) / (sums[:, None] + BACK_OFF)
            mean += table[column.reshape(-1)] / self.codes.shape[1]
        own = np.zeros_like(mean)
        spot = {row: place for place, row in enumerate(plan.rows.tolist()) if row >= 0}
        place = np.array([spot.get(row, -1) for row in owner.tolist()], np.int64)
        own[place[place >= 0], items[place >= 0]] = counts[place >= 0]
        totals = np.bincount(self._owner, self.counts, len(self.codes))
        seen = np.where(plan.rows >= 0, totals[plan.rows.clip(min=0)], 0.0)
        return np.log((own + BACK_OFF * mean) / (seen[:, None] + BACK_OFF)).T.astype(np.float32, order="C")

    def _word_totals(self, book: int, words: np.ndarray) -> np.ndarray:
        by_word = np.bincount(self.codes[self._owner, book], self.counts, int(self.codes[:, book].max(initial=0)) + 1)
        return np.where(words < len(by_word), by_word[np.minimum(words, len(by_word) - 1)], 0.0)
