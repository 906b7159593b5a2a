"""Two-tower with an HNSW graph: faiss and hnswlib, the systems sparcode is compared with.

Both use inner product on unit vectors, ``links`` M (the bottom layer has 2 M), one thread and a seed. Seen items are
removed after the search: the first try asks for k results and room for some seen ones, and asks again for twice as
many while fewer than k unseen items come back. This is exact and cheaper than always asking for k + |seen|.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from sparcode.errors import MissingExtraError
from sparcode.jit import exact
from sparcode.query.search.best import insert_best
from sparcode.retrievers.exact import QueryEncoder
from sparcode.retrievers.ranking import Histories, check_request, empty_hits, fill
from sparcode.types import Hits, Queries

LINKS = 32
EF_CONSTRUCTION = 200
_SPARE = 2  # results asked for beyond k: items tied at the border are then ordered by id


class Found(NamedTuple):
    """What a graph found for B queries: ``ids`` (B, X), -1 where it found fewer, and inner products ``scores``."""

    ids: np.ndarray
    scores: np.ndarray


class HnswRetriever:
    """Common part; subclasses build ``_index`` and answer ``_knn``.

    ``ef``: candidates kept while searching; both libraries raise it to the number of results asked for.
    """

    library = ""

    def __init__(
        self,
        encoder: QueryEncoder,
        item_vectors: np.ndarray,
        *,
        links: int = LINKS,
        ef_construction: int = EF_CONSTRUCTION,
        ef: int = 64,
        seed: int = 0,
    ) -> None:
        self.name = f"two-tower-{self.library}"
        self.encoder = encoder
        self.item_count = len(item_vectors)
        self.ef = ef
        self._applied = [-1]  # the ef the library is set to; one list for all views of an index
        started = time.perf_counter()
        self._index = self._build(np.array(item_vectors, np.float32, order="C"), links, ef_construction, seed)
        self.build_seconds = time.perf_counter() - started
        self.settings = {"links": links, "ef_construction": ef_construction, "seed": seed}

    def _build(self, vectors: np.ndarray, links: int, ef_construction: int, seed: int) -> Any:
        raise NotImplementedError

    def _knn(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and inner products, both (rows, k), best first; id -1 where the graph found fewer."""
        raise NotImplementedError

    def _set_ef(self, ef: int) -> None:
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Bytes of the serialised index, vectors included."""
        raise NotImplementedError

    def at(self, ef: int) -> HnswRetriever:
        """Return a view of the same graph searched with another ``ef``."""
        view = copy.copy(self)
        view.ef = ef
        return view

    def prepare(self) -> None:
        """Set the library to this view's ``ef`` (searches do it too; benchmarks keep it out of the clock)."""
        if self._applied[0] != self.ef:
            self._set_ef(self.ef)
            self._applied[0] = self.ef

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return the approximate best k, (B, k); queries that cannot be encoded are answered by popularity."""
        check_request(queries, k, self.item_count)
        tokens = self.encoder.tokens(queries)
        known = self.encoder.has_tokens(queries)
        return self._search(tokens, known, queries.indptr, queries.items, k, not include_seen)

    def search_one(self, tokens: np.ndarray, history: np.ndarray, k: int) -> Hits:
        """Search for one query that has tokens (K_u, d), leaving out ``history``; hits of shape (1, k)."""
        self.prepare()
        if len(tokens) == 1:
            fetch = min(self.item_count, k + _SPARE + min(len(history), 2 * k))
            found, values = self._knn(tokens, fetch)
            ids, scores, count = _keep_one(found, values, history, k)
            if count == k:
                return Hits(ids, scores)
        indptr = np.array([0, len(history)], np.int64)
        return self._search(tokens[None], np.ones(1, np.bool_), indptr, history, k, True)

    def retrieve_one(self, history: np.ndarray, k: int, features: np.ndarray | None = None) -> Hits:
        """Encode and search one non-empty history; hits of shape (1, k)."""
        return self.search_one(self.encoder.encode_one(history, features), history, k)

    def _search(
        self, tokens: np.ndarray, known: np.ndarray, indptr: np.ndarray, items: np.ndarray, k: int, exclude: bool
    ) -> Hits:
        self.prepare()
        ids, scores = empty_hits(len(tokens), k)
        blocked = np.zeros(self.item_count, np.bool_)
        rows, histories = np.arange(len(tokens)), Histories(indptr, items, exclude)
        longest = int(np.diff(indptr).max(initial=0)) if exclude else 0
        fetch = min(self.item_count, k + _SPARE + min(longest, 2 * k))
        while len(rows):
            found = self._fetch(tokens[rows], fetch)
            done = _keep_unseen(found, rows, known, histories, blocked, ids, scores, fetch)
            rows = rows[~done]
            fetch = min(self.item_count, 2 * fetch)
        return Hits(ids, scores)

    def _fetch(self, tokens: np.ndarray, fetch: int) -> Found:
        rows, heads, width = tokens.shape
        ids, scores = self._knn(tokens.reshape(rows * heads, width), fetch)
        return Found(ids.reshape(rows, heads * fetch), scores.reshape(rows, heads * fetch))


class FaissHnsw(HnswRetriever):
    """faiss ``IndexHNSWFlat``."""

    library = "faiss-hnsw"

    def _build(self, vectors: np.ndarray, links: int, ef_construction: int, seed: int) -> Any:
        faiss = _import("faiss", "faiss-cpu")
        with _one_thread(faiss):
            index = faiss.IndexHNSWFlat(vectors.shape[1], links, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = ef_construction
            index.hnsw.rng = faiss.RandomGenerator(seed)
            index.add(vectors)
        self._faiss = faiss
        return index

    def _knn(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, ids = self._index.search(vectors, k)
        return ids, scores

    def _set_ef(self, ef: int) -> None:
        self._index.hnsw.efSearch = ef

    @property
    def bytes(self) -> int:
        """Bytes of the serialised index, vectors included."""
        return int(self._faiss.serialize_index(self._index).nbytes)


class HnswlibHnsw(HnswRetriever):
    """hnswlib ``Index`` in the inner product space, without zero vectors.

    A zero vector, of an item nothing is known about, is as near to everything; as an entry point of the graph it leads
    nowhere (with many of them no search found anything). Popularity fills the places that such items might take.
    """

    library = "hnswlib"

    def _build(self, vectors: np.ndarray, links: int, ef_construction: int, seed: int) -> Any:
        index = _import("hnswlib", "hnswlib").Index(space="ip", dim=vectors.shape[1])
        known = np.flatnonzero(vectors.any(axis=1))
        known = known if len(known) else np.arange(len(vectors))
        index.init_index(max_elements=len(known), M=links, ef_construction=ef_construction, random_seed=seed)
        index.set_num_threads(1)
        index.add_items(vectors[known], known, num_threads=1)
        return index

    def _knn(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        held = min(k, self._index.get_current_count())
        try:
            labels, distances = self._index.knn_query(vectors, k=held, num_threads=1)
        except RuntimeError:
            return self._knn_rows(vectors, k)
        if held == k:
            return labels, 1.0 - distances
        ids = np.full((len(vectors), k), -1, np.int64)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        ids[:, :held], scores[:, :held] = labels, 1.0 - distances
        return ids, scores

    def _knn_rows(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        # hnswlib refuses a batch of which one row finds fewer than k; search with the largest ef, row by row.
        ids = np.full((len(vectors), k), -1, np.int64)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        self._index.set_ef(max(self.ef, k, self.item_count))
        self._applied[0] = -1
        for row, vector in enumerate(vectors):
            width = min(k, self._index.get_current_count())
            while width > 0:
                try:
                    labels, distances = self._index.knn_query(vector[None], k=width, num_threads=1)
                except RuntimeError:
                    width //= 2
                    continue
                ids[row, :width], scores[row, :width] = labels[0], 1.0 - distances[0]
                break
        return ids, scores

    def _set_ef(self, ef: int) -> None:
        self._index.set_ef(ef)

    @property
    def bytes(self) -> int:
        """Bytes of the serialised index, vectors included."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index.bin"
            self._index.save_index(str(path))
            return path.stat().st_size


