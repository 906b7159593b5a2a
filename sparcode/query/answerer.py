"""Batches to the compiled ``answer``: what never changes is packed once a thread, threads share a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sparcode.errors import QueryError
from sparcode.index.arrays import read_only
from sparcode.jit.addresses import entry_of
from sparcode.jit.packing import pack
from sparcode.query.answer import (
    BAD_HISTORY,
    MOST_ORDERED,
    Best,
    Candidates,
    Encoded,
    Encoding,
    Fixed,
    Histories,
    Reading,
    Wanted,
    answer_histories,
    answer_rows,
)
from sparcode.query.codes import CodeResolver
from sparcode.query.encoder.encoder import Encoder
from sparcode.query.filters import Eligible
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.query.rescore.weights import Evidence
from sparcode.query.search.fitting import ready
from sparcode.query.search.prepared import exact_int32
from sparcode.query.search.searcher import Scratch, Searcher, raise_if_bad
from sparcode.query.settings import QuerySettings
from sparcode.query.state import QueryState, check_items
from sparcode.types import Hits, Queries

_MOST_WIDTHS = 8
"""Numbers of candidates for which a thread keeps buffers."""
_NO_EVENTS, _NO_MASK = np.zeros(0, np.int32), np.zeros(0, np.bool_)
_INT64 = np.dtype(np.int64)


class Parts(NamedTuple):
    """What a pipeline answers from. ``item_first_row``: of the item family, None without one."""

    encoder: Encoder
    resolver: CodeResolver | None
    searcher: Searcher
    rescorer: Rescorer
    settings: QuerySettings
    item_first_row: int | None


class Answerer:
    """Answers batches over the parts of one pipeline; a single query is a batch of one. Threads may share it.

    ``encodes``: whether histories are encoded inside the compiled call, which needs codes with a table of rows and no
    family that only a reader in Python knows; else queries come encoded.
    """

    def __init__(self, parts: Parts, encodes: bool) -> None:
        self.parts, self.encodes = parts, encodes
        scale, settings = np.float32(parts.searcher.scale), parts.settings
        shares = np.float32(settings.cached_weight) * scale, np.float32(settings.evidence_weight) * scale
        mixture = parts.rescorer.mixture
        self._scoring = parts.rescorer.weights, None if mixture is None else mixture.of_query, Evidence(*shares), scale
        self._local = threading.local()
        self._spare: list[_Prepared] = []

    def histories(
        self, queries: Queries, k: int, depth: int, unseen: bool, eligible: Eligible, threads: int = 1,
        tokens: np.ndarray | None = None,
    ) -> Hits:  # fmt: skip
        """Encode and answer a batch; see ``encoded``. QueryError on unknown items or features of another width.

        ``tokens`` (B, K_u, d) float32: those of the encoder where they are known.
        """
        encoder = self.parts.encoder
        shape = (0 if tokens is None else len(queries), encoder.heads, encoder.width)
        if tokens is not None and tokens.shape != shape:
            raise QueryError(f"tokens have shape {tokens.shape}, expected {shape}")
        indptr = queries.indptr
        asked = Histories(
            indptr if indptr.dtype is _INT64 and indptr.flags.c_contiguous else np.ascontiguousarray(indptr, np.int64),
            exact_int32(queries.items),
            encoder.checked_features(queries.user_features, len(queries)),
            np.empty(shape, np.float32) if tokens is None else np.ascontiguousarray(tokens, np.float32),
        )
        return self._answered(asked, queries, k, depth, (unseen, eligible, threads))

    def encoded(
        self, state: QueryState, k: int, depth: int, unseen: bool, eligible: Eligible, threads: int = 1
    ) -> Hits:
        """Answer queries that were encoded: ids (B, k) and scores (B, k), -1 and -inf past the results.

        ``depth``: R >= k, 0 for scores by cached sums; ``unseen``: leave out the history. Raises QueryError.
        """
        queries = state.queries
        pointers = (np.ascontiguousarray(each, np.int64) for each in (state.indptr, state.item_start, queries.indptr))
        row_indptr, start, indptr = pointers
        tokens = np.ascontiguousarray(state.tokens, np.float32)
        asked = Encoded(
            tokens, np.ascontiguousarray(state.known), exact_int32(state.rows), exact_int32(state.weights), row_indptr,
            start, indptr, exact_int32(queries.items),
        )  # fmt: skip
        return self._answered(asked, queries, k, depth, (unseen, eligible, threads))

    def _answered(
        self, asked: Histories | Encoded, queries: Queries, k: int, depth: int, how: tuple[bool, Eligible, int]
    ) -> Hits:
        unseen, eligible, threads = how
        count, items = len(queries), self.parts.searcher.item_count
        few = eligible.at_most(depth) if depth else None
        width = min(depth or k, items)
        columns = max(k, width) if depth and k > MOST_ORDERED else k
        best = Best(np.empty((count, columns), np.int32), np.empty((count, columns), np.float32))
        allow, deny = eligible.allowed, eligible.denied
        wanted = Wanted(
            _NO_MASK if allow is None else allow, _NO_MASK if deny is None else deny, unseen, few is not None,
            _NO_EVENTS if few is None else few, depth,
        )  # fmt: skip
        status = self._in_parts(asked, count, wanted, best, (width, threads))
        if status == BAD_HISTORY:
            self._refuse_items(queries)
        raise_if_bad(status, self.parts.searcher.index.row_count)
        if columns > k or (depth and k > MOST_ORDERED):
            return _sorted(best, self.parts.encoder.has_tokens(queries), k)
        return Hits(*best)

    def _in_parts(
        self, asked: Histories | Encoded, count: int, wanted: Wanted, best: Best, how: tuple[int, int]
    ) -> int:
        """Answer all queries, in as many ranges as there are threads; returns 0 or a status."""
        width, threads = how
        inside = isinstance(asked, Histories)
        own = self._prepared(inside, width)
        threads = max(1, min(threads, count))
        if threads == 1:
            return own.answer(asked, 0, count, wanted, best)
        edges = [count * part // threads for part in range(threads + 1)]

        def borrow(first: int, stop: int) -> int:
            other = self._borrowed(inside, width)
            status = other.answer(asked, first, stop, wanted, best)
            self._spare.append(other)
            return status

        with ThreadPoolExecutor(threads - 1) as pool:
            others = [pool.submit(borrow, *part) for part in pairwise(edges[1:])]
            return min(own.answer(asked, 0, edges[1], wanted, best), *(other.result() for other in others))

    def _refuse_items(self, queries: Queries) -> None:
        check_items(queries, self.parts.searcher.item_count)
        self.parts.encoder.tokens(queries)  # says which item it does not know

    def _prepared(self, inside: bool, width: int) -> _Prepared:
        """Return what this thread calls for so many candidates."""
        held: dict[tuple[bool, int], _Prepared] | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = {}
        found = held.get((inside, width))
        if found is None:
            if len(held) == _MOST_WIDTHS:
                held.clear()
            found = held[inside, width] = self._make(inside, width, self.parts.searcher.scratch())
        return found

    def _borrowed(self, inside: bool, width: int) -> _Prepared:
        """Return what a helping thread calls, with scratch that no other has."""
        try:
            found = self._spare.pop()
        except IndexError:
            return self._make(inside, width, Scratch(self.parts.searcher.index))
        fits = (found.inside, found.width) == (inside, width)
        return found if fits else self._make(inside, width, found.scratch)

    def _make(self, inside: bool, width: int, scratch: Scratch) -> _Prepared:
        searcher = self.parts.searcher
        fixed = Fixed(
            searcher.lists,
            scratch.accumulators,
            Candidates(*(np.empty(width, kind) for kind in (np.int32, np.uint32, np.uint32, np.float32))),
            *self._scoring,
        )
        if inside:
            return _Prepared(answer_histories, HISTORIES, (self._encoding(), fixed), scratch)
        return _Prepared(answer_rows, ENCODED, (fixed,), scratch)

    def _encoding(self) -> Encoding:
        encoder, resolver, settings = self.parts.encoder, self.parts.resolver, self.parts.settings
        by_age = np.array(() if self.parts.item_first_row is None else settings.item_weights, np.int32)
        books = encoder.books
        count, _, words = books.words.shape
        probes = min(settings.probes, words**count)
        table = np.zeros(0, np.int32) if resolver is None or resolver.table is None else resolver.table
        reading = Reading(
            books,
            np.empty((1, encoder.heads, probes, count), np.uint16), np.empty((1, encoder.heads, probes), np.float32),
            read_only(table), 0 if resolver is None else resolver.first_row, settings.learned_weight,
            read_only(by_age), self.parts.item_first_row or 0,
        )  # fmt: skip
        most = encoder.heads * probes + len(by_age)
        return Encoding(encoder.single(), reading, *(np.empty(most, np.int32) for _ in range(3)))


class _Prepared:
    """A kernel compiled for the arrays of one thread, and where they are."""

    def __init__(self, kernel: Any, example: Any, constant: tuple[Any, ...], scratch: Scratch) -> None:
        self.inside, self.width, self.scratch = kernel is answer_histories, len(constant[-1].candidates.ids), scratch
        self.constant = constant  # keeps the arrays alive
        self.address, self.kind, self.table = pack(constant)
        self.entry: Callable[..., int] = entry_of(kernel, (example, 0, 0, _WANTED, _BEST, self.address, self.kind))

    def answer(self, asked: Histories | Encoded, first: int, stop: int, wanted: Wanted, best: Best) -> int:
        """Answer a range of queries; kernels that are missing are compiled and the range is answered again."""
        while True:
            status = self.entry(asked, first, stop, wanted, best, self.address, self.kind)
            if status >= 0 or ready(status):
                return status


def _sorted(best: Best, known: np.ndarray, k: int) -> Hits:
    """Return the k best columns of rows that stand as they were found; rows not ``known`` are in order."""
    order = np.lexsort((best.ids, -best.scores), axis=-1)
    order[~known] = np.arange(order.shape[1])
    order = order[:, :k]
    return Hits(np.take_along_axis(best.ids, order, 1), np.take_along_axis(best.scores, order, 1))


_WANTED = Wanted(_NO_MASK, _NO_MASK, False, False, read_only(_NO_EVENTS), 0)
_BEST = Best(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))
_INDPTR, _IDS, _TABLE = (
    read_only(np.zeros(1, np.int64)),
    read_only(_NO_EVENTS),
    read_only(np.zeros((1, 0), np.float32)),
)
HISTORIES = Histories(_INDPTR, _IDS, _TABLE, np.zeros((1, 1, 1), np.float32))
ENCODED = Encoded(
    np.zeros((1, 1, 1), np.float32), _NO_MASK, _IDS.copy(), _IDS.copy(), _INDPTR, _INDPTR, _INDPTR, _IDS
)  # fmt: skip
"""Arguments that a batch brings, as examples of their types."""
