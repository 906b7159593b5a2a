"""Is every damaged or hostile index refused by name, whatever was done to it?

Opens mutated copies of the golden index (``tests/index/mutations.py``) one after another in one folder and one process,
searches those that are accepted, and counts how they ended. Any other end (another exception, a crash, a hang, wrong
answers) is a failure whose case is printed; ``--first N --cases 1`` tries it again. Memory is capped, so that an
allocation by an unchecked size fails.

    python benchmarks/mutate_index.py [--cases 1000000] [--seed 0] [--minutes M] [--out FILE]
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sparcode.eval.machine import git_commit, machine_info, one_thread
from sparcode.files import write_json
from tests.index.mutation_checks import Bench
from tests.index.mutations import ACCIDENTS, KINDS, case

ENDS = ("refused", "same", "another", "failed")
MOST_FAILURES = 100
HANG_SECONDS = 60
EXTRA_MEMORY = 3 << 30
"""Address space a run may take beyond what it has at the start; an index of 2^24 items asks for 400 MB."""

Counts = dict[str, Counter]


def try_cases(seed: int, first: int, cases: int, minutes: float | None, folder: Path, at: Any) -> dict[str, Any]:
    """Try cases ``first`` .. ``first + cases - 1`` (fewer when the minutes are over); ``at`` holds the present one."""
    counts: Counts = defaultdict(Counter)
    failures: list[dict[str, Any]] = []
    started, deadline = time.perf_counter(), time.monotonic() + 60 * (minutes or 1e9)
    with Bench(folder) as bench:
        for number in range(first, first + cases):
            at.value = number
            if number % 1000 == 0:
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
                if time.monotonic() > deadline or len(failures) >= MOST_FAILURES:
                    break
            kind, end = KINDS[number % len(KINDS)], _try(bench, seed, number, failures)
            counts[kind].update([end, *(["past_header"] if bench.past_header else [])])
    faulthandler.cancel_dump_traceback_later()
    seconds = time.perf_counter() - started
    return {"counts": dict(counts), "failures": failures, "seconds": seconds}


def _try(bench: Bench, seed: int, number: int, failures: list[dict[str, Any]]) -> str:
    try:
        return bench.run(case(seed, number))
    except Exception as problem:
        kind, what = KINDS[number % len(KINDS)], f"{type(problem).__name__}: {problem}"[:500]
        failures.append({"seed": seed, "case": number, "kind": kind, "problem": what})
        print(f"FAILED --seed {seed} --first {number} --cases 1 ({kind}): {what}", flush=True)
        return "failed"


def _work(arguments: tuple[Any, ...], at: Any, results: Any) -> None:
    """Run in a process of its own, so that its death can be told."""
    faulthandler.enable()
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * resource.getpagesize() + EXTRA_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    results.put(try_cases(*arguments, at))


def run(seed: int, first: int, cases: int, minutes: float | None) -> dict[str, Any]:
    """Try the cases in a process; a crash or hang is a failure of the case it happened in."""
    context = multiprocessing.get_context("spawn")
    at, results = context.Value("q", first, lock=False), context.SimpleQueue()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        worker = context.Process(target=_work, args=((seed, first, cases, minutes, Path(folder)), at, results))
        worker.start()
        while worker.is_alive() and results.empty():
            worker.join(0.2)
        if not results.empty():
            outcome = results.get()
            worker.join()
            return outcome
    print(f"CRASHED --seed {seed} --first {at.value} --cases 1: exit code {worker.exitcode}", flush=True)
    problem = f"the process ended with {worker.exitcode}"
    return {"counts": {}, "failures": [{"seed": seed, "case": at.value, "problem": problem}], "seconds": 0.0}


def report(seed: int, first: int, outcome: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON document: totals, shares and the counts of every kind."""
    kinds = {kind: outcome["counts"].get(kind, Counter()) for kind in KINDS}
    rows = {
        kind: {"cases": sum(found[end] for end in ENDS), **{name: found[name] for name in (*ENDS, "past_header")}}
        for kind, found in kinds.items()
    }
    total = {name: sum(row[name] for row in rows.values()) for name in ("cases", *ENDS, "past_header")}
    return {
        "question": (__doc__ or "").splitlines()[0],
        "words": {
            "refused": "CorruptIndexError of one line that names the file",
            "same": "accepted, content and answers as those of the golden index",
            "another": "accepted, another index: it keeps every rule when verified, and is searched safely when not",
            "past_header": "the manifest was parsed and found good",
        },
        "seed": seed,
        "first": first,
        "total": total,
        "share_past_header": round(total["past_header"] / max(total["cases"], 1), 4),
        "cases_a_second": round(total["cases"] / outcome["seconds"], 1) if outcome["seconds"] else None,
        "seconds": round(outcome["seconds"], 1),
        "kinds": {kind: {"signed": kind not in ACCIDENTS, **row} for kind, row in rows.items()},
        "failures": outcome["failures"],
        "commit": git_commit(),
        "machine": machine_info(),
    }


@one_thread()
def main(given: list[str] | None = None) -> dict[str, Any]:
    """Try the cases, print a table and write the JSON; returns the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after as many minutes")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "mutate_index.json")
    arguments = parser.parse_args(given)
    outcome = run(arguments.seed, arguments.first, arguments.cases, arguments.minutes)
    document = report(arguments.seed, arguments.first, outcome)
    for kind, row in document["kinds"].items():
        print(f"{kind:38}" + "".join(f"{name} {row[name]:>8}  " for name in (*ENDS, "past_header")))
    print(f"{document['total']}; past the header {document['share_past_header']:.1%}, {document['cases_a_second']}/s")
    write_json(arguments.out, document)
    print(f"wrote {arguments.out}")
    return document


if __name__ == "__main__":
    sys.exit(bool(main()["failures"]))
