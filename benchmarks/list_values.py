"""What should a learned list hold: the scores of its codeword, or what serves the queries that read it best?

The learned lists of one finished run are made anew, nothing is trained again, and everything after them is as in
``build-index``: cut to the same number of postings, merged, settings fitted on validation, measured on test.

    centroid    log P(item | codeword), what sparcode builds
    distilled   log of the mean, over training queries of the code, of softmax(scores / T): the value that minimises the
                mean cross-entropy from the teacher of those queries to the list; the codeword counts as one query more
    next items  as distilled, T = 1, with 0.3 of the weight on what followed those queries
    tuned       centroid, then every stored value moved by gradient descent (Adam), so that the whole cached sum, item
                lists included, ranks like the rescored order: cross-entropy from softmax(exact score) to
                softmax(b * cached sum) over all items, b fitted first; postings stay the same

    python benchmarks/list_values.py RUN [--out FILE] [--queries 150000]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from shared import ROOT, Results, Row, notes, table

from sparcode.build import job as build
from sparcode.build.assembly import assemble
from sparcode.build.blocks import BlockScoring, open_scorer
from sparcode.build.cut import Cutter
from sparcode.build.policy import resolve_settings
from sparcode.build.reads import Reads
from sparcode.build.runners import build_runner
from sparcode.build.score.candidates import Candidates, score_block
from sparcode.build.score.scoring import CodeScorer, ListScorer
from sparcode.build.stored_codes import Stored
from sparcode.config import updated
from sparcode.eval.evaluate import evaluate
from sparcode.eval.machine import one_thread
from sparcode.index.layout import Index, composite
from sparcode.query.pipeline import Pipeline, QuerySettings
from sparcode.query.search.searcher import Searcher
from sparcode.retrievers.evaluation import evaluation_set_of
from sparcode.retrievers.learned import SparcodeRetriever
from sparcode.run import Run
from sparcode.seeding import generator
from sparcode.types import Queries

METRICS = ("ndcg@10", "recall@10", "recall@50")
DISTILLED = {
    "distilled, T = 1": (1.0, 0.0), "distilled, T = 1.4": (1.4, 0.0), "distilled, T = 0.7": (0.7, 0.0),
    "distilled, T = 1, 0.3 next items": (1.0, 0.3),
}  # fmt: skip
"""Temperature and weight of what followed."""
TUNED = "tuned by gradient"
STEPS, BATCH, RATE = 600, 128, 0.02


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure what is missing, write JSON and Markdown, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument("--name", help="what the run is called in the results; default: its folder's name")
    parser.add_argument("--queries", type=int, default=150_000, help="training queries that teach, at most")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    name = options.name or options.run.name
    out = options.out or ROOT / "benchmarks" / "results" / f"list_values-{name}.json"
    results = Results(out, f"{name}: values of the learned lists", markdown_of)
    bench = Bench(Run.open(options.run), options.queries)
    for alone in (True, False):
        for made in ("centroid", *DISTILLED, *([] if alone else [TUNED])):
            identity = {"run": name, "model": bench.run.model_hash, "made": made, "alone": alone}
            identity["queries"] = options.queries
            results.cell(identity, lambda made=made, alone=alone: bench.measure(made, alone))  # type: ignore[misc]
    results.show()
    return results


class Teaching:
    """Training queries: unit ``tokens`` (T, d), ``keys`` (T,) of their codes, ``following`` (T,) items; by code."""

    def __init__(self, run: Run, most: int, encoder: Any) -> None:
        self.queries, following = training_queries(run, most)
        tokens = np.concatenate([encoder.tokens(part) for part in _parts(self.queries)])
        codes = encoder.codes(tokens, 1)[0].reshape(len(tokens), -1)
        keys = composite(codes, int(encoder.spec["quantizer"]["codewords"]))
        order = np.argsort(keys, kind="stable")
        self.tokens, self.keys, self.following = tokens[order, 0], keys[order], following[order]


def training_queries(run: Run, most: int) -> tuple[Queries, np.ndarray]:
    """Return a random sample of histories before an event of training, and the items (T,) of these events."""
    train = run.dataset.train
    lengths = np.diff(train.indptr)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(train.items)) - np.repeat(train.indptr[:-1], lengths)
    usable = np.flatnonzero(places >= 1)
    if len(usable) > most:
        usable = np.sort(generator(run.config.seed, "teaching queries").choice(usable, most, replace=False))
    starts = np.maximum(train.indptr[owners[usable]], usable - run.config.model.history)
    indptr = np.concatenate([[0], np.cumsum(usable - starts)]).astype(np.int64)
    items = np.concatenate([train.items[low:high] for low, high in zip(starts, usable, strict=True)])
    users = run.dataset.user_features
    features = None if users is None else users.dense(owners[usable])
    return Queries(indptr, items, features), train.items[usable].astype(np.int64)


def _parts(queries: Queries, size: int = 4096) -> list[Queries]:
    return [queries.slice(low, min(low + size, len(queries))) for low in range(0, len(queries), size)]


class DistilledScorer:
    """log of the mean probability of an item over the queries of a code; calls as ``CodeScorer``."""

    def __init__(self, inner: CodeScorer, codewords: int, teaching: Teaching, temperature: float, next_items: float):
        self.inner, self.codewords, self.teaching = inner, codewords, teaching
        self.temperature, self.next_items = np.float32(temperature), next_items
        self.item_count = inner.item_count

    def plan(self, codes: np.ndarray) -> np.ndarray:
        """Return log-probabilities (n, C) float32 of codes (C, M)."""
        out = np.empty((self.item_count, len(codes)), np.float32)
        for place, key in enumerate(composite(codes, self.codewords)):
            low, high = np.searchsorted(self.teaching.keys, [key, key + 1])
            own = self.inner.scores(self.inner.plan(codes[place : place + 1]))
            mean = _softmax(np.concatenate([own, self._scores(low, high)], axis=1) / self.temperature).sum(axis=1)
            if self.next_items and high > low:
                counts = np.bincount(self.teaching.following[low:high], minlength=self.item_count)
                mean = (1 - self.next_items) * mean + self.next_items * counts
            out[:, place] = np.log(np.maximum(mean / (1 + high - low), 1e-30))
        return out

    def _scores(self, low: int, high: int) -> np.ndarray:
        # A query's own token as a codebook of one book: the scorer then scores unquantised tokens.
        tokens = np.ascontiguousarray(self.teaching.tokens[low:high])
        if not len(tokens):
            return np.empty((self.item_count, 0), np.float32)
        scorer = CodeScorer(self.inner.rescorer, tokens[None], "product")
        return scorer.scores(scorer.plan(np.arange(len(tokens), dtype=np.uint16)[:, None]))

    def scores(self, plan: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return those of items ``start:stop``."""
        return plan[start:stop]


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))


