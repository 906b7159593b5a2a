from __future__ import annotations

import gc

import numpy as np
import pytest

from sparcode.eval.latency import STAGES, Stages, _percentiles, batch_rates, collector_off, measure
from sparcode.types import Hits, Queries
from tests.eval.world import ITEMS, Planted, evaluation_set


class Recorder:
    """A system that notes what was called on which query, and whether the collector was off."""

    def __init__(self, name: str, log: list[tuple[str, str, int]], rescores: bool) -> None:
        self.name, self.log = name, log
        self.stages = Stages(
            encode=lambda query: self.note("encode", int(query.items[0])),
            retrieve=lambda state: self.note("retrieve", state),
            rescore=(lambda state, found: self.note("rescore", found)) if rescores else None,
            whole=self.whole,
            prepare=lambda: self.log.append((name, "prepare", int(gc.isenabled()))),
        )

    def note(self, what: str, number: int) -> int:
        self.log.append((self.name, what, number))
        return number

    def whole(self, query: Queries) -> Hits:
        self.note("whole", int(query.items[0]))
        return Hits(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))


def test_systems_take_turns_on_every_query() -> None:
    log: list[tuple[str, str, int]] = []
    systems = [Recorder("a", log, True), Recorder("b", log, False)]
    queries = evaluation_set(users=5).queries
    result = measure([system.stages for system in systems], queries, rounds=2, warmup=0)
    firsts = [int(queries.history(row)[0]) for row in range(5)]
    begun = [(name, number) for name, what, number in log if what == "encode"]
    assert len(begun) == 2 * 2 * 5
    for place in range(5):
        assert {name for name, _ in begun[2 * place : 2 * place + 2]} == {"a", "b"}
        assert {number for _, number in begun[2 * place : 2 * place + 2]} == {firsts[place]}
    assert [name for name, _ in begun[:4]] == ["a", "b", "b", "a"]
    assert sum(what == "whole" for _, what, _ in log) == 20
    assert all(number == 0 for _, what, number in log if what == "prepare")
    assert gc.isenabled()
    for row in result:
        assert set(row) == set(STAGES)
        assert all(0 <= row[stage]["p50"] <= row[stage]["p95"] for stage in STAGES)
    assert result[1]["rescore"] == {"p50": 0.0, "p95": 0.0}


def test_percentiles_are_those_of_numpy_over_all_rounds_and_queries() -> None:
    times = np.random.default_rng(0).exponential(50, (len(STAGES), 3, 41))
    found = _percentiles(times)
    for place, stage in enumerate(STAGES):
        for name, share in (("p50", 0.50), ("p95", 0.95)):
            assert found[stage][name] == round(float(np.quantile(times[place].ravel(), share)), 2)


def test_warm_up_runs_before_the_clock() -> None:
    log: list[tuple[str, str, int]] = []
    measure([Recorder("a", log, True).stages], evaluation_set(users=4).queries, rounds=1, warmup=3)
    assert sum(what == "whole" for _, what, _ in log) == 7


def test_batch_rates_are_positive() -> None:
    part = evaluation_set(users=12)
    retriever = Planted(part, np.zeros(12, int))
    assert batch_rates([retriever, retriever], part.queries, 5, rounds=1)[1] > 0
    assert retriever.calls == 4
    assert retriever.retrieve(part.queries, 3).ids.max() < ITEMS


def test_collector_comes_back_after_an_error() -> None:
    with pytest.raises(RuntimeError), collector_off():
        raise RuntimeError
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
