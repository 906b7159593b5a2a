"""A byte budget shortens item lists by one cut over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.build.items.family import shortened
from sparcode.build.items.transitions import Transitions
from sparcode.build.job import build_index
from sparcode.index.layout import Index
from sparcode.query.search.searcher import open as open_searcher

Lists = list[dict[int, int]]


def lists_of(rows: Lists) -> Transitions:
    """Return dictionaries item -> value as CSR."""
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    items = [item for row in rows for item in sorted(row)]
    values = [row[item] for row in rows for item in sorted(row)]
    return Transitions(indptr, np.array(items, np.int32), np.array(values, np.float32))


@given(st.lists(st.dictionaries(st.integers(0, 8), st.integers(1, 4), max_size=6), min_size=1), st.integers(-1, 40))
@settings(max_examples=80, deadline=None)
def test_the_best_postings_of_all_lists_stay(rows: Lists, most: int) -> None:
    found = shortened(lists_of(rows), most)
    every = sorted((-row[item], source, item) for source, row in enumerate(rows) for item in row)
    wanted: Lists = [{} for _ in rows]
    for value, source, item in every[: max(most, 0)]:
        wanted[source][item] = -value
    expected = lists_of(wanted)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("learned", [True, False])
def test_a_small_budget_is_kept(tiny_run, tmp_path, learned: bool) -> None:
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    whole = build_index(folder, overrides={"families.learned.enabled": learned})["cache_bytes"]
    wanted = 0.6 * whole / 1e6
    summary = build_index(folder, policy="budget", budget_mb=wanted, overrides={"families.learned.enabled": learned})
    assert summary["cache_bytes"] <= wanted * 1e6
    index: Index = open_searcher(folder / "index").index
    assert np.diff(index.indptr.astype(np.int64))[-60:].sum() > 0
