"""Sums over posting lists: sparcode's own searcher, scipy's sparse product, and numpy in two ways."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparcode.index.layout import Family, make_index, unpack
from sparcode.query.search.searcher import Searcher
from sparcode.scale.peers.protocols import load_library
from sparcode.scale.peers.sparse import SparseEngine, best_of


class Sparcode(SparseEngine):
    """Our engine over the same lists; its build is the check of the layout."""

    name = "sparcode"

    @classmethod
    def _construct(cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, settings: dict[str, Any]) -> Any:
        family = Family("codes", 0, len(indptr) - 1)
        return Searcher(make_index(indptr, postings, item_count, 1.0, [family]))

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return at most k int32 ids."""
        return self._lists.search_one(rows, weights, k)[0]

    def search_batch(self, rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) int32 ids."""
        return self._lists.search(rows, weights, indptr, k).ids

    @property
    def bytes(self) -> int:
        """Bytes of lists and offsets."""
        return int(self._lists.index.cache_bytes)


class ScipyCsr(SparseEngine):
    """Product of the query, a sparse row, with the lists as CSR; then ``argpartition`` of what is not zero."""

    name = "scipy-csr"

    @classmethod
    def _library(cls) -> Any:
        return load_library("scipy.sparse", "scipy")

    @classmethod
    def _construct(cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, settings: dict[str, Any]) -> Any:
        ids, impacts = unpack(postings)
        wide = np.int32 if len(postings) < 1 << 31 else np.int64
        matrix = impacts.astype(np.int32), ids.astype(wide, copy=False), indptr.astype(wide)
        return cls._library().csr_array(matrix, shape=(len(indptr) - 1, item_count))

    def _prepare(self) -> None:
        self._array = self._library().csr_array

    def _product(self, rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray) -> Any:
        shape = len(indptr) - 1, self._lists.shape[0]
        return self._array((weights, rows, indptr), shape=shape) @ self._lists

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return at most k int32 ids."""
        sums = self._product(rows, weights, np.array([0, len(rows)], np.int32))
        return best_of(sums.data, sums.indices, k)

    def search_batch(self, rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) ids: one product for all queries."""
        low, high = int(indptr[0]), int(indptr[-1])
        sums = self._product(rows[low:high], weights[low:high], (indptr - low).astype(np.int32))
        ids = np.full((len(indptr) - 1, k), -1, np.int32)
        edges = sums.indptr.tolist()
        for query, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            found = best_of(sums.data[low:high], sums.indices[low:high], k)
            ids[query, : len(found)] = found
        return ids

    @property
    def bytes(self) -> int:
        """Bytes of values, ids and offsets."""
        return int(self._lists.data.nbytes + self._lists.indices.nbytes + self._lists.indptr.nbytes)


class _Split(NamedTuple):
    """Ids and impacts apart, as numpy indexes fastest; offsets as a list."""

    edges: list[int]
    ids: np.ndarray
    impacts: np.ndarray


class NumpyDense(SparseEngine):
    """One sum an item, then the best of those above zero: what one writes first."""

    name = "numpy-dense"

    @classmethod
    def _construct(cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, settings: dict[str, Any]) -> _Split:
        ids, impacts = unpack(postings)
        return _Split(indptr.tolist(), ids.astype(np.int64), impacts.astype(np.int32))

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return at most k int64 ids."""
        edges, ids, impacts = self._lists
        sums = np.zeros(self.item_count, np.int32)
        for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
            low, high = edges[row], edges[row + 1]
            sums[ids[low:high]] += weight * impacts[low:high]
        # argpartition over all sums would be tens of times slower: it degenerates on many equal values, the zeros.
        found = np.flatnonzero(sums)
        return best_of(sums[found], found, k)

    @property
    def bytes(self) -> int:
        """Bytes of impacts and ids, and of offsets as uint64."""
        return int(self._lists.ids.nbytes + self._lists.impacts.nbytes + 8 * len(self._lists.edges))


class NumpyTouched(NumpyDense):
    """The same sums in an array that stays; only the places the lists name are looked at and cleared.

    Its time does not grow with the number of items, which makes it the numpy to beat on a large set.
    """

    name = "numpy-touched"

    def _prepare(self) -> None:
        self._sums = np.zeros(self.item_count, np.int32)

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return at most k int64 ids."""
        edges, ids, impacts = self._lists
        sums, touched = self._sums, []
        for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
            low, high = edges[row], edges[row + 1]
            places = ids[low:high]
            sums[places] += weight * impacts[low:high]
            touched.append(places)
        if not touched:
            return np.zeros(0, np.int64)
        places = np.concatenate(touched)
        values = sums[places]
        sums[places] = 0
        # An item stands in ``places`` once a row at most, so the best k are among the best k * rows places.
        first, where = np.unique(best_of(values, places, k * len(rows)), return_index=True)
        return first[np.argsort(where)][:k]


PEERS = (Sparcode, ScipyCsr, NumpyDense, NumpyTouched)
