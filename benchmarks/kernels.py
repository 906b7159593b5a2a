"""How fast are the query kernels? Synthetic posting lists, single queries and batches, old and new side by side.

Lists: lengths lognormal around L, half of the draws by a Zipf-like popularity, half from the topic of the list, impacts
from the positive part of N(-0.5, 1). Two shapes of query: ``codes`` reads 8 lists of about 256 postings, half of them
of one topic; ``items`` reads the lists of up to 50 items, about 12 postings each and weighted by age, and 4 lists of
about 64: some 640 postings. ``one`` reads one list of about 256.

A variant is a whole ``Searcher``; ``--against FOLDER`` adds the one of another checkout (``FOLDER/sparcode``).
Variants take turns, in one process on one thread, each at another place of the queries, so that no one finds the lists
warmed by the other; all must give the same answers. Times: whole calls of ``search_one`` from Python; inside the
kernel, a compiled loop of ``search_query``; batches of ``search``.

    python benchmarks/kernels.py [--items 10000,100000,1000000] [-k 10,100] [--queries 500] [--rounds 5]
                                 [--against FOLDER] [--out FILE]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import NullCache
from shared import ROOT, Results, Row, notes, table

from sparcode.eval.latency import collector_off
from sparcode.eval.machine import one_thread
from sparcode.index.layout import Family, Index, make_index, pack
from sparcode.query.search import searcher as own_searcher
from sparcode.query.search.arguments import Answers, Filters, SparseQuery
from sparcode.query.search.query import search_query
from sparcode.scale.workload import SparseQueries
from sparcode.seeding import generator

CODES = {10_000: 4_096, 100_000: 16_384, 1_000_000: 65_536}
"""Items -> lists of 256 postings; other sizes get the nearest of these."""
SHAPES = ("codes", "items", "one")
ITEMS_PER_TOPIC = 1250
BATCH = 4000
CHUNK = 20
"""Queries that are timed together inside the kernel."""
HEADER = ["items", "shape", "postings", "k", "variant", "call p50 us", "call p95 us", "kernel us", "batch queries/s",
          "with 2 threads"]  # fmt: skip


def world(shape: str, items: int, random: np.random.Generator) -> tuple[Index, np.ndarray]:
    """Return the index of a shape and the topic of each of its C code lists."""
    codes = CODES[min(CODES, key=lambda size: abs(size - items))]
    length = 64 if shape == "items" else 256
    lengths = _lengths(length, codes, items, random)
    if shape == "items":
        lengths = np.concatenate([lengths, _lengths(12, items, items, random)])
    topics = random.integers(0, max(items // ITEMS_PER_TOPIC, 1), len(lengths))
    keys = _postings(lengths, topics, items, random)
    indptr = np.searchsorted(keys >> np.int64(24), np.arange(len(lengths) + 1))
    values = _impacts(len(keys), random)
    families = [Family("codes", 0, codes), Family("item", codes, len(lengths) - codes)]
    return make_index(indptr, pack(keys & 0xFFFFFF, values), items, 0.5, families), topics[:codes]


def _lengths(mean: int, count: int, items: int, random: np.random.Generator) -> np.ndarray:
    drawn = random.lognormal(np.log(1.1 * mean) - 0.125, 0.5, count)
    return np.clip(drawn.astype(np.int64), 1, max(items // 4, 1))


def _postings(lengths: np.ndarray, topics: np.ndarray, items: int, random: np.random.Generator) -> np.ndarray:
    """Return sorted distinct ``row << 24 | item``; collisions leave lists a little shorter."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    # Density 1 / (50 + rank): a popular half without one item that is in every list.
    popular = (50 * (1 + items / 50) ** random.random(len(rows))).astype(np.int64) - 50
    pool, size = random.permutation(items), min(ITEMS_PER_TOPIC, items)
    topical = pool[topics[rows] * size + random.integers(0, size, len(rows))]
    keys = (rows << 24) | np.where(random.random(len(rows)) < 0.5, popular, topical)
    keys.sort()
    return keys[np.append(True, keys[1:] != keys[:-1])]


def _impacts(count: int, random: np.random.Generator) -> np.ndarray:
    """Return impacts 1..255: |N(-0.5, 1)| given that it is positive, at a scale that puts 3.5 at 255."""
    drawn = random.standard_normal(4 * count + 64) - 0.5
    positive = drawn[drawn > 0][:count]
    return np.clip(np.rint(positive * (255 / 3.5)), 1, 255).astype(np.int64)


