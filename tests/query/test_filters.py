"""Sets of items and filling by popularity, against sets and a loop over rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import QueryError
from sparcode.query import filters
from sparcode.query.filters import Eligible, ItemSet, PopularItems
from sparcode.types import NO_ITEM, Hits
from tests.worlds import queries_of

ITEMS = 17
IDS = st.sets(st.integers(0, ITEMS - 1))


def mask_of(ids: set[int] | None) -> np.ndarray | None:
    return None if ids is None else np.isin(np.arange(ITEMS), list(ids))


def eligible_of(allow: set[int] | None, deny: set[int] | None) -> tuple[Eligible, set[int]]:
    """Return the eligible items as an object and as a set."""
    left = (set(range(ITEMS)) if allow is None else allow) - (deny or set())
    return Eligible.of(ITEMS, mask_of(allow), mask_of(deny)), left


@settings(max_examples=80, deadline=None)
@given(st.none() | IDS, st.none() | IDS, st.integers(0, ITEMS))
def test_eligible_items_equal_sets(allow: set[int] | None, deny: set[int] | None, limit: int) -> None:
    eligible, left = eligible_of(allow, deny)
    assert np.flatnonzero(eligible.hold(np.arange(ITEMS))).tolist() == sorted(left)
    few = eligible.at_most(limit)
    filtered = allow is not None or deny is not None
    if filtered and len(left) <= limit:
        assert few is not None
        assert few.dtype == np.int32
        assert few.tolist() == sorted(left)
    else:
        assert few is None


def test_a_set_is_counted_and_listed_once() -> None:
    items = ItemSet(np.array([True, False, True]))
    assert (items.count, items.ids.tolist()) == (2, [0, 2])
    assert items.ids is items.ids
    assert items.ids.dtype == np.int32


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, ITEMS - 1)), IDS)
def test_sets_by_ids_and_what_two_share(ids: list[int], other: set[int]) -> None:
    found = ItemSet.from_ids(np.array(ids, np.int32), ITEMS)
    assert found.ids.tolist() == sorted(set(ids))
    assert found.ids.dtype == np.int32
    assert np.flatnonzero(found.mask).tolist() == found.ids.tolist()
    mask = mask_of(other)
    assert mask is not None
    for both in (found & ItemSet(mask), ItemSet(mask) & found):
        assert both.ids.tolist() == sorted(set(ids) & other)
        assert both.count == both.mask.sum() == len(both.ids)


def test_masks_that_cannot_be_written_are_copied() -> None:
    mask = np.ones(4, bool)
    assert ItemSet(mask).mask is mask
    mask.flags.writeable = False
    assert ItemSet(mask).mask.flags.writeable
    assert ItemSet(np.ones(8, bool)[::2]).mask.flags.c_contiguous


@pytest.mark.parametrize("bad", [np.ones(3, bool), np.ones(ITEMS, np.int8), np.ones((ITEMS, 1), bool)])
def test_other_shapes_and_types_are_refused(bad: np.ndarray) -> None:
    for arguments in ((bad, None), (None, bad)):
        name = "deny" if arguments[0] is None else "allow"
        with pytest.raises(QueryError, match=rf"{name}: got .* expected bool \({ITEMS},\)") as caught:
            Eligible.of(ITEMS, *arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(QueryError, match="expected bool"):
        Eligible.of(ITEMS, ItemSet(np.ones(3, bool)), None)


def slow_fill(hits: Hits, histories: list[list[int]], left: set[int], order: list[int], include_seen: bool) -> Hits:
    """Fill row by row, item by item."""
    ids, scores = hits.ids.copy(), hits.scores.copy()
    for row, history in enumerate(histories):
        held = [item for item in ids[row].tolist() if item != NO_ITEM]
        taken = set(held) | (set() if include_seen else set(history))
        more = [item for item in order if item in left and item not in taken][: ids.shape[1] - len(held)]
        ids[row, len(held) : len(held) + len(more)] = more
        scores[row, len(held) : len(held) + len(more)] = np.nan
    return Hits(ids, scores)


@settings(max_examples=120, deadline=None)
@given(
    st.none() | IDS,
    st.none() | IDS,
    st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), min_size=1, max_size=5),
    st.integers(1, ITEMS + 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(0, 1), (4, 2), (4096, 1024)]),
    st.randoms(use_true_random=False),
)
def test_filling_equals_a_loop(allow, deny, histories, k, include_seen, ascending, sizes, random):
    eligible, left = eligible_of(allow, deny)
    order = list(range(ITEMS))
    if not ascending:
        random.shuffle(order)
    hits = Hits(np.full((len(histories), k), NO_ITEM, np.int32), np.full((len(histories), k), -np.inf, np.float32))
    for row, history in enumerate(histories):
        possible = sorted(left - (set() if include_seen else set(history)))
        found = random.sample(possible, random.randint(0, min(k, len(possible))))
        hits.ids[row, : len(found)], hits.scores[row, : len(found)] = found, 1.0
    wanted = slow_fill(hits, histories, left, order, include_seen)
    popular = PopularItems(ITEMS, None if ascending else np.array(order))
    with pytest.MonkeyPatch.context() as patch:
        # Small steps and blocks, and sets that are too large to be listed.
        patch.setattr(filters, "_LISTED", sizes[0])
        patch.setattr(filters, "_FIRST_STEP", sizes[1])
        patch.setattr(filters, "_CELLS", sizes[1] * 20)
        popular.fill(hits, queries_of(histories), eligible, include_seen=include_seen)
    np.testing.assert_array_equal(hits.ids, wanted.ids)
    np.testing.assert_array_equal(hits.scores, wanted.scores)
    for row, history in enumerate(histories):
        size = len(left - (set() if include_seen else set(history)))
        assert int((hits.ids[row] != NO_ITEM).sum()) == min(k, size), "exactly min(k, eligible)"


@settings(max_examples=60, deadline=None)
@given(st.none() | IDS, st.none() | IDS, st.integers(0, ITEMS + 3), st.permutations(range(ITEMS)))
def test_the_most_popular_come_first(allow, deny, count, order):
    eligible, left = eligible_of(allow, deny)
    found = PopularItems(ITEMS, np.array(order)).first(count, eligible)
    assert found.tolist() == [item for item in order if item in left][:count]
    assert found.dtype == np.int32


def test_filling_reads_no_more_of_the_order_than_it_must() -> None:
    class Counting(Eligible):
        def hold(self, items: np.ndarray) -> np.ndarray:
            read.append(len(items))
            return super().hold(items)

    read: list[int] = []
    popular = PopularItems(1_000_000)
    assert popular.first(10, Counting(1_000_000)).tolist() == list(range(10))
    mask = np.zeros(1_000_000, bool)
    mask[[3, 999_999]] = True
    assert popular.first(10, Counting(1_000_000, ItemSet(mask))).tolist() == [3, 999_999]
    assert sum(read) <= 1024 + 2
