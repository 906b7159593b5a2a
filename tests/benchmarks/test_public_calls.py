"""The benchmark of public calls on a tiny run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.conftest import TinyRun


@pytest.fixture(scope="module")
def bench(script):
    return script("public_calls")


def test_every_call_is_measured_beside_the_compiled_one(bench, tiny_run: TinyRun, tmp_path: Path):
    out = tmp_path / "calls.json"
    arguments = ["--run", str(tiny_run.folder), "--queries", "12", "--rounds", "2", "-k", "5", "--out", str(out)]
    (row,) = bench.main(arguments).asked
    assert row["items"] == 60
    assert row["calls"][0] == row["calls"][0] | {"call": bench.INSIDE, "ratio": 1.0}
    assert len({each["call"] for each in row["calls"]}) == 4
    assert row["batch_us_per_query"] > 0
    assert json.loads(out.read_text())["rows"] == [row]


def test_every_query_is_asked_by_every_call(bench):
    asked: list[tuple[int, int]] = []
    times = bench.latencies([lambda at, call=call: asked.append((call, at)) for call in range(3)], 25, 2)
    assert times.shape == (3, 2, 25)
    assert np.isfinite(times).all()
    counts = {(call, at): asked.count((call, at)) for call in range(3) for at in range(25)}
    assert all(count == 2 + (at < bench.WARMUP) for (_, at), count in counts.items())
