"""What do the calls that users make cost, beside the call inside them? One process, one thread, in turns.

Every query is one user of the test set, asked by every call in turn; the call that begins changes. Answers are compared
first. The call inside (``Pipeline.retrieve``: internal ids in and out) is no public call: it says what of a call
is Python. The batch asks all queries in one call; its figure is microseconds a query.

    python benchmarks/public_calls.py --run RUN [--queries 500] [--rounds 5] [-k 10] [--out FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from shared import ROOT, Results, Row, parser_of, table

from sparcode import SparCode
from sparcode.eval.latency import collector_off, taking_turns
from sparcode.eval.machine import one_thread
from sparcode.run import Run
from sparcode.seeding import generator
from sparcode.types import Queries

INSIDE = "call inside (Pipeline.retrieve)"
RUN_LENGTH = 10
WARMUP = 20


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure the run unless its figures are there, write JSON and Markdown, print the table."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--run", type=Path, metavar="RUN", required=True, help="a finished run with an index")
    parser.add_argument("--queries", type=int, default=500, help="users of the test set, chosen at random")
    parser.add_argument("--rounds", type=int, default=5, help="times every query is asked by every call")
    parser.add_argument("-k", type=int, default=10, help="answers a query")
    options = parser.parse_args(arguments)
    run = Run.open(options.run)
    name = options.run.resolve().name
    out = options.out or ROOT / "benchmarks" / "results" / f"public_calls-{name}.json"
    identity = {
        "run": name, "model_hash": run.model_hash, "k": options.k, "queries": options.queries, "rounds": options.rounds,
    }  # fmt: skip
    results = Results(out, f"{name}: what public calls cost", markdown_of)
    results.cell(identity, lambda: measure(run, identity))
    results.show()
    return results


def measure(run: Run, identity: Row) -> Row:
    """Time all calls together; microseconds."""
    model, k = SparCode.load(run.folder), identity["k"]
    users = users_of(run, identity["queries"])
    calls = calls_of(model, users, k)
    with one_thread():
        check(model, users, k)
        times = latencies(list(calls.values()), len(users), identity["rounds"])
        batch = min(seconds_of(lambda: model.recommend(users=users, k=k)) for _ in range(identity["rounds"]))
    low, high = np.percentile(times.reshape(len(calls), -1), [50, 95], axis=1)
    rows = [
        {"call": name, "p50_us": float(low[at]), "p95_us": float(high[at]), "ratio": float(low[at] / low[0])}
        for at, name in enumerate(calls)
    ]
    return {"items": model.pipeline.item_count, "calls": rows, "batch_us_per_query": batch / len(users) * 1e6}


def users_of(run: Run, count: int) -> list[object]:
    """Return external ids of random users of the test set that have a history."""
    held = run.held_out("test")
    assert held is not None, "the run holds nothing out; expected one with a test set"
    known = np.unique(held.users)
    random = generator(run.config.seed, "benchmark of public calls")
    chosen = np.sort(random.choice(known, min(count, len(known)), replace=False))
    return list(run.dataset.user_ids.to_external(chosen))


def calls_of(model: SparCode, users: list[object], k: int) -> dict[str, Callable[[int], object]]:
    """Return the calls by name, each of the number of a query; the call inside them comes first."""
    dataset, repeats = model.run.dataset, model.run.config.query.include_seen
    rows = [dataset.serving.row(int(row)) for row in dataset.user_ids.to_internal(users)]
    histories = [dataset.item_ids.to_external(row) for row in rows]
    queries = [Queries.single(row) for row in rows]
    return {
        INSIDE: lambda at: model.pipeline.retrieve(queries[at], k, include_seen=repeats),
        "SparCode.recommend(users=[u])": lambda at: model.recommend(users=[users[at]], k=k),
        "SparCode.recommend(histories=[h])": lambda at: model.recommend(histories=[histories[at]], k=k),
        "SparCode.recommend_items(users=[u])": lambda at: model.recommend_items(users=[users[at]], k=k),
    }


def check(model: SparCode, users: list[object], k: int) -> None:
    """Stop unless a query asked alone is answered as it is among all, to the last bit."""
    ids, scores = model.recommend(users=users, k=k)
    for at, user in enumerate(users):
        own, found = model.recommend(users=[user], k=k)
        if own[0].tolist() != ids[at].tolist() or not np.array_equal(found[0], scores[at], equal_nan=True):
            raise AssertionError(f"user {user!r} is answered otherwise alone than among {len(users)}")


def latencies(calls: list[Callable[[int], object]], queries: int, rounds: int) -> np.ndarray:
    """Return microseconds, (calls, rounds, queries)."""
    times = np.empty((len(calls), rounds, queries))
    for call in calls:
        for at in range(min(WARMUP, queries)):
            call(at)
    with collector_off():
        for number in range(rounds):
            for place, part in taking_turns(len(calls), queries, RUN_LENGTH, number):
                for at in part:
                    times[place, number, at] = seconds_of(lambda: calls[place](at)) * 1e6  # noqa: B023
    return times


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e9


def markdown_of(rows: list[Row]) -> str:
    """Return a table of calls."""
    header = ["run", "items", "call", "p50 us", "p95 us", "p50 / call inside"]
    body = [
        [row["config"]["run"], f"{row['items']:,}", each["call"], f"{each['p50_us']:.0f}", f"{each['p95_us']:.0f}",
         f"{each['ratio']:.2f}"]
        for row in rows for each in row["calls"]
    ]  # fmt: skip
    body += [
        [
            row["config"]["run"],
            f"{row['items']:,}",
            "one batch of all, a query",
            f"{row['batch_us_per_query']:.0f}",
            "",
            "",
        ]
        for row in rows
    ]
    return table(header, body)


if __name__ == "__main__":
    main()
