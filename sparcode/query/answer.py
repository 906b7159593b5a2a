"""The one function that answers queries: lists added, candidates rescored, the best kept, in one compiled call.

``answer_one`` answers a query whose lists are known. ``answer_histories`` loops it over a batch and encodes each
history first; ``answer_rows`` loops it over queries that were encoded outside. A single query is a batch of one: a call
from Python costs about as much as reading 200 postings, so a query makes one. The stages in numpy
(``pipeline.Pipeline.encode``, ``search``, ``rescore``) are the reference of tests; results are equal bit for bit.

With R = 0 the cached sums are the scores; filters work inside the search, and where they leave no more than R items,
these are the candidates. A query that the encoder cannot read is scored by its lists alone.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparcode.jit import exact
from sparcode.jit.packing import unpacked
from sparcode.jit.prefetch import prefetch_lists
from sparcode.quantize.nearest import Books
from sparcode.query.encoder.codes import nearest_codes
from sparcode.query.encoder.encode import encode
from sparcode.query.evidence import add_sums, learned_sums, score_by_sums
from sparcode.query.rescore.dot import prefetch_candidates
from sparcode.query.rescore.mixture import CandidateMixture, mix_candidates
from sparcode.query.rescore.rescorer import score_candidates, score_with_mixture
from sparcode.query.rescore.weights import Evidence, ScorerWeights
from sparcode.query.search.arguments import Accumulators, Answers, Filters, Lists, SparseQuery
from sparcode.query.search.best import insert_best
from sparcode.query.search.fitting import search_fitting, sum_fitting
from sparcode.query.search.touched import mark_seen

MOST_NUMBERED = 1 << 15
"""Candidates that a uint16 accumulator can number; the sums of more are read from the lists again."""
MOST_ORDERED = 128
"""Results that inserting keeps in order faster than sorting all candidates; more are sorted by the caller."""
LINES = 4
"""Lines of each of the next query's lists that are asked for while this one is answered."""
BAD_HISTORY = -10
_ONE, _NOTHING = np.uint64(1), np.uint64(0)


class Histories(NamedTuple):
    """Queries to encode: query b has the events ``items[indptr[b]:indptr[b + 1]]``, oldest first, and ``features[b]``.

    ``indptr`` (B + 1,) int64, ``items`` int32 internal ids, ``features`` (B, F) float32, F = 0 for none; ``tokens``
    (B, K_u, d) float32 where they are known already, else (0, K_u, d).
    """

    indptr: np.ndarray
    items: np.ndarray
    features: np.ndarray
    tokens: np.ndarray


class Encoded(NamedTuple):
    """Queries whose lists are known, as ``pipeline.QueryState`` has them, and their histories (``indptr``, ``items``).

    ``row_indptr`` (B + 1,) delimits ``rows`` and ``weights``; those before ``evidence_start`` (B,) are learned.
    """

    tokens: np.ndarray
    known: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    row_indptr: np.ndarray
    evidence_start: np.ndarray
    indptr: np.ndarray
    items: np.ndarray


class Wanted(NamedTuple):
    """What a batch is asked for: masks (n,) bool or empty, whether the history is left out, R (0: no rescoring).

    ``few``: ``listed``, int32 ids, are the candidates of every query.
    """

    allow: np.ndarray
    deny: np.ndarray
    unseen: bool
    few: bool
    listed: np.ndarray
    depth: int


class Best(NamedTuple):
    """Answers of a batch: ``ids`` (B, k) int32, -1 past the results, ``scores`` (B, k) float32, -inf there."""

    ids: np.ndarray
    scores: np.ndarray


class Reading(NamedTuple):
    """From tokens and histories to lists. ``code_rows`` (N^M,): row of every code; empty: no learned lists.

    ``codes`` (1, K_u, P, M), ``distances`` (1, K_u, P): scratch; ``item_weights``: by age.
    """

    books: Books
    codes: np.ndarray
    distances: np.ndarray
    code_rows: np.ndarray
    first_learned: int
    learned_weight: int
    item_weights: np.ndarray
    first_item: int


class Candidates(NamedTuple):
    """Scratch of one query's candidates, (R,) each: ids, cached sums, sums of learned lists, scores."""

    ids: np.ndarray
    sums: np.ndarray
    own: np.ndarray
    scores: np.ndarray


class Read(NamedTuple):
    """Lists a query reads, the first ``learned`` of them from its codes."""

    rows: np.ndarray
    weights: np.ndarray
    learned: int


class Fixed(NamedTuple):
    """What stays the same from query to query of one thread. ``scale``: score units of one unit of a sum."""

    lists: Lists
    accumulators: Accumulators
    candidates: Candidates
    scorer: ScorerWeights
    mixture: CandidateMixture | None
    shares: Evidence
    scale: np.float32


class Encoding(NamedTuple):
    """What ``answer_histories`` needs beyond ``Fixed``: ``encoder`` as ``Encoder.single`` gives it, row buffers."""

    encoder: tuple[Any, ...]
    reading: Reading
    rows: np.ndarray
    weights: np.ndarray
    ahead: np.ndarray


