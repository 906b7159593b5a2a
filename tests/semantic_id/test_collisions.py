"""The four policies beside slow and obvious ones, their costs, and items that come later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import ConfigError, DataError
from sparcode.semantic_id import collisions
from sparcode.semantic_id.codec import BaseCodec
from sparcode.semantic_id.collisions import append, extra_digit_size, resolve


class Grid(BaseCodec):
    """Two digits that stand for a point of a plane: (first, last / 2)."""

    kind, width, options = "grid", 2, {}

    def __init__(self, sizes: tuple[int, int] = (3, 6)) -> None:
        self.sizes = sizes

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        nearest = np.round(vectors * [1, 2])
        return np.clip(nearest, 0, np.array(self.sizes) - 1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return (self.checked_codes(codes) * np.array([1, 0.5])).astype(np.float32)

    def arrays(self) -> dict[str, Any]:
        return {}


def points(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, 2)) * 2.6).astype(np.float32)


def slow_next_best(codec: Grid, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The policy in words: the best fit of each code keeps it, others take the cheapest free digit, in order."""
    codes = [tuple(code) for code in codes.tolist()]

    def cost(row: int, code: tuple[int, int]) -> float:
        return float(((vectors[row] - codec.decode(np.array([code]))[0]) ** 2).sum())

    owner = {code: min((row for row in range(len(codes)) if codes[row] == code), key=lambda row: (cost(row, code), row))
             for code in codes}  # fmt: skip
    taken = set(codes)
    for row, code in enumerate(list(codes)):
        free = [(code[0], last) for last in range(codec.sizes[1]) if (code[0], last) not in taken]
        if owner[code] != row and free:
            codes[row] = min(free, key=lambda way: (np.float32(cost(row, way)), way))
            taken.add(codes[row])
    return np.array(codes)


@pytest.mark.filterwarnings("ignore:.*still share")
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.integers(0, 1000))
def test_next_best_equals_the_slow_one(count: int, seed: int) -> None:
    codec, vectors = Grid(), points(count, seed)
    codes = codec.encode(vectors)
    found, report = resolve("next-best", codec, vectors, codes)
    np.testing.assert_array_equal(found, slow_next_best(codec, vectors, codes))
    assert report.distinct_after == len(np.unique(found, axis=0))
    assert report.unresolved == count - report.distinct_after


@pytest.mark.parametrize("policy", ["next-best", "sinkhorn-last"])
def test_moving_costs_what_the_report_says(policy: str) -> None:
    codec, vectors = Grid((3, 40)), points(60)
    codes = codec.encode(vectors)
    handled, report = resolve(policy, codec, vectors, codes)
    assert report.rate_after == 0
    assert report.rate_before == pytest.approx(1 - len(np.unique(codes, axis=0)) / 60)
    assert report.mse_after == pytest.approx(float(((codec.decode(handled) - vectors) ** 2).mean()))
    assert report.mse_before == pytest.approx(float(((codec.decode(codes) - vectors) ** 2).mean()))
    assert report.as_dict()["added_distortion_percent"] > 0
    np.testing.assert_array_equal(handled[:, 0], codes[:, 0])


def test_of_equal_fits_the_first_keeps_its_code() -> None:
    codec, vectors = Grid((3, 40)), np.repeat(points(6), 3, axis=0)
    codes = codec.encode(vectors)
    handled, _ = resolve("next-best", codec, vectors, codes)
    firsts = np.arange(0, 18, 3)
    assert len(np.unique(codes[firsts], axis=0)) == 6
    np.testing.assert_array_equal(handled[firsts], codes[firsts])


def test_sinkhorn_moves_only_items_that_share_a_code() -> None:
    codec, vectors = Grid((3, 40)), points(30)
    codes = codec.encode(vectors)
    handled, _ = resolve("sinkhorn-last", codec, vectors, codes)
    alone = [(codes == code).all(axis=1).sum() == 1 for code in codes]
    np.testing.assert_array_equal(handled[alone], codes[alone])


def test_sinkhorn_is_no_worse_than_greed_where_it_matters() -> None:
    # One prefix, crowded at one end: the greedy policy lets the first comers take what others need more.
    codec = Grid((1, 12))
    vectors = np.column_stack([np.zeros(12), np.linspace(0, 0.6, 12)]).astype(np.float32)
    codes = codec.encode(vectors)
    balanced = resolve("sinkhorn-last", codec, vectors, codes)[1]
    greedy = resolve("next-best", codec, vectors, codes)[1]
    assert balanced.rate_after == greedy.rate_after == 0
    assert balanced.mse_after <= greedy.mse_after * 1.05


def test_what_does_not_fit_is_counted_and_warned_of() -> None:
    codec, vectors = Grid((1, 4)), np.zeros((7, 2), np.float32)
    for policy in ("next-best", "sinkhorn-last"):
        with pytest.warns(UserWarning, match="3 items still share a SID"):
            handled, report = resolve(policy, codec, vectors, codec.encode(vectors))
        assert (report.unresolved, report.distinct_after) == (3, 4)
        assert set(handled[:, 1].tolist()) == {0, 1, 2, 3}