class GivenScores(BlockScoring):
    """Candidates of stored codes by a scorer that is given, in this process."""

    def __init__(self, run: Run, usual: BlockScoring, scorer: ListScorer) -> None:
        super().__init__(run, usual.work, usual.runner, usual.block_codes, usual.report)
        self.scorer = scorer

    def candidates(self, stored: Stored, threshold: float | np.ndarray, floor: int) -> Candidates:
        """Return the pairs above ``threshold`` and the best ``floor`` of every code."""
        size = 256
        parts = [
            score_block(self.scorer, stored.codes[low : low + size], threshold, floor)
            for low in range(0, len(stored.codes), size)
        ]
        lengths = np.concatenate([np.diff(part.indptr) for part in parts])
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Candidates(indptr, *(np.concatenate([part[column] for part in parts]) for column in (1, 2)))


class ValuesJob(build.Job):
    """A build whose learned lists are scored by ``scorer`` when one is given."""

    scorer: ListScorer | None = None

    def _cutter(self, scorer: ListScorer, stored: Stored, reads: Reads) -> Cutter:
        usual = super()._cutter(scorer, stored, reads)
        if self.scorer is None:
            return usual
        return replace(usual, scorer=self.scorer, scoring=GivenScores(self.run, self.scoring, self.scorer))