@exact
def read_codes(tokens, reading, rows, weights):
    """Write the learned lists of ``tokens`` (1, K_u, d) to ``rows``, ``weights``; return how many."""
    codes = reading.codes
    nearest_codes(tokens, reading.books, codes, reading.distances)
    words, learned = reading.books.words.shape[2], 0
    for head in range(codes.shape[1]):
        for probe in range(codes.shape[2]):
            key = np.int64(0)
            for m in range(codes.shape[3]):
                key = key * words + codes[0, head, probe, m]
            rows[learned] = reading.code_rows[key] + reading.first_learned
            weights[learned] = reading.learned_weight
            learned += 1
    return learned


@exact
def read_items(history, reading, start, rows, weights):
    """Write the lists of the last events to ``rows``, ``weights`` from ``start`` on; return how many there are then."""
    total = start
    for age in range(min(len(history), len(reading.item_weights))):
        if reading.item_weights[age] > 0:
            rows[total] = history[len(history) - 1 - age] + reading.first_item
            weights[total] = reading.item_weights[age]
            total += 1
    return total


@exact
def sum_listed(read, seen, listed, fixed):
    """Write the items ``listed`` less the seen ones, and their cached sums; return how many or a status."""
    narrow, ids = fixed.accumulators.narrow, fixed.candidates.ids
    mark_seen(narrow, seen, _ONE)
    found = 0
    for place in range(len(listed)):
        ids[found] = listed[place]
        found += narrow[np.uint64(listed[place])] == 0
    mark_seen(narrow, seen, _NOTHING)
    status = sum_rows(read.rows, read.weights, found, fixed, fixed.candidates.sums)
    return np.int64(found) if status >= 0 else np.int64(status)


@exact
def sum_rows(rows, weights, count, fixed, sums):
    """Write what the lists ``rows`` give to the first ``count`` candidates; return 0 or a status."""
    ids = fixed.candidates.ids[:count]
    return np.int64(sum_fitting(fixed.lists, SparseQuery(rows, weights), fixed.accumulators, ids, sums))


@exact
def find_candidates(read, known, seen, wanted, fixed):
    """Write the candidates of a query and their cached sums; return how many or a status.

    They stand by sum descending and id ascending, unless they are the items that a filter has left.
    """
    if wanted.few:
        if not known and len(read.rows) == 0:
            return np.int64(0)
        return sum_listed(read, seen, wanted.listed, fixed)
    query, filters = SparseQuery(read.rows, read.weights), Filters(seen, wanted.allow, wanted.deny)
    answers = Answers(fixed.candidates.ids, fixed.candidates.sums)
    return np.int64(search_fitting(fixed.lists, query, fixed.accumulators, filters, answers))


@exact
def score_exactly(tokens, ids, fixed, scores):
    """Add the all-to-all scores of candidates ``ids`` (R,) for ``tokens`` (K_u, d) to ``scores`` (R,)."""
    _score_exactly(tokens, ids, fixed.scorer, fixed.mixture, scores)


@exact
def _score_exactly(tokens, ids, scorer, mixture, scores):
    if mixture is None:  # decided while compiling
        score_candidates(tokens, ids, scorer, scores)
    else:
        score_with_mixture(tokens, ids, scorer, mix_candidates(tokens, ids, mixture), scores)


@exact
def rescore(tokens, read, found, fixed):
    """Write the scores of the first ``found`` candidates for ``tokens`` (K_u, d); return 0 or a status."""
    candidates, scorer = fixed.candidates, fixed.scorer
    ids, scores = candidates.ids[:found], candidates.scores[:found]
    prefetch_candidates(scorer.items, scorer.item_bias, ids)  # they come while the lists are walked
    if fixed.shares.evidence != 0.0:
        rows, weights = read.rows[: read.learned], read.weights[: read.learned]
        if found <= MOST_NUMBERED:
            learned_sums(fixed.lists, rows, weights, fixed.accumulators.narrow, ids, candidates.own)
        else:
            status = sum_rows(rows, weights, found, fixed, candidates.own)
            if status < 0:
                return status
    scores[:] = np.float32(0.0)
    score_exactly(tokens, ids, fixed, scores)
    add_sums(scores, candidates.sums[:found], candidates.own[:found], fixed.shares)
    return np.int64(0)


@exact
def keep_best(ids, scores, best_ids, best_scores):
    """Write the k best of R candidates, score descending and id ascending; return how many there are.

    With k above MOST_ORDERED, which then is R at least, all of them in the order in which they stand.
    """
    if len(best_ids) > MOST_ORDERED:
        for place in range(len(ids)):
            best_ids[place], best_scores[place] = ids[place], scores[place]
        return np.int64(len(ids))
    filled: Any = np.int64(0)
    for place in range(len(ids)):
        filled = insert_best(best_ids, best_scores, filled, ids[place], scores[place])
    return np.int64(filled)


