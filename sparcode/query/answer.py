"""From history to answer in one compiled call: encode, read codes and items, add lists, rescore, keep the best k.

The stages are those of ``pipeline``, which stays the reference and takes whatever this path does not: a call from
Python costs about as much as reading 200 postings, and a query by stages makes a dozen of them. Results are equal bit
for bit. With R = 0 the cached sums are the scores; filters work inside the search, and where they leave no more than R
items, these are the candidates.

Evidence (what all lists but the learned ones give a candidate) is the cached sum less that of the learned lists: those
are few, and one walk over them with the candidates marked replaces two over all others.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcode.index.arrays import read_only
from sparcode.jit import exact
from sparcode.jit.addresses import entry_of
from sparcode.jit.packing import pack, unpacked
from sparcode.query.encoder.codes import nearest_codes
from sparcode.query.encoder.single import encode
from sparcode.query.rescore.dot import prefetch_candidates
from sparcode.query.rescore.rescorer import Rescorer, score_candidates
from sparcode.query.rescore.weights import Evidence
from sparcode.query.search import kernels
from sparcode.query.search.best import insert_best
from sparcode.query.search.prepared import exact_int32
from sparcode.query.search.searcher import Searcher
from sparcode.types import Hits

if TYPE_CHECKING:
    from sparcode.query.pipeline import Candidates, Pipeline, QuerySettings, QueryState

MOST_CANDIDATES = 1 << 15
"""Candidates that a uint16 accumulator can number."""
MARKS = 1 << 12
"""Places at which candidates are looked up, a power of two."""
NEAR = 256
"""Postings that are looked up before those of candidates are added."""
MOST_RESULTS = 128
"""Results that inserting keeps in order faster than sorting all candidates."""
BAD_HISTORY = -10
_MOST_WIDTHS = 8
"""Widths of candidates for which a thread keeps buffers."""


@exact
def read_lists(  # type: ignore[no-untyped-def]
    tokens, history, rows, weights, books, codes, distances, code_rows, first_learned, learned_weight, item_weights,
    first_item,
):  # fmt: skip
    """Write the lists a query reads to ``rows``, ``weights``; return how many are learned and how many in all.

    ``tokens`` (1, K_u, d), ``codes`` (1, K_u, P, M) and ``distances`` (1, K_u, P) scratch, ``code_rows`` (N^M,) row of
    every code or empty (no learned lists), ``item_weights`` by age; items of the history are in the index.
    """
    learned = 0
    if code_rows.shape[0] > 0 and learned_weight > 0:
        nearest_codes(tokens, books, codes, distances)
        words = books.words.shape[2]
        for head in range(codes.shape[1]):
            for probe in range(codes.shape[2]):
                key = np.int64(0)
                for m in range(codes.shape[3]):
                    key = key * words + codes[0, head, probe, m]
                rows[learned] = code_rows[key] + first_learned
                weights[learned] = learned_weight
                learned += 1
    total = learned
    for age in range(min(len(history), len(item_weights))):
        if item_weights[age] > 0:
            rows[total] = history[len(history) - 1 - age] + first_item
            weights[total] = item_weights[age]
            total += 1
    return learned, total


@exact
def learned_sums(indptr, postings, rows, weights, marks, ids, sums):  # type: ignore[no-untyped-def]
    """Write to ``sums`` (R,) uint32 what the lists ``rows`` give to the candidates ``ids`` (R,), R < 2^16 - 1.

    ``marks``: (n + 1,) uint16, all zero before and after. List bounds are clipped as in ``kernels.adding``.
    """
    # Candidates are looked up by the last bits of their ids, in as many places as stay near the processor; those that
    # share a place form a chain.
    places = 1
    while 2 * places <= min(len(marks), MARKS):
        places *= 2
    bits = np.uint64(places - 1)
    end = np.uint64(len(postings))
    chain = np.empty(len(ids), np.uint16)
    near = np.empty(NEAR, np.uint32)
    for place in range(len(ids)):
        slot = np.uint64(ids[place]) & bits
        chain[place] = marks[slot]
        marks[slot] = place + 1
        sums[place] = 0
    for i in range(len(rows)):
        row, weight = np.uint64(rows[i]), np.uint32(weights[i])
        stop = min(indptr[row + np.uint64(1)], end)
        start = min(indptr[row], stop)
        while start < stop:
            # Whether a posting is of a candidate is hard to predict: first those are noted that may be.
            found = np.uint64(0)
            part = min(stop, start + np.uint64(NEAR))
            for p in range(start, part):
                posting = np.uint64(postings[p])
                near[found] = posting
                found += np.uint64(marks[(posting >> np.uint64(8)) & bits] != 0)
            for k in range(found):
                posting = near[k]
                item = np.uint64(posting >> np.uint32(8))
                mark = np.uint64(marks[item & bits])
                while mark > np.uint64(0):
                    own = mark - np.uint64(1)
                    if np.uint64(ids[own]) == item:
                        sums[own] += weight * np.uint32(posting & np.uint32(255))
                        break
                    mark = np.uint64(chain[own])
            start = part
    for place in range(len(ids)):
        marks[np.uint64(ids[place]) & bits] = 0


@exact
def add_sums(scores, sums, own, shares):  # type: ignore[no-untyped-def]
    """scores (R,) float32 += cached * sums + evidence * (sums - own), in float64 and rounded once, as numpy does.

    ``shares``: Evidence.
    """
    cached, evidence = shares.cached, shares.evidence
    for place in range(len(scores)):
        score = np.float64(scores[place])
        if cached != 0.0:
            score = score + np.float64(sums[place]) * np.float64(cached)
        if evidence != 0.0:
            score = score + np.float64(np.int64(sums[place]) - np.int64(own[place])) * np.float64(evidence)
        scores[place] = score


@exact
def keep_best(ids, scores, best_ids, best_scores):  # type: ignore[no-untyped-def]
    """Write the k best of R candidates, score descending and id ascending; return how many there are."""
    filled: Any = np.int64(0)
    for place in range(len(ids)):
        filled = insert_best(best_ids, best_scores, filled, ids[place], scores[place])
    return filled


@exact
def rescore(  # type: ignore[no-untyped-def]
    tokens, indptr, postings, rows, weights, marks, ids, sums, own, scores, best_ids, best_scores, scorer, shares,
):  # fmt: skip
    """Rescore candidates ``ids`` with cached ``sums`` (R,) and keep the best; return how many.

    ``tokens`` (K_u, d); ``rows``, ``weights``: the learned lists; ``own``, ``scores`` (R,) scratch; ``scorer``:
    ScorerWeights; ``shares``: Evidence.
    """
    prefetch_candidates(scorer.items, scorer.item_bias, ids)  # they come while the lists are walked
    if shares.evidence != 0.0:
        learned_sums(indptr, postings, rows, weights, marks, ids, own)
    for place in range(len(scores)):
        scores[place] = np.float32(0.0)
    score_candidates(tokens, ids, scorer, scores)
    add_sums(scores, sums, own, shares)
    return keep_best(ids, scores, best_ids, best_scores)


@exact
def sum_listed(  # type: ignore[no-untyped-def]
    entries, indptr, postings, rows, weights, narrow, wide, seen, listed, ids, sums,
):  # fmt: skip
    """Write the items ``listed`` less the seen ones, and their cached sums; return how many or a status."""
    kernels.mark_seen(narrow, seen, _ONE)
    found = 0
    for place in range(len(listed)):
        ids[found] = listed[place]
        found += narrow[np.uint64(listed[place])] == 0
    kernels.mark_seen(narrow, seen, _NOTHING)
    status = kernels.sum_fitting(entries, indptr, postings, rows, weights, narrow, wide, ids[:found], sums)
    return np.int64(found) if status >= 0 else np.int64(status)


@exact
def score_by_sums(sums, scale, scores):  # type: ignore[no-untyped-def]
    """scores (k,) float32 = sums * scale, in float64 and rounded once, as numpy does."""
    for place in range(len(scores)):
        scores[place] = np.float64(sums[place]) * np.float64(scale)


@exact
def answer(  # type: ignore[no-untyped-def]
    history, features, seen, allow, deny, few, listed, depth, best_ids, best_scores, address, kind,
):  # fmt: skip
    """Answer one query; return how many results there are or a status below 0, after which scratch is clean.

    ``allow``, ``deny``: (n,) bool or empty; ``few``: whether ``listed`` (int32) are the candidates; ``depth``: R, 0
    for scores by cached sums; ``best_ids``, ``best_scores``: (1, k), -1 and -inf past the results; ``address`` and
    ``kind``: what stays the same, see ``OneQuery``.
    """
    encoder, reading, (entries, indptr, postings, narrow, wide, work), buffers, scoring, scale = unpacked(address, kind)
    rows, weights, ids, sums, own, scores = buffers
    best_ids[:] = -1
    best_scores[:] = -np.inf
    for place in range(len(history)):
        if history[place] < 0 or history[place] >= len(narrow) - 1:
            return np.int64(BAD_HISTORY)
    if not encode(history, features, *encoder):
        return np.int64(BAD_HISTORY)
    tokens = encoder[2]
    learned, total = read_lists(tokens, history, rows, weights, *reading)
    read, counts = rows[:total], weights[:total]
    if few:
        found = sum_listed(entries, indptr, postings, read, counts, narrow, wide, seen, listed, ids, sums)
    else:
        found = kernels.search_fitting(
            entries, indptr, postings, read, counts, narrow, wide, work, seen, allow, deny, ids, sums
        )
    if found < 0:
        return np.int64(found)
    if depth == 0:
        for place in range(found):
            best_ids[0, place] = ids[place]
        score_by_sums(sums, scale, best_scores[0, :found])
        return np.int64(found)
    results = rescore(
        tokens[0], indptr, postings, rows[:learned], weights[:learned], narrow, ids[:found], sums[:found],
        own[:found], scores[:found], best_ids[0], best_scores[0], *scoring,
    )  # fmt: skip
    return np.int64(results)


@exact
def rescore_batch(  # type: ignore[no-untyped-def]
    known, tokens, indptr, postings, rows, weights, first, stop, marks, ids, sums, own, scores, scorer, shares,
    best_ids, best_scores,
):  # fmt: skip
    """``rescore`` for every query b with ``known[b]``: its learned lists are ``rows[first[b]:stop[b]]``.

    ``ids``, ``sums`` (B, R), ids padded with -1 at the end; ``best_ids``, ``best_scores`` (B, k), places past a query's
    results are left as they are.
    """
    for b in range(len(known)):
        if not known[b]:
            continue
        found = 0
        while found < ids.shape[1] and ids[b, found] >= 0:
            found += 1
        rescore(
            tokens[b], indptr, postings, rows[first[b] : stop[b]], weights[first[b] : stop[b]], marks, ids[b, :found],
            sums[b, :found], own[:found], scores[:found], best_ids[b], best_scores[b], scorer, shares,
        )  # fmt: skip


class Rescoring:
    """Exact scores of candidates in one call, for a query or a batch; ``fits`` says where it applies."""

    def __init__(self, searcher: Searcher, rescorer: Rescorer, settings: QuerySettings) -> None:
        self.searcher = searcher
        self.supported = rescorer.mixture is None
        scale = self.scale = np.float32(searcher.scale)
        shares = np.float32(settings.cached_weight) * scale, np.float32(settings.evidence_weight) * scale
        self.weights = rescorer.weights, Evidence(*shares)

    def fits(self, k: int, depth: int) -> bool:
        """Tell whether k results of R = ``depth`` candidates (at least k) can be answered."""
        return self.supported and k <= MOST_RESULTS and depth <= MOST_CANDIDATES

    def batch(self, state: QueryState, candidates: Candidates, hits: Hits) -> None:
        """Write the best of the candidates of every known query to ``hits``."""
        depth = candidates.ids.shape[1]
        rescore_batch(
            state.known, state.tokens, *self.searcher.lists, state.rows, state.weights, state.indptr[:-1],
            state.item_start, self.searcher.scratch().narrow, candidates.ids, candidates.sums,
            np.empty(depth, np.uint32), np.empty(depth, np.float32), *self.weights, hits.ids,
            hits.scores,
        )  # fmt: skip


class OneQuery:
    """The fast path of a pipeline; ``of`` returns None where all its queries need the stages.

    It serves learned codes with a fallback table and item lists; rescoring, where there is any, without a mixture.
    Threads may share it.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        settings, resolver, encoder = pipeline.settings, pipeline.resolver, pipeline.encoder
        self.encoder, self.searcher, self.rescoring = encoder, pipeline.searcher, pipeline.rescoring
        table = np.zeros(0, np.int32) if resolver is None or resolver.table is None else resolver.table
        first_learned = 0 if resolver is None else resolver.first_row
        self._books = encoder.books
        books = self._books.words
        self._table = (read_only(table), first_learned, settings.learned_weight)
        item = pipeline.item_first_row
        by_age = np.array(() if item is None else settings.item_weights, np.int32)
        self._items = (read_only(by_age), 0 if item is None else item)
        self._codes = (encoder.heads, min(settings.probes, books.shape[2] ** books.shape[0]), books.shape[0])
        self._most_rows = self._codes[0] * self._codes[1] + len(by_age)
        self._local = threading.local()

    @classmethod
    def of(cls, pipeline: Pipeline) -> OneQuery | None:
        """Return the fast path of a pipeline, None where there is none."""
        resolver, index = pipeline.resolver, pipeline.searcher.index
        searched = resolver is not None and resolver.table is None
        words = any(index.has_family(name) for name in ("category", "segment"))
        unsupported = searched or words or not pipeline.encoder.has_books
        return None if unsupported else cls(pipeline)

    def serves(self, k: int, depth: int) -> bool:
        """Tell whether k results of R = ``depth`` candidates (0: by cached sums) can be answered."""
        return self.rescoring.fits(k, depth) if depth else k <= MOST_CANDIDATES

    def best(
        self, history: np.ndarray, features: np.ndarray | None, k: int, depth: int, include_seen: bool,
        allow: np.ndarray | None, deny: np.ndarray | None, few: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray] | None:  # fmt: skip
        """Return ids (1, k) int32 and scores (1, k) float32; None where only the stages can answer.

        ``history`` int32; ``features`` (F,) or None; ``depth``: R >= k, or 0; ``allow``, ``deny`` (n,) bool; ``few``:
        at most R item ids, int32: the candidates. Places past the results hold -1 and -inf.
        """
        history = exact_int32(history)
        ids, scores = np.empty((1, k), np.int32), np.empty((1, k), np.float32)
        varying = (
            history, self.encoder.one_row(features), _NO_EVENTS if include_seen else history,
            _NO_MASK if allow is None else allow, _NO_MASK if deny is None else deny, few is not None,
            _NO_EVENTS if few is None else few, depth, ids, scores,
        )  # fmt: skip
        held = self._prepared(min(depth or k, self.searcher.item_count))
        found = held.entry(*varying, held.address, held.kind)
        while not kernels.ready(found):
            found = held.entry(*varying, held.address, held.kind)
        return None if found < 0 else (ids, scores)

    def _prepared(self, width: int) -> _Held:
        """Return the compiled entry and what stays the same for this thread and width of candidates."""
        held: dict[int, _Held] | None = getattr(self._local, "held", None)
        if held is None or (width not in held and len(held) == _MOST_WIDTHS):
            held = self._local.held = {}
        if width not in held:
            held[width] = _Held(self._constant(width))
        return held[width]

    def _constant(self, width: int) -> tuple[Any, ...]:
        scratch, count, codes = self.searcher.scratch(), self._most_rows, (1, *self._codes)
        reading = (
            self._books, np.empty(codes, np.uint16), np.empty(codes[:3], np.float32), *self._table, *self._items
        )  # fmt: skip
        buffers = (
            np.empty(count, np.int32), np.empty(count, np.int32), np.empty(width, np.int32),
            np.empty(width, np.uint32), np.empty(width, np.uint32), np.empty(width, np.float32),
        )  # fmt: skip
        search = kernels.ENTRIES, *self.searcher.lists, scratch.narrow, scratch.wide, scratch.work
        return (
            self.encoder.single(),
            reading,
            search,
            buffers,
            self.rescoring.weights,
            self.rescoring.scale,
        )


class _Held:
    """``answer`` compiled for the constant arguments of a thread, and where they are."""

    def __init__(self, constant: tuple[Any, ...]) -> None:
        self.constant = constant  # keeps the arrays alive
        self.table, self.kind = pack(constant)
        self.address = self.table.ctypes.data
        self.entry = entry_of(answer, (*_VARYING, np.uint64(0), self.kind))


_ONE, _NOTHING = np.uint64(1), np.uint64(0)
_NO_EVENTS = np.zeros(0, np.int32)
_NO_MASK = np.zeros(0, np.bool_)
_VARYING = (
    read_only(_NO_EVENTS), read_only(np.zeros((1, 0), np.float32)), read_only(_NO_EVENTS), _NO_MASK, _NO_MASK, False,
    read_only(_NO_EVENTS), 0, np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32),
)  # fmt: skip
"""Arguments of ``answer`` that a query brings, as examples of their types."""
