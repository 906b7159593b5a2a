"""Hypothesis strategies for indexes and queries at the limits, and the kernels without their compiler.

Everything is drawn small and regular, so that a failure shrinks to something one can read: lists are stripes with few
different impacts (ties everywhere), loose handfuls, both ends of the id range, or empty.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st

ITEM_COUNTS = st.sampled_from([1, 1, 2, 3, 24, 25, 130, 300])
IMPACTS = st.sampled_from([1, 2, 3, 254, 255])
SMALL_WEIGHTS = st.integers(1, 3)
# 257 * 255 = 65,535 just fits 16 bits, 258 does not; 65,535 is the largest weight there is.
WEIGHTS = st.one_of(SMALL_WEIGHTS, st.sampled_from([85, 86, 256, 257, 258, 65535]))

Lists = list[dict[int, int]]


class Query(NamedTuple):
    """One query: rows (a row may come more than once) with their weights, and ids to leave out."""

    rows: list[int]
    weights: list[int]
    seen: list[int]


class World(NamedTuple):
    """Posting lists of n items, queries, and what holds for all queries of a call."""

    lists: Lists
    item_count: int
    queries: list[Query]
    k: int
    allow: np.ndarray | None
    deny: np.ndarray | None


def posting_lists(item_count: int) -> st.SearchStrategy[dict[int, int]]:
    """One posting list: empty, full of ties, loose, or the two ends of the id range."""
    ids = st.integers(0, item_count - 1)
    stripes = st.builds(
        lambda start, step, kinds: {item: 1 + item % kinds for item in range(start, item_count, step)},
        ids, st.integers(1, 3), st.integers(1, 4),
    )  # fmt: skip
    ends = st.builds(lambda low, high: {0: low} | {item_count - 1: high}, IMPACTS, IMPACTS)
    return st.one_of(st.just({}), stripes, st.dictionaries(ids, IMPACTS, max_size=12), ends)


def masks(item_count: int) -> st.SearchStrategy[np.ndarray | None]:
    """An allow or deny list: none, all, nothing, one end, or every so many."""
    every = np.arange(item_count)
    return st.one_of(
        st.none(),
        st.sampled_from([every >= 0, every < 0, every == 0, every == item_count - 1]),
        st.integers(2, 5).map(lambda step: every % step == 0),
    )


def seen_items(item_count: int) -> st.SearchStrategy[list[int]]:
    """Ids to leave out: some of them twice or outside the index, or all there are."""
    loose = st.sampled_from([-1, 0, item_count - 1, item_count, 2**31 - 1])
    some = st.lists(st.one_of(loose, st.integers(0, item_count - 1)), max_size=8)
    return st.one_of(st.just([]), some, st.just(list(range(item_count))))


def queries(rows: int, item_count: int) -> st.SearchStrategy[Query]:
    """A query of up to eight lists (often one), few of them different, with weights for either accumulator."""
    row = st.tuples(st.integers(0, rows - 1), WEIGHTS)
    pairs = st.one_of(st.lists(row, min_size=1, max_size=1), st.lists(row, max_size=8))
    return st.builds(
        lambda some, seen: Query([row for row, _ in some], [weight for _, weight in some], seen),
        pairs, seen_items(item_count),
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Lists, some of them the same one again, and up to four queries with k from 1 to far beyond n."""
    item_count = draw(ITEM_COUNTS)
    lists = draw(st.lists(posting_lists(item_count), min_size=1, max_size=4))
    lists += draw(st.lists(st.sampled_from(lists), max_size=2))
    asked = draw(st.lists(queries(len(lists), item_count), min_size=1, max_size=4))
    k = draw(st.sampled_from([1, 2, 10, 100, max(item_count - 1, 1), item_count, item_count + 1, 4 * item_count + 7]))
    return World(lists, item_count, asked, k, draw(masks(item_count)), draw(masks(item_count)))


def flat(parts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return ragged parts as one int32 array and the int64 offsets that delimit them."""
    joined = np.array([value for part in parts for value in part], np.int32)
    return joined, np.cumsum([0, *map(len, parts)]).astype(np.int64)


@contextmanager
def uncompiled() -> Iterator[dict[str, int]]:
    """Run the block on the Python source of every kernel a searcher looks up by name; yield the calls made, by name.

    Make searchers before: one may hold entry points that were compiled for it, and what it holds stays compiled.
    """
    calls: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        for module in _kernel_modules():
            dispatchers = [(name, value) for name, value in vars(module).items() if hasattr(value, "py_func")]
            for name, value in dispatchers:
                patch.setattr(module, name, _counted(name, value.py_func, calls))
        yield calls


def _kernel_modules() -> list[Any]:
    others = {f"sparcode.query.search.{name}" for name in ("best", "prepared")}
    names = [name for name in sys.modules if name.startswith("sparcode.query.search.") and name not in others]
    return [sys.modules[name] for name in names]


def _counted(name: str, function: Any, calls: dict[str, int]) -> Any:
    def counted(*arguments: Any) -> Any:
        calls[name] = calls.get(name, 0) + 1
        return function(*arguments)

    return counted