@exact
def keep_by_sums(found, ordered, fixed, best_ids, best_scores):
    """Write the best of ``found`` candidates by their cached sums; return how many. ``ordered``: they stand so."""
    ids, sums = fixed.candidates.ids, fixed.candidates.sums
    count = min(found, len(best_ids))
    best_sums = fixed.candidates.own
    if ordered:
        for place in range(count):
            best_ids[place], best_sums[place] = ids[place], sums[place]
    else:
        filled: Any = np.int64(0)
        for place in range(found):
            filled = insert_best(best_ids, best_sums[: len(best_ids)], filled, ids[place], sums[place])
    score_by_sums(best_sums[:count], fixed.scale, best_scores[:count])
    return np.int64(count)


@exact
def answer_one(tokens, known, read, seen, wanted, best_ids, best_scores, fixed):
    """Answer one query; return how many results there are or a status below 0, after which scratch is clean.

    ``tokens`` (K_u, d), read if ``known``; ``read``: Read; ``seen``: int32 ids to leave out; ``best_ids``,
    ``best_scores``: (k,). Statuses are those of ``search``.
    """
    best_ids[:] = -1
    best_scores[:] = -np.inf
    found = find_candidates(read, known, seen, wanted, fixed)
    if found < 0:
        return np.int64(found)
    if wanted.depth == 0 or not known:
        return keep_by_sums(found, not wanted.few, fixed, best_ids, best_scores)
    status = rescore(tokens, read, found, fixed)
    if status < 0:
        return np.int64(status)
    return keep_best(fixed.candidates.ids[:found], fixed.candidates.scores[:found], best_ids, best_scores)


@exact
def ask_ahead(history, encoding, lists):
    """Ask for the lists of the last events of the next query."""
    count = read_items(history, encoding.reading, 0, encoding.ahead, encoding.weights)
    prefetch_lists(lists.indptr, lists.postings, encoding.ahead[:count], LINES)


@exact
def is_known(history, features):
    """Tell whether the encoder has something to read: an event, or a feature (1, F) that is not 0."""
    if len(history) > 0:
        return True
    known = False
    for place in range(features.shape[1]):
        known |= features[0, place] != 0
    return known


@exact
def read_query(history, features, given, encoding, item_count):
    """Encode a history (m,) and write the lists it reads; return (known, learned, all lists), all lists < 0: a status.

    The tokens, ``given`` (1, K_u, d) or computed where that is (0, K_u, d), are then in ``encoding.encoder``.
    """
    for place in range(len(history)):
        if history[place] < 0 or history[place] >= item_count:
            return False, 0, BAD_HISTORY
    reading, rows, weights = encoding.reading, encoding.rows, encoding.weights
    known, learned = is_known(history, features), 0
    if known:
        if given.shape[0] > 0:
            encoding.encoder[2][:] = given
        elif not encode(history, features, *encoding.encoder):
            return False, 0, BAD_HISTORY
        if reading.code_rows.shape[0] > 0 and reading.learned_weight > 0:
            learned = read_codes(encoding.encoder[2], reading, rows, weights)
    return known, learned, read_items(history, reading, learned, rows, weights)


@exact
def answer_histories(asked, first, stop, wanted, best, address, kind):
    """Answer queries ``first:stop`` of ``asked``: Histories; ``best``: Best. Returns 0 or the status of the first that
    failed. ``address`` and ``kind``: packed (Encoding, Fixed)."""
    encoding, fixed = unpacked(address, kind)
    for b in range(first, stop):
        if b + 1 < stop:
            ask_ahead(asked.items[asked.indptr[b + 1] : asked.indptr[b + 2]], encoding, fixed.lists)
        history = asked.items[asked.indptr[b] : asked.indptr[b + 1]]
        known, learned, count = read_query(
            history, asked.features[b : b + 1], asked.tokens[b : b + 1], encoding, len(fixed.accumulators.narrow) - 1
        )
        if count < 0:
            return np.int64(count)
        read = Read(encoding.rows[:count], encoding.weights[:count], learned)
        seen = history[: len(history) * wanted.unseen]
        tokens = encoding.encoder[2][0]
        status = answer_one(tokens, known, read, seen, wanted, best.ids[b], best.scores[b], fixed)
        if status < 0:
            return np.int64(status)
    return np.int64(0)


@exact
def answer_rows(asked, first, stop, wanted, best, address, kind):
    """``answer_histories`` of queries that were encoded outside, ``asked``: Encoded; packed: (Fixed,)."""
    (fixed,) = unpacked(address, kind)
    for b in range(first, stop):
        low, high = asked.row_indptr[b], asked.row_indptr[b + 1]
        if b + 1 < stop:
            ahead = asked.rows[high : asked.row_indptr[b + 2]]
            prefetch_lists(fixed.lists.indptr, fixed.lists.postings, ahead, LINES)
        read = Read(asked.rows[low:high], asked.weights[low:high], asked.evidence_start[b] - low)
        history = asked.items[asked.indptr[b] : asked.indptr[b + 1]]
        seen = history[: len(history) * wanted.unseen]
        status = answer_one(
            asked.tokens[b], asked.known[b], read, seen, wanted, best.ids[b], best.scores[b], fixed
        )  # fmt: skip
        if status < 0:
            return np.int64(status)
    return np.int64(0)