class Bench:
    """Builds and measures the indexes of one run, in memory."""

    def __init__(self, run: Run, most: int) -> None:
        self.run, self.most = run, most
        self.teaching: Teaching | None = None
        self.inner = getattr(open_scorer(run.model_folder), "inner", None)
        assert self.inner is not None, "the run's lists are counted or have a trained bias; nothing to compare"

    def measure(self, made: str, alone: bool) -> Row:
        """Return quality on validation and test, and bytes."""
        print(f"{made}, {'learned codes only' if alone else 'all families'}", flush=True)
        with one_thread(), tempfile.TemporaryDirectory(prefix="sparcode-") as work:
            config = updated(self.run.config, {"families.item.enabled": False} if alone else {})
            settings = resolve_settings(config.index, {}, None)
            job = ValuesJob(self.run, config, settings, build_runner("serial"), Path(work), lambda done, total: None)
            if made in DISTILLED:
                job.scorer = self._distilled(job, *DISTILLED[made])
            index, _ = job.index()
            chosen, notes_ = build.query_settings(self.run, config, settings, index, job.item_weights, {})
            if made == TUNED:
                index = self._tuned(job, index, chosen)
                chosen, notes_ = build.query_settings(self.run, config, settings, index, job.item_weights, {})
            found = {key: value for key, value in (notes_ or {}).items() if key.startswith("validation")}
            return found | {"cache_bytes": index.cache_bytes, **self._quality(index, chosen)}

    def _taught(self, encoder: Any) -> Teaching:
        if self.teaching is None:
            self.teaching = Teaching(self.run, self.most, encoder)
        return self.teaching

    def _distilled(self, job: build.Job, temperature: float, next_items: float) -> DistilledScorer:
        codewords = int(job.encoder.spec["quantizer"]["codewords"])
        return DistilledScorer(self.inner, codewords, self._taught(job.encoder), temperature, next_items)

    def _quality(self, index: Index, settings: QuerySettings) -> Row:
        part, row = evaluation_set_of(self.run, "test"), dict[str, Any]()
        pipeline = Pipeline.over(self.run, Searcher(index), settings)
        for name, rescore in (("sparcode-cache", 0), ("sparcode", self.run.config.query.rescore)):
            retriever = SparcodeRetriever(pipeline, rescore=rescore, name=name)
            result = evaluate(retriever, part, self.run.dataset.item_count, seed=self.run.config.seed)
            row[name] = {metric: result.metrics[metric] for metric in METRICS}
        return row

    def _tuned(self, job: build.Job, index: Index, settings: QuerySettings) -> Index:
        """Return the index with learned values moved towards the rescored order of training queries."""
        assert job.learned is not None
        kept = job.learned.kept
        pipeline = Pipeline.over(self.run, Searcher(index), settings)
        values = tune(pipeline, kept, self._taught(job.encoder).queries, self.run.config.seed)
        return assemble(self.item_count, job.learned.stored.codes, kept._replace(values=values), job.items,
                        job.learned.table, job.words)  # fmt: skip

    @property
    def item_count(self) -> int:
        """n."""
        return int(self.run.dataset.item_count)


def tune(pipeline: Pipeline, kept: Candidates, queries: Queries, seed: int) -> np.ndarray:
    """Return new values (P,) float32 of the learned postings ``kept``, the first rows of the index.

    One step: BATCH queries, p = softmax(exact), s = softmax(b * cached); the gradient of the cross-entropy with respect
    to a posting's value is the sum over the queries that read it of b * weight * (s - p) at its item.
    """
    lists = _matrix(pipeline.searcher.index)
    rng, codes = generator(seed, "tuning lists"), len(kept.indptr) - 1
    rows = np.repeat(np.arange(codes), np.diff(kept.indptr))
    values = kept.values.astype(np.float64)
    learned = sp.csr_matrix((values, kept.items, kept.indptr), (codes, pipeline.item_count))
    rest = lists[codes:]
    sharpness = _sharpness(pipeline, learned, rest, _sample(queries, rng, 4 * BATCH))
    first, second = np.zeros_like(values), np.zeros_like(values)
    for step in range(1, STEPS + 1):
        learned.data = values
        exact, cached, reads = _both(pipeline, learned, rest, _sample(queries, rng, BATCH))
        wrong = sharpness * (_softmax(sharpness * cached.T) - _softmax(exact.T)).T / len(exact)  # (B, n)
        change = np.asarray((reads.T @ wrong)[rows, kept.items]).reshape(-1)
        first += 0.1 * (change - first)
        second += 0.01 * (change * change - second)
        rate = RATE * (1 - step / STEPS)
        values = values - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
        values = np.maximum(values, 1e-6)
    return values.astype(np.float32)


