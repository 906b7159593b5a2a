"""Search at its limits: compiled and uncompiled kernels equal a dictionary of sums, bit for bit.

Only what a caller sees is used (``Searcher.search``, ``search_one``, ``sums_of``), so that these tests hold for any
kernels behind it. ``limit_worlds`` says what is drawn: ties, empty lists, a list given several times, n = 1, k > n,
everything filtered out, sums at and beyond 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from sparcode.build.assembly import assemble
from sparcode.build.score.candidates import Candidates
from sparcode.errors import QueryError, SparcodeError
from sparcode.index.layout import MAX_ITEMS, Family, Index, LayoutError, from_scipy, from_scores, make_index, pack
from sparcode.query.search import fitting
from sparcode.query.search.arguments import SparseQuery
from sparcode.query.search.searcher import Searcher, SearchResult
from sparcode.types import NO_ITEM
from tests.query import reference
from tests.query.search import limit_worlds
from tests.query.search.limit_worlds import Query, World

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
quick = settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=SLOW, database=None)
few = settings(quick, max_examples=40)


def expected(world: World, query: Query) -> list[tuple[int, int]]:
    return reference.search(
        world.lists, query.rows, query.weights, world.k, query.seen, world.allow, world.deny
    )  # fmt: skip


def batch(searcher: Searcher, world: World, threads: int = 1) -> SearchResult:
    rows, indptr = limit_worlds.flat([query.rows for query in world.queries])
    weights, _ = limit_worlds.flat([query.weights for query in world.queries])
    seen, seen_indptr = limit_worlds.flat([query.seen for query in world.queries])
    return searcher.search(
        rows, weights, indptr, world.k, seen_indptr=seen_indptr, seen_items=seen, allow=world.allow, deny=world.deny,
        threads=threads,
    )  # fmt: skip


def single(searcher: Searcher, world: World, query: Query) -> list[tuple[int, int]]:
    rows, weights, seen = (np.array(part, np.int32) for part in query)
    ids, sums = searcher.search_one(rows, weights, world.k, seen, world.allow, world.deny)
    assert (ids.dtype, sums.dtype) == (np.int32, np.uint32)
    return list(zip(ids.tolist(), sums.tolist(), strict=True))


def check_batch(result: SearchResult, world: World) -> None:
    """Compare every cell, the padding included."""
    assert (result.ids.dtype, result.sums.dtype) == (np.int32, np.uint32)
    for b, query in enumerate(world.queries):
        best = expected(world, query)
        rest = world.k - len(best)
        assert result.counts[b] == len(best)
        assert result.ids[b].tolist() == [item for item, _ in best] + [NO_ITEM] * rest
        assert result.sums[b].tolist() == [total for _, total in best] + [0] * rest


def check_sums(sums_of: Callable[..., np.ndarray], world: World) -> None:
    """Every item's sum, and that of ids next to the index, whatever filters say."""
    candidates = np.arange(-1, world.item_count + 2, dtype=np.int32)
    for query in world.queries:
        rows, weights = np.array(query.rows, np.int32), np.array(query.weights, np.int32)
        sums = dict(reference.search(world.lists, query.rows, query.weights, world.item_count))
        got = sums_of(rows, weights, candidates)
        assert got.tolist() == [sums.get(int(item), 0) for item in candidates]


def check_all(world: World, threads: int = 1) -> None:
    """Batch, single and candidate sums twice: the second time shows whether the first left something behind."""
    searcher = Searcher(reference.lists_to_index(world.lists, world.item_count))
    for _ in range(2):
        check_batch(batch(searcher, world, threads), world)
        for query in world.queries:
            assert single(searcher, world, query) == expected(world, query)
        check_sums(searcher.sums_of, world)


@quick
@given(limit_worlds.worlds())
def test_compiled_kernels_equal_the_reference(world):
    check_all(world)