def test_equal_vectors_are_counted_apart() -> None:
    codec = Grid()
    vectors = np.array([[0, 0], [0, 0], [0.1, 0], [1, 1]], np.float32)
    report = resolve("none", codec, vectors, codec.encode(vectors))[1]
    assert (report.distinct_vectors, report.distinct_before, report.largest_group) == (3, 2, 3)
    assert report.rate_before == 0.5
    assert report.rate_of_distinct_vectors == pytest.approx(1 / 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_the_extra_digit_numbers_the_items_of_a_code(count: int, seed: int) -> None:
    codec, vectors = Grid(), points(count, seed)
    codes = codec.encode(vectors)
    handled, report = resolve("extra-digit", codec, vectors, codes)
    np.testing.assert_array_equal(handled[:, :2], codes)
    seen: dict[tuple[int, ...], int] = {}
    for code, extra in zip(map(tuple, codes.tolist()), handled[:, 2].tolist(), strict=True):
        assert extra == seen.get(code, 0)
        seen[code] = extra + 1
    assert report.extra_size >= 16
    assert report.mse_after == report.mse_before


def test_sizes_of_the_extra_digit() -> None:
    assert [extra_digit_size(largest) for largest in (1, 15, 16, 31, 32, 300)] == [16, 16, 32, 32, 64, 512]
    codec, vectors = Grid(), np.zeros((5, 2), np.float32)
    codes = codec.encode(vectors)
    assert resolve("extra-digit", codec, vectors, codes, extra_size=5)[1].extra_size == 5
    with pytest.raises(ConfigError, match="extra_size=4: 5 items share one code"):
        resolve("extra-digit", codec, vectors, codes, extra_size=4)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["extra-digit", "next-best"]), st.integers(1, 12), st.integers(0, 30), st.integers(0, 1000))
def test_appending_at_once_or_one_by_one_is_the_same(policy: str, old: int, cut: int, seed: int) -> None:
    codec, vectors = Grid((3, 60)), points(old + 12, seed)
    codes = codec.encode(vectors)
    taken, report = resolve(policy, codec, vectors[:old], codes[:old])
    sizes = (*codec.sizes, report.extra_size) if policy == "extra-digit" else codec.sizes
    once = append(policy, codec, vectors[old:], codes[old:], taken, sizes)
    for new in range(old, old + 12):
        one = append(policy, codec, vectors[new : new + 1], codes[new : new + 1], taken, sizes)
        taken = np.concatenate([taken, one])
    np.testing.assert_array_equal(taken[old:], once)
    assert len(np.unique(taken, axis=0)) == old + 12


def test_new_items_that_find_no_room() -> None:
    codec, vectors = Grid((1, 2)), np.zeros((3, 2), np.float32)
    codes = codec.encode(vectors)
    taken = np.array([[0, 0]], np.int32)
    with pytest.raises(DataError, match=r"prefix 0 for the new item in row 1: all 2 last digits"):
        append("next-best", codec, vectors, codes, taken, codec.sizes)
    extra = np.array([[0, 0, 0]], np.int32)
    with pytest.raises(DataError, match="no extra digit is left behind 0-0 for the new item in row 1"):
        append("extra-digit", codec, vectors, codes, extra, (1, 2, 2))


def test_nothing_to_append_to_and_nothing_to_append() -> None:
    codec, none = Grid(), np.empty((0, 2), np.int32)
    vectors = points(3)
    codes = codec.encode(vectors)
    for policy in collisions.POLICIES:
        assert len(append(policy, codec, vectors[:0], none, codes, codec.sizes)) == 0
    assert append("extra-digit", codec, vectors, codes, np.empty((0, 3), np.int32), (3, 6, 16)).shape == (3, 3)
    assert len(resolve("next-best", codec, vectors[:0], none)[0]) == 0


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, vectors = Grid((3, 60)), points(80)
    codes = codec.encode(vectors)
    whole = [resolve(policy, codec, vectors, codes) for policy in collisions.POLICIES]
    monkeypatch.setattr(collisions, "COST_ROWS", 3)
    monkeypatch.setattr(collisions, "BLOCK_ROWS", 5)
    for policy, (handled, report) in zip(collisions.POLICIES, whole, strict=True):
        again, blocks = resolve(policy, codec, vectors, codes)
        np.testing.assert_array_equal(again, handled)
        assert blocks.mse_after == pytest.approx(report.mse_after)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, vectors = Grid(), np.zeros((4, 2), np.float32)
    with pytest.raises(ConfigError, match=r"collisions='magic': one of none, extra-digit, next-best, sinkhorn-last"):
        resolve("magic", codec, vectors, codec.encode(vectors))
    monkeypatch.setattr(collisions, "MAX_PLAN", 10)
    with pytest.raises(ConfigError, match="too many to balance"):
        resolve("sinkhorn-last", codec, vectors, codec.encode(vectors))