HNSW_LIBRARIES: dict[str, type[HnswRetriever]] = {kind.library: kind for kind in (FaissHnsw, HnswlibHnsw)}


def _import(module: str, package: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(package, "bench", "the HNSW comparison") from None


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # insertion order, hence the graph, depends on the thread count
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


@exact
def _keep_one(found: np.ndarray, values: np.ndarray, history: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the first k results of one token (1, fetch) that are not in ``history``, and how many there are."""
    ids = np.empty((1, k), np.int32)
    scores = np.empty((1, k), np.float32)
    count = 0
    for place in range(found.shape[1]):
        item = found[0, place]
        seen = item < 0
        for other in history:
            if other == item:
                seen = True
                break
        if not seen:
            count = insert_best(ids[0], scores[0], count, item, values[0, place])
    return ids, scores, count


@exact
def _merge_row(found: np.ndarray, values: np.ndarray, blocked: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> int:
    """Keep the best unblocked results of a row; an item found by several tokens counts once, with its best score."""
    count = 0
    for place in range(len(found)):
        item = found[place]
        if item < 0 or blocked[item]:
            continue
        known = -1
        if len(found) > len(ids):
            for other in range(count):
                if ids[other] == item:
                    known = other
                    break
        if known >= 0:
            if values[place] <= scores[known]:
                continue
            for other in range(known, count - 1):
                ids[other] = ids[other + 1]
                scores[other] = scores[other + 1]
            count -= 1
        count = insert_best(ids, scores, count, item, values[place])
    return count


@exact
def _keep_unseen(
    found: Found, rows: np.ndarray, known: np.ndarray, histories: Histories, blocked: np.ndarray, ids: np.ndarray,
    scores: np.ndarray, fetch: int,
) -> np.ndarray:  # fmt: skip
    """Write the unseen results of each row; return (rows,) bool: False where more than ``fetch`` have to be fetched."""
    done = np.ones(len(rows), np.bool_)
    for place in range(len(rows)):
        row = rows[place]
        history = histories.items[histories.indptr[row] : histories.indptr[row + 1]]
        if histories.exclude:
            for item in history:
                blocked[item] = True
        count = _merge_row(found.ids[place], found.scores[place], blocked, ids[row], scores[row]) if known[row] else 0
        if count < ids.shape[1] and known[row] and fetch < len(blocked):
            done[place] = False
        else:
            fill(blocked, ids[row], scores[row], count)
        for item in history:
            blocked[item] = False
    return done
