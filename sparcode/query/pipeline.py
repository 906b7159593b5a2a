"""The online path: history -> tokens -> codes -> posting lists -> candidates -> exact rescoring -> answers.

Internal ids only. ``Pipeline.retrieve`` answers everything, in one compiled call (``answer``); ``encode``, ``search``
and ``rescore`` are its stages in numpy, the reference it equals bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import IndexMismatchError, QueryError
from sparcode.index.arrays import read_arrays
from sparcode.index.layout import Index
from sparcode.query.agreement import check_agreement, check_parts
from sparcode.query.answerer import Answerer, Parts
from sparcode.query.codes import CodeResolver
from sparcode.query.encoder.encoder import Encoder
from sparcode.query.explain import explain as explain_rows
from sparcode.query.families import NO_ROWS, CategoryReader, ItemReader, RowReader, Rows, SegmentReader, concatenated
from sparcode.query.filters import Eligible, ItemSet, PopularItems
from sparcode.query.model_checks import WORD_FILES, read_fill_order, read_item_words, verify_model
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.query.search.searcher import Searcher
from sparcode.query.search.searcher import open as open_searcher
from sparcode.query.settings import QuerySettings
from sparcode.query.state import Candidates, QueryState, check_items
from sparcode.run import Run
from sparcode.types import NO_ITEM, Hits, Queries

_ENCODED_TOGETHER = 128
"""Queries of a batch from which on encoding all of them first, so that they share the encoder's weights, is faster than
encoding each before it is answered: on one thread alone, as it is not spread over threads."""


class Pipeline:
    """A trained run ready to answer. Read-only: threads may share one."""

    def __init__(
        self, encoder: Encoder, searcher: Searcher, rescorer: Rescorer, settings: QuerySettings,
        *, rescore: int = 100, codebooks: np.ndarray | None = None, codebook_kind: str = "product",
        fill_order: np.ndarray | None = None, item_words: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self.encoder, self.searcher, self.rescorer = encoder, searcher, rescorer
        self.settings, self.default_rescore = settings, rescore
        self.item_count = searcher.item_count
        index = searcher.index
        learned = index.has_family("learned") and index.family("learned").rows > 0 and codebooks is not None
        self.resolver = CodeResolver(index, codebooks, codebook_kind) if learned and codebooks is not None else None
        self.item_first_row = index.family("item").first_row if index.has_family("item") else None
        self.item_words = item_words
        if index.has_family("category") and item_words is None:
            raise IndexMismatchError("the index has lists of categories, but nothing says which an item has")
        # Ids ascend by falling popularity, unless items were appended to an earlier run's ids.
        self.popular = PopularItems(self.item_count, fill_order)
        self._every = Eligible(self.item_count)
        self._opened_from: tuple[str, str] | None = None
        self._weigh(settings)

    @classmethod
    def open(cls, folder: str | Path, *, verify: str = "auto", settings: QuerySettings | None = None) -> Pipeline:
        """Open the pipeline of a run; refuses an index that was built from another model."""
        run = Run.open(folder)
        if not (run.index_folder / "CURRENT").exists():
            raise IndexMismatchError(f"{run.folder} has no index; build it with: sparcode build-index {run.folder}")
        searcher = open_searcher(run.index_folder, verify=verify)
        found = searcher.manifest.get("model_hash")
        if found != run.model_hash:
            raise IndexMismatchError(
                f"{run.index_folder} was built from model {str(found)[:12]}, but the run holds model "
                f"{run.model_hash[:12]}; build it again with: sparcode build-index {run.folder}"
            )
        pipeline = cls.over(run, searcher, settings or QuerySettings.from_json(run.query_settings, run.query_file))
        verify_model(run, verify)
        pipeline._opened_from = str(run.folder.absolute()), verify
        return pipeline

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as the path of the run, and open it there: addresses of kernels do not travel."""
        if self._opened_from is None:
            raise QueryError("a pipeline over arrays in memory cannot be pickled or copied; open one from a run folder")
        folder, verify = self._opened_from
        return _reopened, (folder, verify, self.settings)

    @classmethod
    def over(cls, run: Run, searcher: Searcher, settings: QuerySettings) -> Pipeline:
        """Return the pipeline of a run over an index of its model, stored or in memory."""
        encoder = Encoder.open(run.model_folder)
        arrays = read_arrays(run.model_folder / "encoder.safetensors")
        kind = (encoder.spec.get("quantizer") or {}).get("kind", "product")
        rescorer, codebooks = Rescorer.open(run.model_folder), arrays.get("codebooks")
        check_parts(run, encoder, rescorer)
        check_agreement(searcher.index, rescorer.item_count, codebooks)
        return cls(
            encoder, searcher, rescorer, settings,
            rescore=run.config.query.rescore, codebooks=codebooks, codebook_kind=kind,
            fill_order=_fill_order(run, searcher.item_count), item_words=_item_words(run, searcher.index),
        )  # fmt: skip

    @property
    def encoder_bytes(self) -> int:
        """Bytes of what turns queries into rows: the encoder, and the categories of the items where they are read."""
        return self.encoder.bytes + sum(array.nbytes for array in self.item_words or ())

    @property
    def reads_user_features(self) -> bool:
        """Whether the encoder or the segment family reads the features of users."""
        return self.encoder.feature_width > 0 or self.searcher.index.has_family("segment")

    def with_settings(self, settings: QuerySettings) -> Pipeline:
        """Return the same pipeline under other settings; nothing is opened again."""
        other = object.__new__(Pipeline)
        other.__dict__.update(self.__dict__)
        other.settings = settings
        other._weigh(settings)
        return other

    def _weigh(self, settings: QuerySettings) -> None:
        """Make the readers of all families but the learned one, in the order their rows have in a query."""
        index, readers = self.searcher.index, list[RowReader]()
        if self.item_first_row is not None:
            readers.append(ItemReader(self.item_first_row, settings.item_weights))
        if self.item_words is not None and index.has_family("category"):
            family = index.family("category")
            readers.append(CategoryReader(family.first_row, family.rows, *self.item_words, settings.category_weights))
        if index.has_family("segment"):
            family = index.family("segment")
            readers.append(SegmentReader(family.first_row, family.rows, settings.segment_weight))
        self._readers = tuple(readers)
        known = self.resolver is None or self.resolver.table is not None
        encodes = self.encoder.has_books and known and all(isinstance(each, ItemReader) for each in readers)
        parts = Parts(self.encoder, self.resolver, self.searcher, self.rescorer, settings, self.item_first_row)
        self._answerer = Answerer(parts, encodes)

    def retrieve(
        self, queries: Queries, k: int, *, rescore: int | None = None, include_seen: bool = False,
        allow: np.ndarray | ItemSet | None = None, deny: np.ndarray | ItemSet | None = None,
        tokens: np.ndarray | None = None, threads: int = 1,
    ) -> Hits:  # fmt: skip
        """Answer a batch: min(k, eligible) items each, best first, filled by popularity where lists run out.

        ``rescore``: R candidates rescored exactly (at least k; 0 = cached sums only; None = the run's default).
        ``allow``, ``deny``: (n,) bool, or sets, which know what a mask must be read for; when they leave no more than
        R items, all of these are rescored, whether a list holds them or not. ``tokens`` (B, K_u, d) of the encoder,
        where they are known already. The answer does not depend on ``threads``. Raises QueryError on a bad k, bad
        masks or unknown items.
        """
        depth, eligible = self._depth(k, rescore), self._every
        if allow is not None or deny is not None:
            eligible = Eligible.of(self.item_count, allow, deny)
        inside = self._answerer.encodes and (threads > 1 or len(queries) < _ENCODED_TOGETHER)
        if inside:
            hits = self._answerer.histories(queries, k, depth, not include_seen, eligible, threads, tokens)
        else:
            state = self.encode(queries, tokens)
            hits = self._answerer.encoded(state, k, depth, not include_seen, eligible, threads)
        return self.popular.fill(hits, queries, eligible, include_seen=include_seen)

    def encode(self, queries: Queries, tokens: np.ndarray | None = None) -> QueryState:
        """Turn queries into tokens and posting lists; ``tokens`` (B, K_u, d) are computed unless they are given."""
        check_items(queries, self.item_count)
        tokens = self.encoder.tokens(queries) if tokens is None else tokens
        known = self.encoder.has_tokens(queries)
        learned = self._learned(tokens, known)
        rows = concatenated([learned, *(reader.read(queries) for reader in self._readers)])
        return QueryState(queries, tokens, known, *rows, rows.indptr[:-1] + np.diff(learned.indptr))

    def search(
        self, state: QueryState, k: int, *, include_seen: bool = False, allow: np.ndarray | None = None,
        deny: np.ndarray | None = None, threads: int = 1,
    ) -> Candidates:  # fmt: skip
        """Add the cached scores of the lists and keep the best k items of each query."""
        queries = state.queries
        result = self.searcher.search(
            state.rows, state.weights, state.indptr, min(k, self.item_count),
            seen_indptr=None if include_seen else queries.indptr, seen_items=None if include_seen else queries.items,
            allow=allow, deny=deny, threads=threads,
        )  # fmt: skip
        return Candidates(result.ids, result.sums)

    def rescore(self, state: QueryState, candidates: Candidates, k: int) -> Hits:
        """Score the candidates exactly and keep the best k of each query, in numpy: the reference of ``retrieve``."""
        ids = np.full((len(candidates.ids), k), NO_ITEM, np.int32)
        scores = np.full(ids.shape, -np.inf, np.float32)
        for row, found in enumerate(candidates.ids):
            held = found != NO_ITEM
            first, high = state.item_start[row], state.indptr[row + 1]
            tokens = state.tokens[row] if state.known[row] else None
            evidence = state.rows[first:high], state.weights[first:high]
            values = self._exact(tokens, *evidence, found[held], candidates.sums[row][held])
            order = np.lexsort((found[held], -values))[:k]
            ids[row, : len(order)], scores[row, : len(order)] = found[order], values[order]
        return Hits(ids, scores)

    def retrieve_exhaustive(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Rank all n items by the exact score: ``retrieve`` with R = n, were every item in some list. Slow."""
        state = self.encode(queries)
        everything = np.arange(self.item_count, dtype=np.int32)
        ids = np.full((len(queries), k), NO_ITEM, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for row in range(len(queries)):
            low, first, high = state.indptr[row], state.item_start[row], state.indptr[row + 1]
            tokens = state.tokens[row] if state.known[row] else None
            if tokens is None and first == high:
                continue
            sums = self.searcher.sums_of(state.rows[low:high], state.weights[low:high], everything)
            values = self._exact(tokens, state.rows[first:high], state.weights[first:high], everything, sums)
            if not include_seen:
                values[queries.history(row)] = -np.inf
            order = np.lexsort((everything, -values))[:k]
            order = order[np.isfinite(values[order])]
            ids[row, : len(order)], scores[row, : len(order)] = order, values[order]
        return self.popular.fill(Hits(ids, scores), queries, Eligible(self.item_count), include_seen=include_seen)

    def explain(self, queries: Queries, item: int) -> dict[str, Any]:
        """Tell which lists gave item how much to the first query, and what rescoring made of it."""
        state = self.encode(queries)
        low, high, first = int(state.indptr[0]), int(state.indptr[1]), int(state.item_start[0])
        parts = explain_rows(self.searcher.index, state.rows[low:high], state.weights[low:high], item)
        tokens = state.tokens[0] if state.known[0] else None
        ids = np.array([item], np.int32)
        sums = self.searcher.sums_of(state.rows[low:high], state.weights[low:high], ids)
        exact = float(self._exact(tokens, state.rows[first:high], state.weights[first:high], ids, sums)[0])
        interaction = 0.0 if tokens is None else float(self.rescorer.score(tokens, ids)[0])
        return {
            "lists": parts,
            "cached_score": int(sums[0]) * self.searcher.scale,
            "exact_score": exact,
            "interaction_score": interaction,
            "evidence_score": exact - interaction,
        }

    def _exact(
        self, tokens: np.ndarray | None, rows: np.ndarray, weights: np.ndarray, ids: np.ndarray, sums: np.ndarray
    ) -> np.ndarray:
        """Return all-to-all score + cached_weight * cached sum + evidence_weight * cached sum of the lists ``rows``.

        A query that the encoder cannot read (no tokens) is scored by its lists alone.
        """
        scale = np.float32(self.searcher.scale)
        if tokens is None:
            return sums * scale
        scores = self.rescorer.score(tokens, ids)
        if self.settings.cached_weight:
            scores = scores + sums * (np.float32(self.settings.cached_weight) * scale)
        if self.settings.evidence_weight and len(rows):
            evidence = self.searcher.sums_of(rows, weights, ids)
            scores = scores + evidence * (np.float32(self.settings.evidence_weight) * scale)
        return scores.astype(np.float32, copy=False)

    def _learned(self, tokens: np.ndarray, known: np.ndarray) -> Rows:
        """Return the learned rows of tokens (B, K_u, d), none where they are not ``known`` (B,)."""
        if self.resolver is None or not self.settings.learned_weight:
            return Rows(NO_ROWS, NO_ROWS, np.zeros(len(known) + 1, np.int64))
        codes = self.encoder.codes(tokens, self.settings.probes)[0]
        rows = self.resolver.rows(codes).reshape(len(known), codes.shape[1] * codes.shape[2])
        indptr = np.concatenate([[0], np.cumsum(known * rows.shape[1])]).astype(np.int64)
        kept = rows[known].ravel().astype(np.int32, copy=False)
        return Rows(kept, np.full(len(kept), self.settings.learned_weight, np.int32), indptr)

    def _depth(self, k: int, rescore: int | None) -> int:
        if k < 1:
            raise QueryError(f"k is {k}; expected at least 1")
        depth = self.default_rescore if rescore is None else rescore
        if depth < 0:
            raise QueryError(f"rescore is {depth}; expected 0 (cache only) or the number of candidates")
        return max(depth, k) if depth else 0


def _reopened(folder: str, verify: str, settings: QuerySettings) -> Pipeline:
    return Pipeline.open(folder, verify=verify, settings=settings)


def _fill_order(run: Run, item_count: int) -> np.ndarray | None:
    path = run.model_folder / "popularity.safetensors"
    return read_fill_order(path, item_count) if path.exists() else None


def _item_words(run: Run, index: Index) -> tuple[np.ndarray, np.ndarray] | None:
    if not index.has_family("category"):
        return None
    return read_item_words(run.model_folder / WORD_FILES["category"], index.item_count, index.family("category").rows)
