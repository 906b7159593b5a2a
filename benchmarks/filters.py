"""What does a filter cost? Latency of single queries with and without filters on one finished run, and who is filled.

Filters keep about half, a tenth, a hundredth and a thousandth of the items, chosen at random, or by the one condition
on an attribute whose share is nearest; one more denies a hundred random items. Every query is answered under every
filter in turn, in one process on one thread, by the path with the least overhead (``Pipeline.retrieve``); the
filter that begins changes. A filter is made once (its cost has a column of its own: the first use of a condition) and
used for all queries. Answers are checked: eligible items only, no seen item, exactly min(k, eligible) of them.

    python benchmarks/filters.py --run RUN [--queries 500] [--rounds 3] [-k 10] [--rescore R] [--out FILE]
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shared import ROOT, Results, Row, config_of, folders, label, notes, parser_of, table, trained

from sparcode.build.job import build_index
from sparcode.config import Config
from sparcode.data.attributes import Attribute, ItemAttributes
from sparcode.data.where.grammar import parse_condition
from sparcode.eval.latency import collector_off
from sparcode.eval.machine import one_thread
from sparcode.query.attributes import AttributeFilter
from sparcode.query.filters import ItemSet
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run
from sparcode.seeding import generator
from sparcode.types import NO_ITEM, Hits, Queries

SHARES = (0.5, 0.1, 0.01, 0.001)
DENIED = 100
WARMUP = 20
FARTHEST = 2.0
"""Largest factor between the share of a condition and the one it stands for; else there is no such row."""
HEADER = [
    "filter", "eligible", "p50 us", "p95 us", "p50 / unfiltered", "queries without fill", "p50 / unfiltered, of these",
    "places filled %", "first use ms",
]  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """One filter: ``seconds`` is what making its set took, condition to counted items."""

    name: str
    wanted: float | None = None
    allow: ItemSet | None = None
    deny: ItemSet | None = None
    seconds: float | None = None


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure the run unless its figures are there, write JSON and Markdown, print the table."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--run", type=Path, metavar="RUN", help="a finished run; absent: one is trained on DATA")
    parser.add_argument("--queries", type=int, default=500, help="random queries of the test set")
    parser.add_argument("--rounds", type=int, default=3, help="times every query is asked under every filter")
    parser.add_argument("-k", type=int, default=10, help="answers a query")
    parser.add_argument("--rescore", type=int, metavar="R", help="candidates scored exactly; absent: as the run has it")
    options = parser.parse_args(arguments)
    work, out = folders(options, "filters")
    run = Run.open(options.run) if options.run else built(options.data, work, config_of(options))
    name = options.run.resolve().name if options.run else label(options.data)
    out = options.out or ROOT / "benchmarks" / "results" / f"filters-{name}.json"
    pipeline = Pipeline.open(run.folder)
    identity = {
        "run": name, "model_hash": run.model_hash, "k": options.k, "queries": options.queries,
        "generation": pipeline.searcher.manifest.get("generation"), "rounds": options.rounds,
        "rescore": pipeline.default_rescore if options.rescore is None else options.rescore,
    }  # fmt: skip
    results = Results(out, f"{name}: what filters cost", markdown_of)
    results.cell(identity, lambda: measure(run, pipeline, identity))
    results.show()
    return results


def built(data: str, work: Path, config: Config) -> Run:
    """Train a run on DATA and build its index, or open it when that is done."""
    run = trained(data, work, "run", config, baselines=False)
    if not (run.index_folder / "CURRENT").exists():
        build_index(run.folder)
    return run


def measure(run: Run, pipeline: Pipeline, identity: Row) -> Row:
    """Time all filters together and return one row for each."""
    random = generator(run.config.seed, "benchmark of filters")
    filters = list(filters_of(run.dataset.item_attributes, pipeline.item_count, random))
    queries = queries_of(run, identity["queries"], random)
    with one_thread():
        answers = [answered(pipeline, queries, each, identity) for each in filters]
        times = latencies(pipeline, queries, filters, identity)
    lengths = pipeline.searcher.index.lengths()
    read = pipeline.encode(queries).rows
    rows = [row_of(each, hits, own, times[0]) for each, hits, own in zip(filters, answers, times, strict=True)]
    return {
        "items": pipeline.item_count,
        "asked": len(queries),
        "postings_per_query": float(lengths[read].sum() / len(queries)),
        "filters": rows,
    }


def filters_of(attributes: ItemAttributes | None, items: int, random: np.random.Generator) -> Iterator[Filter]:
    """Yield no filter, then all filters that the catalogue is large enough for and whose conditions exist."""
    yield Filter("none")
    if items > 2 * DENIED:
        yield Filter(f"deny {DENIED} random", deny=random_set(items, DENIED, random))
    for share in SHARES:
        if round(share * items):
            yield Filter(f"random {share:g}", share, random_set(items, round(share * items), random))
    for share in SHARES:
        condition = None if attributes is None else nearest_condition(attributes, share)
        if attributes is not None and condition is not None:
            parse_condition(condition)  # the parser is made once a process
            started = time.perf_counter()
            found = AttributeFilter(attributes).where(condition)
            counted = found.count
            seconds = time.perf_counter() - started
            assert counted == len(found.ids)
            yield Filter(condition, share, found, seconds=seconds)


def random_set(items: int, count: int, random: np.random.Generator) -> ItemSet:
    """Return ``count`` random items."""
    mask = np.zeros(items, bool)
    mask[random.choice(items, count, replace=False)] = True
    return ItemSet(mask)


def nearest_condition(attributes: ItemAttributes, share: float) -> str | None:
    """Return the condition on one column whose share of the items is nearest by factor; None if all are far off."""
    best, condition = np.log(FARTHEST), None
    for name, attribute in attributes.columns.items():
        for place, sign, count in candidates(attribute):
            distance = abs(np.log(count / attributes.count / share))
            text = str(attribute.value(place))
            if distance <= best and '"' not in text:
                best, condition = distance, f'{name}{sign}"{text}"'
    return condition


def candidates(attribute: Attribute) -> Iterator[tuple[int, str, int]]:
    """Yield (place of a value, sign, items): of numbers the values at quantiles, of words each that is not alone."""
    counts = np.diff(attribute.indptr)
    if attribute.kind == "number":
        above = len(attribute.items) - attribute.indptr[:-1]
        for share in SHARES:
            place = int(np.argmin(np.abs(above - share * (len(attribute.items) + len(attribute.missing)))))
            yield place, ">=", int(above[place])
    elif attribute.kind in ("text", "list", "truth"):
        for place in np.argsort(-counts, kind="stable")[:1000]:
            if counts[place] > 1:
                yield int(place), "=", int(counts[place])


def queries_of(run: Run, count: int, random: np.random.Generator) -> Queries:
    """Return random queries of the test set, or of all users where nothing is held out, each once."""
    held = run.held_out("test")
    serving, users = run.dataset.serving, run.dataset.user_features
    if held is not None and len(held):
        source = held.queries
    else:
        described = users.dense(np.arange(len(serving))) if users is not None and run.reads_user_features else None
        source = Queries(serving.indptr, serving.items, described)
    chosen = np.sort(random.permutation(len(source))[:count])
    parts = [source.history(int(row)) for row in chosen]
    indptr = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    features = None if source.user_features is None else source.user_features[chosen]
    return Queries(indptr, np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32), features)


def answered(pipeline: Pipeline, queries: Queries, filtered: Filter, identity: Row) -> Hits:
    """Answer all queries under one filter; AssertionError unless they are exactly min(k, eligible) eligible items."""
    k = identity["k"]
    hits = pipeline.retrieve(queries, k, rescore=identity["rescore"], allow=filtered.allow, deny=filtered.deny)
    eligible = np.ones(pipeline.item_count, bool) if filtered.allow is None else filtered.allow.mask.copy()
    if filtered.deny is not None:
        eligible &= ~filtered.deny.mask
    total = int(eligible.sum())
    for row in range(len(queries)):
        found, seen = hits.ids[row][hits.ids[row] != NO_ITEM], np.unique(queries.history(row))
        assert eligible[found].all(), f"{filtered.name}: query {row} is answered with items that are not eligible"
        assert not np.isin(found, seen).any(), f"{filtered.name}: query {row} is answered with seen items"
        wanted = min(k, total - int(eligible[seen].sum()))
        assert len(np.unique(found)) == len(found) == wanted, f"{filtered.name}: query {row} has {len(found)} answers"
    return hits


def latencies(pipeline: Pipeline, queries: Queries, filters: Sequence[Filter], identity: Row) -> np.ndarray:
    """Return microseconds (filters, rounds, queries): filters take turns on each query, all warmed up before."""
    times = np.zeros((len(filters), identity["rounds"], len(queries)))
    for row in range(min(WARMUP, len(queries))):
        for each in filters:
            timed(pipeline, queries, row, each, identity)
    with collector_off():
        for turn in range(identity["rounds"]):
            for row in range(len(queries)):
                for step in range(len(filters)):
                    place = (step + row + turn) % len(filters)
                    times[place, turn, row] = timed(pipeline, queries, row, filters[place], identity)
    return times


def timed(pipeline: Pipeline, queries: Queries, row: int, each: Filter, identity: Row) -> float:
    """Return the microseconds of one query."""
    query = queries.slice(row, row + 1)
    started = time.perf_counter_ns()
    pipeline.retrieve(query, identity["k"], rescore=identity["rescore"], allow=each.allow, deny=each.deny)
    return (time.perf_counter_ns() - started) / 1e3


def row_of(each: Filter, hits: Hits, times: np.ndarray, plain: np.ndarray) -> Row:
    """Return the figures of one filter; ``times``, ``plain``: microseconds (rounds, queries) with and without it."""
    p50, p95 = np.percentile(times, [50, 95])
    whole = ~hits.filled.any(axis=1) & (hits.ids != NO_ITEM).all(axis=1)
    alike = float(np.median(times[:, whole]) / np.median(plain[:, whole])) if whole.any() else None
    return {
        "filter": each.name,
        "wanted_share": each.wanted,
        "allowed": None if each.allow is None else each.allow.count,
        "denied": None if each.deny is None else each.deny.count,
        "p50_us": round(float(p50), 2),
        "p95_us": round(float(p95), 2),
        "ratio": float(p50 / np.median(plain)),
        "queries_without_fill": int(whole.sum()),
        "ratio_without_fill": alike,
        "fill_rate": float(hits.filled.sum() / max(int((hits.ids != NO_ITEM).sum()), 1)),
        "first_use_ms": None if each.seconds is None else round(each.seconds * 1e3, 3),
    }


def markdown_of(rows: list[Row]) -> str:
    """Return the table of each run and what must be known to read it."""
    parts = []
    for row in rows:
        config = row["config"]
        lines = [
            f"{row['items']:,} items, {row['asked']:,} queries, {config['rounds']} rounds, k = {config['k']}, "
            f"R = {config['rescore']}, {row['postings_per_query']:,.0f} postings read a query in the mean",
            "a filter that leaves no more than R items has all of them scored exactly",
            "queries without fill: all k places hold scored items; their ratio compares the same queries",
            "places filled: share of the answers that popularity gave because the lists held no other eligible item",
            "first use: from the condition to a counted set; later uses take the set as it is",
        ]
        parts.append(table(HEADER, [_cells(each, row["items"]) for each in row["filters"]]) + notes(lines))
    return "\n".join(parts)


def _cells(each: Row, items: int) -> list[str]:
    eligible = (items if each["allowed"] is None else each["allowed"]) - (each["denied"] or 0)
    alike, first = each["ratio_without_fill"], each["first_use_ms"]
    return [
        each["filter"], f"{eligible:,} ({eligible / items:.2%})", f"{each['p50_us']:,.0f}",
        f"{each['p95_us']:,.0f}", f"{each['ratio']:.2f}", f"{each['queries_without_fill']:,}",
        "-" if alike is None else f"{alike:.2f}", f"{100 * each['fill_rate']:.1f}",
        "-" if first is None else f"{first:.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
