"""Packing, quantising and the rules an index must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparcode.errors import DataError, SparcodeError
from sparcode.index.layout import (
    MAX_ITEMS,
    Family,
    Index,
    check_postings,
    choose_scale,
    composite,
    families_to_json,
    from_scipy,
    from_scores,
    make_index,
    pack,
    quantise,
    unpack,
)

CODES = [Family("codes", 0, 2)]


@given(st.lists(st.tuples(st.integers(0, MAX_ITEMS), st.integers(1, 255)), max_size=30))
def test_pack_and_unpack_are_inverse(pairs):
    ids = np.array([pair[0] for pair in pairs], np.int64)
    impacts = np.array([pair[1] for pair in pairs], np.int64)
    got_ids, got_impacts = unpack(pack(ids, impacts))
    assert got_ids.dtype == np.int32
    assert got_impacts.dtype == np.uint8
    assert (got_ids == ids).all()
    assert (got_impacts == impacts).all()


def test_a_posting_is_id_above_eight_bits_of_impact():
    assert pack(np.array([3]), np.array([7])).tolist() == [3 * 256 + 7]


@pytest.mark.parametrize(("item", "impact"), [(-1, 1), (MAX_ITEMS + 1, 1), (0, 0), (0, 256)])
def test_pack_refuses_what_does_not_fit(item, impact):
    with pytest.raises(ValueError, match="must be"):
        pack(np.array([item]), np.array([impact]))


def test_quantise_rounds_half_up_and_clips():
    assert quantise(np.array([0.01, 0.49, 0.5, 1.5, 2.49, 254.5, 400.0]), 1.0).tolist() == [1, 1, 1, 2, 2, 255, 255]


@given(st.floats(0.001, 1e6), st.floats(0.001, 1.0))
def test_quantisation_loss_is_at_most_half_a_step(peak, share):
    scale = choose_scale(peak)
    value = peak * share
    step = int(quantise(np.array([value]), scale)[0])
    assert abs(step * scale - value) <= scale * 0.5000001 or (step == 1 and value < scale)


@pytest.mark.parametrize("peak", [float("nan"), float("inf"), -1.0])
def test_choose_scale_refuses(peak):
    with pytest.raises(ValueError, match="finite"):
        choose_scale(peak)


def test_choose_scale_of_nothing_is_one():
    assert choose_scale(0.0) == 1.0


def good(**changes) -> dict:
    arguments = {
        "indptr": [0, 2, 3],
        "postings": pack(np.array([0, 2, 1]), np.array([5, 6, 7])),
        "item_count": 3,
        "scale": 0.5,
        "families": CODES,
    }
    return arguments | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indptr": [1, 2, 3]}, "offsets run"),
        ({"indptr": [0, 2, 2]}, "offsets run"),
        ({"indptr": [0, 4, 3]}, "offsets fall"),
        ({"item_count": 2}, "names item 2"),
        ({"item_count": 1}, "posting list of 2"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"families": [Family("codes", 0, 1)]}, "cover 1 of 2"),
        ({"families": [Family("a", 0, 1), Family("a", 1, 1)]}, "each name once"),
        ({"families": [Family("a", 1, 2)]}, "starts at row 1"),
        ({"postings": np.array([5, 5 + 256, 256], np.uint32)}, "impact 0"),
        ({"postings": pack(np.array([2, 2, 1]), np.array([5, 6, 7]))}, "ascending"),
        ({"scores": [1.0]}, "scores beside"),
        ({"code_table": [[1, 2]]}, "code table"),
        ({"code_rows": [0, 1]}, "outside the 0 learned rows"),
        ({"code_rows": []}, "fallback table"),
        ({"indptr": [[0]]}, "one-dimensional"),
    ],
)
def test_broken_rules_are_named(changes, message):
    make_index(**good())
    with pytest.raises(ValueError, match=message):
        make_index(**good(**changes))


def test_too_many_items_are_refused():
    with pytest.raises(SparcodeError, match="at most"):
        make_index(**good(item_count=MAX_ITEMS + 1))


def test_rows_may_start_with_a_smaller_id_than_the_row_before_ended_and_may_be_empty():
    check_postings(np.array([0, 0, 2, 2, 3, 3], np.uint64), pack(np.array([1, 4, 0]), np.array([1, 1, 1])), 5)


def test_families_and_rows():
    index = make_index(**good(families=[{"name": "learned", "first_row": 0, "rows": 1}, Family("item", 1, 1, 2.0)]))
    assert index.family_of(1).name == "item"
    assert index.family("learned").stop_row == 1
    assert index.has_family("item")
    assert not index.has_family("sid")
    assert [array.tolist() for array in index.row(0)] == [[0, 2], [5, 6]]
    assert index.lengths().tolist() == [2, 1]
    assert families_to_json(index.families)[1] == {"name": "item", "first_row": 1, "rows": 1, "multiplier": 2.0}
    with pytest.raises(KeyError):
        index.family("sid")
    with pytest.raises(IndexError):
        index.family_of(2)


def learned(**changes) -> Index:
    families = [Family("item", 0, 1), Family("learned", 1, 2)]
    return make_index([0, 0, 1, 2], pack(np.array([0, 1]), np.array([1, 1])), 2, 1.0, families, **changes)


def test_learned_rows_without_a_fallback_table_knows_stored_codes_only():
    index = learned(code_table=[[2, 1], [0, 3]])
    codes = np.array([[[0, 3], [2, 1]], [[1, 1], [3, 3]]], np.uint16)
    assert index.learned_rows(codes, 4).tolist() == [[2, 1], [-1, -1]]
    assert learned().learned_rows(codes, 4).tolist() == [[-1, -1], [-1, -1]]


def test_learned_rows_with_a_fallback_table_knows_all():
    fallback = np.arange(16) % 2
    index = learned(code_table=[[2, 1], [0, 3]], code_rows=fallback)
    assert index.learned_rows(np.array([[1, 1], [3, 2]], np.uint16), 4).tolist() == [2, 1]
    assert index.cache_bytes == 4 * 8 + 2 * 4 + 2 * 2 * 2 + 16 * 4


def test_composite_is_base_n():
    assert composite(np.array([[1, 2, 3]], np.uint16), 10).tolist() == [123]
    assert composite(np.array([[65535, 65535]], np.uint16), 65536).tolist() == [2**32 - 1]


def test_scipy_round_trip():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(6, 9, 0.4, "csr", random_state=1, dtype=np.float32)
    index = from_scipy(matrix)
    back = index.to_scipy()
    assert back.shape == matrix.shape
    assert index.item_count == 9
    assert np.abs((back - matrix).toarray()).max() <= index.scale * 0.5 + 1e-6
    exact = from_scipy(matrix, keep_scores=True).to_scipy()
    assert (exact != matrix).nnz == 0


def test_scipy_input_is_cleaned_or_refused():
    sparse = pytest.importorskip("scipy.sparse")
    rows, columns = [0, 0, 0, 1], [2, 1, 1, 0]
    index = from_scipy(sparse.coo_matrix(([1.0, 0.5, 0.5, 0.0], (rows, columns)), shape=(2, 3)))
    assert index.row(0)[0].tolist() == [1, 2]
    assert index.lengths().tolist() == [2, 0]
    with pytest.raises(DataError, match="> 0"):
        from_scipy(sparse.csr_matrix([[-1.0]]))
    with pytest.raises(DataError, match="finite"):
        from_scores([0, 1], [0], [np.nan], 1)


def test_the_order_of_ids_is_checked_across_the_edge_of_a_block(monkeypatch):
    monkeypatch.setattr("sparcode.index.layout._BLOCK", 4)
    ids = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    indptr = np.array([0, 8], np.uint64)
    check_postings(indptr, pack(ids, np.ones(8, int)), 8)
    check_postings(np.array([0, 4, 8], np.uint64), pack(np.append(ids[:4], ids[:4]), np.ones(8, int)), 8)
    ids[4] = 3
    with pytest.raises(ValueError, match="posting list 0 are not strictly ascending: item 3 follows item 3"):
        check_postings(indptr, pack(ids, np.ones(8, int)), 8)