@few
@given(limit_worlds.worlds())
def test_uncompiled_kernels_equal_the_reference(world):
    searcher = Searcher(reference.lists_to_index(world.lists, world.item_count))
    compiled = batch(searcher, world)

    def sums_by_kernel(rows: np.ndarray, weights: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        sums, given = np.empty(len(candidates), np.uint32), (searcher.lists, SparseQuery(rows, weights))
        accumulators = searcher.scratch().accumulators
        while not fitting.ready(fitting.sum_fitting(*given, accumulators, candidates, sums)):
            pass
        return sums

    with limit_worlds.uncompiled() as calls:
        plain = batch(searcher, world)
        check_sums(sums_by_kernel, world)
    assert sum(calls.values()) > 0, "the searcher reached no kernel in its uncompiled form"
    check_batch(plain, world)
    for part, other in zip(plain, compiled, strict=True):
        assert part.tobytes() == other.tobytes()


ITEMS = 200
FULL = dict.fromkeys(range(ITEMS), 7)
EVERY = np.ones(ITEMS, np.bool_)
FILTERED = {
    "seen": ([*range(ITEMS)], None, None),
    "allow": ([], ~EVERY, None),
    "deny": ([], None, EVERY),
    "allow and deny": ([], np.arange(ITEMS) % 2 == 0, np.arange(ITEMS) % 2 == 0),
    "all three": ([*range(0, ITEMS, 3)], np.arange(ITEMS) % 3 < 2, np.arange(ITEMS) % 3 == 1),
}


@pytest.mark.parametrize("weight", [1, 65535])
@pytest.mark.parametrize("k", [1, 100, 128, 150, 1000])
@pytest.mark.parametrize("name", FILTERED)
def test_everything_filtered_out(name, k, weight):
    seen, allow, deny = FILTERED[name]
    world = World([FULL, {}], ITEMS, [Query([0, 1, 0], [weight] * 3, seen), Query([1], [1], seen)], k, allow, deny)
    assert expected(world, world.queries[0]) == []
    check_all(world)


@pytest.mark.parametrize("k", [1, 2, 99, 100, 101, 127, 128, 129, ITEMS - 1, ITEMS, ITEMS + 1])
def test_ties_are_ordered_by_id_at_every_k(k):
    lists = [FULL, {item: 7 + item % 2 for item in range(0, ITEMS, 3)}]
    check_all(World(lists, ITEMS, [Query([0], [1], []), Query([0, 1], [1, 2], [0, ITEMS - 1])], k, None, None))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_narrow_and_wide_queries_in_one_batch(threads):
    lists = [FULL, {0: 255, ITEMS - 1: 255}]
    asked = [Query([1], [weight], []) for weight in (1, 257, 258, 65535, 256)] + [Query([1, 0], [256, 2], [0])]
    check_all(World(lists, ITEMS, asked, 10, None, None), threads)


def test_the_largest_sum_of_all_and_the_first_that_does_not_fit():
    searcher = Searcher(reference.lists_to_index([{0: 255, 2: 1}], 3))
    weights = [65535] * 257 + [514]
    rows = np.zeros(258, np.int32)
    assert 255 * sum(weights) == 2**32 - 1
    ids, sums = searcher.search_one(rows, np.array(weights, np.int32), 5)
    assert (ids.tolist(), sums.tolist()) == ([0, 2], [2**32 - 1, sum(weights)])
    weights[-1] += 1
    with pytest.raises(QueryError, match="smaller weights"):
        searcher.search_one(rows, np.array(weights, np.int32), 5)
    assert searcher.search_one(rows[:1], np.ones(1, np.int32), 5)[1].tolist() == [255, 1], "scratch is clean"


LAST = MAX_ITEMS - 1
"""The largest id an index can hold: 2^24 - 2."""
BOUNDARY = [
    {0: 3, 1: 3, LAST - 1: 3, LAST: 3},
    {LAST: 255},
    dict.fromkeys(range(LAST - 299, LAST + 1), 1),
    {0: 1, 2**23 - 1: 2, 2**23: 2, 2**23 + 1: 2, LAST: 1},
    {},
]


@pytest.fixture(scope="module")
def largest() -> Searcher:
    """An index of as many items as its layout can name."""
    return Searcher(reference.lists_to_index(BOUNDARY, MAX_ITEMS))


def boundary_queries() -> list[Query]:
    return [
        Query([0], [1], []),
        Query([0, 1, 3], [2, 1, 3], [LAST - 1]),
        Query([2, 2], [1, 1], [LAST - 3, LAST, MAX_ITEMS, -1]),
        Query([1, 0], [65535, 65535], []),
        Query([2, 3, 4], [300, 300, 1], [0]),
        Query([4], [1], []),
    ]


def test_the_largest_index_answers_exactly(largest):
    world = World(BOUNDARY, MAX_ITEMS, boundary_queries(), 100, None, None)
    check_batch(batch(largest, world), world)
    for k in (1, 10, 299, 1000, MAX_ITEMS + 1):
        each = world._replace(k=k)
        assert [single(largest, each, query) for query in each.queries] == [
            expected(each, query) for query in each.queries
        ]


def test_the_largest_index_uncompiled(largest):
    world = World(BOUNDARY, MAX_ITEMS, boundary_queries(), 7, None, None)
    with limit_worlds.uncompiled() as calls:
        check_batch(batch(largest, world), world)
    assert calls


def test_the_largest_index_filters_its_last_items(largest):
    mask = np.zeros(MAX_ITEMS, np.bool_)
    mask[[0, LAST - 1, LAST]] = True
    for allow, deny in ((mask, None), (None, mask)):
        world = World(BOUNDARY, MAX_ITEMS, boundary_queries(), 20, allow, deny)
        check_batch(batch(largest, world), world)


def test_the_largest_index_sums_candidates_at_both_ends(largest):
    rows, weights = np.array([0, 1, 2], np.int32), np.array([1, 400, 1], np.int32)
    candidates = np.array([0, LAST, LAST - 1, LAST - 299, LAST - 300, MAX_ITEMS, -1, 2**31 - 1], np.int32)
    assert largest.sums_of(rows, weights, candidates).tolist() == [3, 3 + 255 * 400 + 1, 4, 1, 0, 0, 0, 0]


TOO_MANY = MAX_ITEMS + 1
CODES = [Family("codes", 0, 1)]
ONE = pack(np.array([LAST]), np.array([1]))


def refuse_make_index():
    make_index([0, 1], ONE, TOO_MANY, 1.0, CODES)


def refuse_from_scores():
    from_scores([0, 1], [MAX_ITEMS], [1.0], TOO_MANY)


def refuse_from_scipy():
    sparse = pytest.importorskip("scipy.sparse")
    from_scipy(sparse.csr_matrix(([1.0], [MAX_ITEMS], [0, 1]), shape=(1, TOO_MANY)))


def refuse_assemble():
    learned = Candidates(np.array([0, 1]), np.array([LAST], np.int32), np.ones(1, np.float32))
    assemble(TOO_MANY, np.zeros((1, 1), np.uint16), learned, None, None)


@pytest.mark.parametrize("refuse", [refuse_make_index, refuse_from_scores, refuse_from_scipy, refuse_assemble])
def test_one_item_more_is_refused_in_one_line(refuse):
    with pytest.raises(SparcodeError) as caught:
        refuse()
    message = str(caught.value)
    assert "16777216 items" in message
    assert "16777215" in message
    assert "\n" not in message


def test_an_index_of_one_item_more_does_not_validate():
    index = Index(np.array([0, 1], np.uint64), ONE, TOO_MANY, 1.0, tuple(CODES), np.zeros((0, 0), np.uint16))
    with pytest.raises(LayoutError, match=r"item count 16777216 is outside 0\.\.16777215$"):
        index.validate()
    with pytest.raises(ValueError, match=r"item ids must be 0\.\.16777215, found 16777216"):
        pack(np.array([TOO_MANY]), np.array([1]))