def _matrix(index: Index) -> sp.csr_matrix:
    """Return the lists in score units, (rows, n)."""
    return sp.csr_matrix(
        ((index.postings & 255) * np.float64(index.scale), index.postings >> 8, index.indptr),
        (len(index.indptr) - 1, index.item_count),
    )


def _sample(queries: Queries, rng: np.random.Generator, size: int) -> Queries:
    chosen = rng.choice(len(queries), min(size, len(queries)), replace=False)
    histories = [queries.history(int(row)) for row in chosen]
    indptr = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    features = None if queries.user_features is None else queries.user_features[chosen]
    return Queries(indptr, np.concatenate(histories), features)


def _both(
    pipeline: Pipeline, learned: sp.csr_matrix, rest: sp.csr_matrix, queries: Queries
) -> tuple[np.ndarray, np.ndarray, sp.csr_matrix]:
    """Return exact scores and cached sums (B, n), items of the history at -1e9, and the weights of learned lists."""
    state, codes = pipeline.encode(queries), learned.shape[0]
    weights = sp.csr_matrix((state.weights.astype(np.float64), state.rows, state.indptr),
                            (len(queries), codes + rest.shape[0]))  # fmt: skip
    reads = weights[:, :codes].tocsr()
    evidence = np.asarray((weights[:, codes:] @ rest).todense())
    cached = np.asarray((reads @ learned).todense()) + evidence
    everything, settings = np.arange(pipeline.item_count, dtype=np.int32), pipeline.settings
    exact = np.stack([pipeline.rescorer.score(tokens, everything) for tokens in state.tokens])
    exact = exact + settings.cached_weight * cached + settings.evidence_weight * evidence
    for row in range(len(queries)):
        exact[row, queries.history(row)] = cached[row, queries.history(row)] = -1e9
    return exact, cached, reads


def _sharpness(pipeline: Pipeline, learned: sp.csr_matrix, rest: sp.csr_matrix, queries: Queries) -> float:
    """Return the b of a grid with the least cross-entropy from softmax(exact) to softmax(b * cached)."""
    exact, cached, _ = _both(pipeline, learned, rest, queries)
    teacher = _softmax(exact.T)

    def loss(b: float) -> float:
        return float(-(teacher * np.log(np.maximum(_softmax(b * cached.T), 1e-30))).sum())

    return min((2.0 ** (power / 2) for power in range(-24, 5)), key=loss)


def markdown_of(rows: list[Row]) -> str:
    """Return the table of all cells."""
    header = ["lists", "values", "validation ndcg@10 cache", "rescored", "test ndcg@10 cache", "rescored"]
    header += ["recall@50 cache", "rescored", "MB"]
    lines = [
        "one run, one seed; test differences of this size need three seeds: 95 % intervals of a figure are about "
        "4 % of it at 22,000 users and 10 % at 900",
        "next items and temperatures were not chosen on test: every row tried is here",
    ]
    return table(header, [_cells(row) for row in rows]) + notes(lines)


def _cells(row: Row) -> list[str]:
    config = row["config"]
    found = [row["validation_ndcg@10_cache"], row["validation_ndcg@10_rescored"]]
    found += [row[system][metric] for metric in ("ndcg@10", "recall@50") for system in ("sparcode-cache", "sparcode")]
    lists = "learned codes only" if config["alone"] else "all families"
    return [lists, config["made"], *(f"{value:.4f}" for value in found), f"{row['cache_bytes'] / 1e6:.2f}"]


if __name__ == "__main__":
    main()
