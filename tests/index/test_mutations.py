"""Damaged and hostile indexes: refused by name or answered from safely (2,100 cases of a million)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from sparcode.index.layout import Index
from sparcode.query.search.searcher import Searcher
from tests.index.mutation_checks import Bench, Failure
from tests.index.mutations import ACCIDENTS, FORGERIES, KINDS, MANIFEST, Case, Place, case, golden_files

CASES = 70 * len(KINDS)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> tuple[dict[str, Counter], int]:
    """Counts of how the cases of each kind ended, and how many got past the header."""
    ends: dict[str, Counter] = defaultdict(Counter)
    past = 0
    with Bench(tmp_path_factory.mktemp("mutations")) as bench:
        for number in range(CASES):
            mutated = case(0, number)
            try:
                ends[mutated.kind][bench.run(mutated)] += 1
            except Exception as problem:
                raise AssertionError(f"case(0, {number}), {mutated.kind}, {mutated.verify}: {problem!r}") from problem
            past += bench.past_header
    return ends, past


def test_every_kind_is_tried_and_every_case_ends_well(outcome):
    ends, _ = outcome
    assert set(ends) == set(KINDS)
    assert {sum(found.values()) for found in ends.values()} == {CASES // len(KINDS)}


def test_most_cases_get_past_the_header(outcome):
    assert outcome[1] >= 0.3 * CASES


@pytest.mark.parametrize("kind", ["truncate", "extend", "signed: wrong version", "signed: offsets"])
def test_what_is_never_lawful_is_always_refused(outcome, kind):
    assert set(outcome[0][kind]) == {"refused"}


@pytest.mark.parametrize("kind", ["signed: other impacts", "stray file", "signed: scores"])
def test_what_is_lawful_is_accepted(outcome, kind):
    assert outcome[0][kind]["same"] + outcome[0][kind]["another"] > 0


def test_a_case_depends_on_its_seed_and_number_alone():
    assert case(3, 77) == case(3, 77)
    assert case(3, 77) != case(4, 77)
    assert {case(0, number).kind for number in range(len(KINDS))} == set(KINDS)
    assert not set(ACCIDENTS) & set(FORGERIES)


def test_the_folder_is_whole_again_after_every_case(tmp_path):
    good = Case(0, 0, "nothing", {}, "full", signed=False)
    with Bench(tmp_path) as bench:
        for place in Place:
            for path in ("CURRENT", MANIFEST, "segs"):
                bench.run(Case(0, 0, "replaced", {path: place}, "full", signed=False))
                assert bench.run(good) == "same"
        for number in range(2 * len(KINDS)):
            bench.run(case(5, number))
            bench.run(good)
            assert {name: (tmp_path / name).read_bytes() for name in golden_files()} == golden_files()


def test_the_bench_notices_a_write_outside_a_buffer(tmp_path, monkeypatch):
    with Bench(tmp_path) as bench:
        search = Searcher.search_one

        def careless(searcher, *arguments):
            searcher.scratch().narrow.base[-1] = 1
            return search(searcher, *arguments)

        monkeypatch.setattr(Searcher, "search_one", careless)
        with pytest.raises(Failure, match="outside its buffers"):
            bench.run(Case(0, 0, "nothing", {}, "full", signed=False))


@pytest.mark.parametrize("kind", ["postings past n", "item twice in a list", "unsorted list", "impact 0", "scores"])
def test_the_bench_notices_a_broken_rule_that_is_accepted(kind, tmp_path, monkeypatch):
    first = KINDS.index(f"signed: {kind}")
    cases = [case(0, number) for number in range(first, first + 20 * len(KINDS), len(KINDS))]
    with Bench(tmp_path) as bench:
        monkeypatch.setattr(Index, "validate", lambda index, postings=True: None)
        with pytest.raises(Failure, match="accepted, but"):
            _ = [bench.run(replace(mutated, verify="full")) for mutated in cases]
