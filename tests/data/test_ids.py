"""External ids: look-up both ways, text that spells integers, unknown ids."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import polars
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.data import ids as ids_module
from sparcode.data.ids import IdMap, as_id_array, cast_ids, integers_where_exact
from sparcode.errors import DataError, UnknownIdError


def test_integer_map_accepts_text_and_numpy() -> None:
    ids = IdMap([50, 7, 181], kind="item")
    assert ids.to_internal([50, "7", np.int64(181), 7.0]).tolist() == [0, 1, 2, 1]
    assert ids.to_external(np.array([2, 0])) == [181, 50]
    assert ids.get("seven") is None
    assert ids.get(True) is None
    assert ids.get(None) is None
    assert 50 in ids
    assert len(ids) == 3


def test_string_map_accepts_integers() -> None:
    ids = IdMap(["50", "b"])
    assert ids.to_internal([50, "b"]).tolist() == [0, 1]


def test_unknown_id_names_near_ids() -> None:
    ids = IdMap(["alice", "bob"], kind="user")
    with pytest.raises(UnknownIdError, match="unknown user 'alicia'.*alice"):
        ids.to_internal(["bob", "alicia"])
    with pytest.raises(UnknownIdError, match=r"0\.\.1"):
        ids.to_external([2])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(max_size=8), unique=True, max_size=30) | st.lists(st.integers(-99, 99), unique=True, max_size=30)
)
def test_round_trip(values: list) -> None:
    ids = IdMap(values or pa.array([], pa.large_string()))
    assert ids.to_external(ids.to_internal(values)) == values


@pytest.mark.parametrize("values", [["a", "b", "1"], [0, 1, 7]], ids=["text", "whole numbers"])
def test_plain_ids_are_looked_up_at_once_and_others_are_left_to_get(values: list) -> None:
    ids, asked = IdMap(values), [*values[::-1], type(values[0])(9)]
    assert ids.get_plain(asked) is None  # no dictionary yet
    assert ids.get(values[0]) == 0
    assert ids.get_plain(asked) == [ids.get(value) for value in asked] == [2, 1, 0, None]
    for other in (True, 1.0, None, np.int64(1), np.str_("a"), [1]):
        assert ids.get_plain([*asked, other]) is None


@pytest.mark.parametrize("values", [[f"x{i}" for i in range(50)], list(range(100, 150))])
def test_single_look_ups_of_a_large_map_build_no_dictionary(values: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids_module, "_ALWAYS_DICTIONARY", 10)
    ids = IdMap(values)
    assert ids.get(values[40]) == 40
    assert ids.get("nothing") is None
    assert ids.get(2**70) is None
    assert ids._dictionary is None
    for _ in range(40):
        assert ids.get(values[3]) == 3
    assert ids._dictionary is not None


def test_join_is_vectorised_look_up() -> None:
    ids = IdMap([5, 3, 9])
    assert ids.join(pa.array(["3", "x", None, "9"])).tolist() == [1, -1, -1, 2]
    assert IdMap(["5", "3"]).join(pa.chunked_array([[3, 4]])).tolist() == [1, -1]


def test_id_types() -> None:
    assert as_id_array(pa.array([1.0, None])).to_pylist() == [1, None]
    assert as_id_array(pa.array(["a", "b"]).dictionary_encode()).type == pa.large_string()
    assert as_id_array(pa.chunked_array([[1], [2]])).to_pylist() == [1, 2]
    assert as_id_array(pa.array([3], pa.uint64())).type == pa.int64()
    for bad in (pa.array([1.5]), pa.array([True]), pa.array([[1]])):
        with pytest.raises(DataError, match="strings or integers"):
            as_id_array(bad)
    with pytest.raises(DataError, match="cannot be used"):
        as_id_array(pa.array([b"\xff"]))
    with pytest.raises(DataError, match="mixture"):
        IdMap(["a", 1])


SPELLINGS = ["01", " 1", "1 ", "+1", "1.0", "-0", "1\n", "1_0", "\u0661", "", "9223372036854775808", "1" * 5000]


@pytest.mark.parametrize("text", SPELLINGS)
def test_text_that_is_not_how_an_integer_is_printed_is_another_id(text: str) -> None:
    ids = IdMap([1, 0, 10, 2**63 - 1, -(2**63)])
    assert ids.get(text) is None
    assert ids.join(pa.array([text, "1"])).tolist() == [-1, 0]
    assert IdMap(["1", text]).join(pa.array([1])).tolist() == [0]


@pytest.mark.parametrize("value", [0, -5, 10**18, 1_234_567_890_123_456_000, 2**63 - 1, -(2**63)])
def test_every_int64_joins_its_own_spelling(value: int) -> None:
    assert IdMap([7, value]).join(pa.array(["7", str(value)])).tolist() == [0, 1]
    assert IdMap(["7", str(value)]).join(pa.array([value, 7])).tolist() == [1, 0]
    assert IdMap([7, value]).get(str(value)) == IdMap(["7", str(value)]).get(value) == 1


def test_integers_beyond_int64_become_text_and_floats_are_refused_where_they_lose_digits() -> None:
    assert as_id_array(pa.array([1, 2**64 - 1], pa.uint64())).to_pylist() == ["1", "18446744073709551615"]
    assert as_id_array([1, 2**70]).to_pylist() == ["1", str(2**70)]
    assert IdMap([1, 2**64 - 1]).get(2**64 - 1) == 1
    decimals = pa.array([Decimal(5), None], pa.decimal128(20, 2))
    assert as_id_array(decimals).to_pylist() == [5, None]
    assert as_id_array(pa.array([Decimal(2**70)])).to_pylist() == [str(2**70)]
    assert as_id_array(pa.array([2.0**53 - 1, None])).to_pylist() == [2**53 - 1, None]
    for array in (pa.array([1.0, 2.0**53]), pa.array([2.0**24], pa.float32()), pa.array(np.float16([2048]))):
        with pytest.raises(DataError, match=r"item ids are floats .*lose digits.* in row"):
            as_id_array(array, "item")
    for array in (pa.array([math.inf]), pa.array([Decimal("1.5")])):
        with pytest.raises(DataError, match="strings"):
            as_id_array(array)
    assert IdMap([2**53]).get(2.0**53) is None, "which integer was meant is not known"


def test_text_becomes_integer_only_when_every_id_is_spelled_plainly() -> None:
    assert integers_where_exact(pa.array(["0", "12"])).type == pa.int64()
    assert integers_where_exact(pa.array(["007", "12"])).to_pylist() == ["007", "12"]
    assert cast_ids(pa.array(["1", "x"]), pa.int64()).to_pylist() == [1, None]


STRANGE = [10**5000, "x" * 100_000, "9" * 100_000, 1e300, math.nan, b"1", [1], {}]


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_any_unknown_value_is_one_short_line(value: object) -> None:
    for ids in (IdMap([1, 2]), IdMap(["1", "x"])):
        assert ids.get(value) is None
        with pytest.raises(UnknownIdError) as caught:
            ids.to_internal([value])
        assert len(str(caught.value)) < 300


def test_ids_of_polars_categories() -> None:
    names = ["b", "a", "b", None]
    for kind in (polars.Categorical, polars.Enum(["a", "b"]), polars.String):
        series = polars.Series(names, dtype=kind)
        for ids in (series, series.to_arrow(), pa.chunked_array([series.to_arrow()])):
            assert as_id_array(ids).type == pa.large_string()
            assert as_id_array(ids).to_pylist() == names


def test_near_ids_are_read_one_by_one() -> None:
    ids = IdMap(["a,10", "a\n11", "a12 ", "a13"], kind="item")
    with pytest.raises(UnknownIdError) as caught:
        ids.to_internal(["a,1"])
    near = str(caught.value).partition("near ids: ")[2]
    assert near.startswith("'a,10'")
    assert near.isprintable()
    with pytest.raises(UnknownIdError, match=r"near ids: .*'a\\n11'"):
        ids.to_internal(["a\n1"])