def queries_of(shape: str, index: Index, topics: np.ndarray, count: int, random: np.random.Generator) -> SparseQueries:
    """Return random queries of one shape."""
    parts = []
    for _ in range(count):
        topic = random.choice(topics)
        near = np.flatnonzero(topics == topic)
        lists = {"codes": 8, "items": 4, "one": 1}[shape]
        rows = np.concatenate([random.choice(near, (lists + 1) // 2), random.integers(0, len(topics), lists // 2)])
        weights = np.ones(lists, np.int64) * (4 if shape == "items" else 1)
        if shape == "items":
            events = int(np.clip(random.lognormal(np.log(28), 0.6), 5, 50))
            rows = np.concatenate([rows, len(topics) + random.integers(0, index.item_count, events)])
            weights = np.concatenate([weights, np.maximum(12 - np.arange(events) // 3, 1)])
        parts.append((rows, weights))
    indptr = np.cumsum([0, *(len(rows) for rows, _ in parts)]).astype(np.int64)
    flat = (np.concatenate(column).astype(np.int32) for column in zip(*parts, strict=True))
    return SparseQueries(*flat, indptr)


@dataclass(frozen=True)
class Variant:
    """One implementation: its module of searchers and the compiled loop over its ``search_query``."""

    name: str
    module: ModuleType
    loop: Callable[..., None]


def variants(against: Path | None) -> list[Variant]:
    """Return this checkout's implementation, and that of another one if there is any."""
    found = [Variant("this", own_searcher, kernel_loop(search_query))]
    if against is not None:
        module, query = imported(against)
        found.append(Variant("against", module, kernel_loop(query.search_query)))
    return found


def imported(checkout: Path) -> list[ModuleType]:
    """Return the modules ``searcher`` and ``query`` of another checkout, with all that they import from there."""
    own = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "sparcode"}
    sys.path.insert(0, str(checkout))
    try:
        found = [importlib.import_module(f"sparcode.query.search.{name}") for name in ("searcher", "query")]
    finally:
        sys.path.pop(0)
        other = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "sparcode"}
        sys.modules.update(own)
    for module in other.values():
        _set_apart([value for value in vars(module).values() if hasattr(value, "py_func")])
    return found


def _set_apart(kernels: Sequence[Any]) -> None:
    # Compiled code is found by module, name and types, which both checkouts share: theirs get other names, and are not
    # read from a cache that holds the old ones.
    for kernel in kernels:
        if not kernel.py_func.__module__.startswith("against."):
            kernel.py_func.__module__ = f"against.{kernel.py_func.__module__}"
            kernel._cache = NullCache()


def kernel_loop(search: Any) -> Callable[..., None]:
    """Return a compiled function that answers queries one after the other by ``search_query``, in one accumulator."""

    @njit(nogil=True)
    def loop(lists, asked, queries, accumulator, work, filters, answers):  # type: ignore[no-untyped-def]
        for b in range(len(queries) - 1):
            part = slice(queries[b], queries[b + 1])
            query = SparseQuery(asked.rows[part], asked.weights[part])
            search(lists, query, accumulator, work, filters, answers)

    return loop


def measure(
    shape: str, items: int, k: int, asked: SparseQueries, index: Index, rounds: int, own: Sequence[Variant]
) -> Row:
    """Time all variants on the same queries; AssertionError unless they agree."""
    searchers = [variant.module.Searcher(index) for variant in own]
    singles = [asked.one(query) for query in range(len(asked))]
    answers = [[searcher.search_one(*single, k) for single in singles] for searcher in searchers]
    for other in answers[1:]:
        for (ids, sums), (other_ids, other_sums) in zip(answers[0], other, strict=True):
            assert np.array_equal(ids, other_ids), f"{shape}, {items} items, k = {k}: ids differ"
            assert np.array_equal(sums, other_sums), f"{shape}, {items} items, k = {k}: sums differ"
    with collector_off():
        whole = interleaved(rounds, len(singles), [_caller(searcher, singles, k) for searcher in searchers])
        inside = kernel_times(asked, index, k, rounds, own, searchers)
        rates = [batch_rates(asked, k, rounds, searchers, threads) for threads in (1, 2)]
    figures = [
        {
            "variant": variant.name,
            "call_p50_us": _percentile(whole[i], 50),
            "call_p95_us": _percentile(whole[i], 95),
            "kernel_us": _percentile(inside[i], 50),
            "batch_qps": rates[0][i],
            "batch_qps_2_threads": rates[1][i],
        }
        for i, variant in enumerate(own)
    ]
    read = float(index.lengths()[asked.rows].sum() / len(asked))
    return {"items": items, "shape": shape, "k": k, "postings": read, "variants": figures}


def _caller(searcher: Any, singles: Sequence[tuple[np.ndarray, np.ndarray]], k: int) -> Callable[[int], Any]:
    search = searcher.search_one
    return lambda query: search(*singles[query], k)


def interleaved(rounds: int, count: int, calls: Sequence[Callable[[int], Any]]) -> np.ndarray:
    """Return microseconds (calls, rounds, count); each call at another place of 0..count - 1, the first one changes."""
    times = np.zeros((len(calls), rounds, count))
    for turn in range(rounds):
        for step in range(count):
            for i in range(len(calls)):
                which = (i + step + turn) % len(calls)
                place = (step + which * count // len(calls)) % count
                started = time.perf_counter_ns()
                calls[which](place)
                times[which, turn, place] = (time.perf_counter_ns() - started) / 1e3
    return times


def kernel_times(
    asked: SparseQueries, index: Index, k: int, rounds: int, own: Sequence[Variant], searchers: Sequence[Any]
) -> np.ndarray:
    """Return microseconds a query inside ``search_query``, (variants, rounds, chunks of CHUNK queries)."""
    filters = Filters(np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(0, np.bool_))
    answers = Answers(*(np.empty(min(k, index.item_count), kind) for kind in (np.int32, np.uint32)))
    query = SparseQuery(asked.rows, asked.weights)
    # The wide accumulator takes the weighted sums of both shapes.
    wide = asked.weights.max() > 1
    calls = []
    for variant, searcher in zip(own, searchers, strict=True):
        scratch = searcher.scratch()
        rest = (scratch.wide if wide else scratch.narrow, scratch.work, filters, answers)

        def call(chunk: int, loop: Any = variant.loop, lists: Any = searcher.lists, rest: Any = rest) -> None:
            part = asked.indptr[chunk * CHUNK : (chunk + 1) * CHUNK + 1]
            loop(lists, query, part, *rest)

        call(0)
        calls.append(call)
    return interleaved(rounds, len(asked) // CHUNK, calls) / CHUNK


def batch_rates(asked: SparseQueries, k: int, rounds: int, searchers: Sequence[Any], threads: int) -> list[float]:
    """Return queries a second of each searcher, BATCH queries in one call: the best of at least 15 rounds."""
    times = -(-BATCH // len(asked))
    rows, weights = np.tile(asked.rows, times), np.tile(asked.weights, times)
    indptr = np.append(0, np.cumsum(np.tile(np.diff(asked.indptr), times)))
    calls = [lambda _, f=searcher.search: f(rows, weights, indptr, k, threads=threads) for searcher in searchers]
    interleaved(1, 1, calls)
    taken = interleaved(max(rounds, 15), 1, calls)
    return [float(times * len(asked) / (own.min() / 1e6)) for own in taken]


def _percentile(times: np.ndarray, percent: float) -> float:
    return round(float(np.percentile(times, percent)), 3)


def markdown_of(rows: list[Row]) -> str:
    """Return the table and what must be known to read it."""
    body = []
    for row in rows:
        for own in row["variants"]:
            body.append([
                f"{row['items']:,}", row["shape"], f"{row['postings']:,.0f}", str(row["k"]), own["variant"],
                f"{own['call_p50_us']:.2f}", f"{own['call_p95_us']:.2f}", f"{own['kernel_us']:.2f}",
                f"{own['batch_qps']:,.0f}", f"{own['batch_qps_2_threads']:,.0f}",
            ])  # fmt: skip
    lines = [
        "call: search_one from Python, outputs made anew",
        f"kernel: median over runs of {CHUNK} queries in one compiled loop",
        f"batch: best of the rounds, about {BATCH:,} queries a call; two threads need two idle cores",
    ]
    return table(HEADER, body) + notes(lines)


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure every cell unless its figures are there, write JSON and Markdown, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=_numbers, default=(10_000, 100_000, 1_000_000), metavar="N,...")
    parser.add_argument("-k", type=_numbers, default=(10, 100), metavar="K,...", help="results a query")
    parser.add_argument("--queries", type=int, default=500, help=f"of each shape, at least {CHUNK}")
    parser.add_argument("--rounds", type=int, default=5, help="times every query is asked")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare with")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "kernels.json", metavar="FILE")
    options = parser.parse_args(arguments)
    results = Results(options.out, "Query kernels on synthetic posting lists", markdown_of)
    own = variants(options.against)
    for items in options.items:
        for shape in SHAPES:
            random = generator(0, f"kernels {shape} {items}")
            index, topics = world(shape, items, random)
            asked = queries_of(shape, index, topics, max(options.queries, CHUNK), random)
            for k in options.k:
                config = {"items": items, "shape": shape, "k": k, "queries": len(asked), "rounds": options.rounds,
                          "variants": [variant.name for variant in own]}  # fmt: skip
                with one_thread():
                    results.cell(
                        config,
                        lambda k=k, shape=shape, items=items, index=index, asked=asked: measure(
                            shape, items, k, asked, index, options.rounds, own
                        ),
                    )
    results.show()
    return results


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
