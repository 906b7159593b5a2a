"""Run the list of mutants: ``python -m tests.mutants [--only NAME ...] [--jobs N] [--list] [--json FILE]``.

A test that caught a mutant must pass without one, else the mutant is invalid. The exit code is 0 when at least 95 % of
the mutants are caught and none is invalid. Nothing is written into the tree, but for what ``--json`` names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.catalogue import ROOT, Mutant, read_mutants
from tests.mutants.workshop import CAUGHT, INVALID, SURVIVED, TIMEOUT, Outcome, Workshop, workshop

ENOUGH = 0.95
"""Share of the mutants that has to be caught."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 enough are caught, 1 not, 2 nothing could be judged."""
    given = _parser().parse_args(arguments)
    try:
        chosen = _chosen(read_mutants(), given.only)
        for mutant in chosen:
            mutant.mutated()
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if given.list:
        _print_list(chosen)
        return 0
    if not (ROOT / ".git").exists():
        print(f"error: {ROOT} is no git checkout; what is copied is what git lists", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        shops = [stack.enter_context(workshop()) for _ in range(min(given.jobs, len(chosen)))]
        outcomes = confirmed(list(_outcomes(chosen, shops, given.timeout)), shops[0])
    print(summary(outcomes))
    if given.json:
        Path(given.json).write_text(json.dumps(as_json(outcomes), indent=1) + "\n", encoding="utf-8")
    return 0 if is_enough(outcomes) else 1


def _outcomes(chosen: list[Mutant], shops: list[Workshop], seconds: float) -> Iterator[Outcome]:
    """Yield outcomes in the order of the list, a line for each as it comes; every workshop has one mutant at a time."""
    free: SimpleQueue[Workshop] = SimpleQueue()
    for shop in shops:
        free.put(shop)

    def judge(mutant: Mutant) -> Outcome:
        shop = free.get()
        try:
            return shop.outcome(mutant, seconds)
        finally:
            free.put(shop)

    with ThreadPoolExecutor(len(shops)) as pool:
        for number, outcome in enumerate(pool.map(judge, chosen), 1):
            print(f"{number:>4}/{len(chosen)}  {line(outcome)}", flush=True)
            yield outcome


def confirmed(outcomes: list[Outcome], shop: Workshop) -> list[Outcome]:
    """Return the outcomes, invalid where the test that caught a mutant fails without one too."""
    tests = dict.fromkeys(one.test for one in outcomes if one.state == CAUGHT and one.test is not None)
    unfit = shop.unfit(tests, seconds=3600) if tests else set()
    return [
        replace(one, state=INVALID, told=f"fails without the mutant too: {one.test}") if one.test in unfit else one
        for one in outcomes
    ]


def line(outcome: Outcome) -> str:
    """Return one row of the table: state, seconds, name, and who caught it or what it breaks unnoticed."""
    told = outcome.told.removeprefix("FAILED ") if outcome.state == CAUGHT else outcome.told or outcome.mutant.breaks
    return f"{outcome.state:<9}{outcome.seconds:>5.0f} s  {outcome.mutant.name:<45}{told[:110]}"


def summary(outcomes: list[Outcome]) -> str:
    """Return the counts, the share that is caught, and the names of all that are not."""
    by_state = {state: [one for one in outcomes if one.state == state] for state in (SURVIVED, TIMEOUT, INVALID)}
    caught = sum(one.state == CAUGHT for one in outcomes)
    counts = ", ".join(f"{len(found)} {state}" for state, found in by_state.items())
    lines = [f"{caught} of {len(outcomes)} caught, {counts}: {100 * caught_share(outcomes):.1f} %"]
    for state, found in by_state.items():
        lines += [f"{state}: {one.mutant.name} ({one.mutant.file}): {one.mutant.breaks}" for one in found]
    return "\n".join(lines)


def caught_share(outcomes: list[Outcome]) -> float:
    """Return caught / (caught + survived); mutants that are invalid or run out of time count for neither."""
    caught, survived = (sum(one.state == state for one in outcomes) for state in (CAUGHT, SURVIVED))
    return caught / (caught + survived) if caught + survived else 0.0


def is_enough(outcomes: list[Outcome]) -> bool:
    """Tell whether enough is caught and every mutant is a program."""
    return caught_share(outcomes) >= ENOUGH and all(one.state != INVALID for one in outcomes)


def as_json(outcomes: list[Outcome]) -> dict[str, object]:
    """Return all outcomes, JSON-able."""
    return {
        "caught_share": caught_share(outcomes),
        "mutants": [
            {"name": one.mutant.name, "file": one.mutant.file, "state": one.state, "seconds": round(one.seconds, 1),
             "told": one.told, "breaks": one.mutant.breaks}
            for one in outcomes
        ],
    }  # fmt: skip


def _chosen(mutants: list[Mutant], patterns: list[str]) -> list[Mutant]:
    """Return the mutants that a pattern names, in the order of the patterns."""
    found = [one for pattern in patterns or ["*"] for one in mutants if fnmatch(one.name, pattern)]
    chosen = list(dict.fromkeys(found))
    if not chosen:
        raise ValueError(f"no mutant is named {' or '.join(patterns)}; --list shows all names")
    return chosen


def _print_list(mutants: list[Mutant]) -> None:
    for mutant in mutants:
        print(f"{mutant.name:<45}{mutant.file:<45}{mutant.breaks}")
    print(f"{len(mutants)} mutants")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="a name, or a pattern: 'data-*'")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="mutants at a time, each in a copy of its own")
    parser.add_argument("--timeout", metavar="S", type=float, default=600, help="seconds for the tests of one mutant")
    parser.add_argument("--list", action="store_true", help="show the mutants and run none")
    parser.add_argument("--json", metavar="FILE", help="write all outcomes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
