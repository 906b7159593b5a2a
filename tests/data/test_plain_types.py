"""Arrow arrays of every type become one of few, with the same values, sliced or not."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sparcode.data.plain_types import decoded, plain_column, plain_table, plain_type

TEXT = ["a", None, "bb", "a"]
LISTS = [["a", "b"], None, [], ["c", None]]
VIEW = pa.string_view()
ARRAYS = [
    pa.array(TEXT),
    pa.array(TEXT, VIEW),
    pa.array([b"a", None, b"c"]),
    pa.array([b"a", None, b"c"], pa.binary_view()),
    pa.array(TEXT).dictionary_encode(),
    pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 0], pa.int8()), pa.array(["a", "b"], VIEW)),
    pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 0], pa.uint32()), pa.array(["a", None])),
    pc.run_end_encode(pa.array(["a", "a", "b", None])),
    pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), pa.array(["a", None], VIEW)),
    pa.array(LISTS),
    pa.array(LISTS, pa.list_(VIEW)),
    pa.array(LISTS, pa.large_list(pa.string())),
    pa.array(LISTS, pa.list_view(VIEW)),
    pa.array(LISTS, pa.large_list_view(pa.string())),
    pa.array(LISTS, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    pa.array([["a", "b"], None, ["c", None]], pa.list_(VIEW, 2)),
    pa.array(
        [{"x": "a", "y": [1]}, None, {"x": None, "y": None}], pa.struct([("x", VIEW), ("y", pa.list_(pa.int8()))])
    ),
    pa.array([[{"a": "x"}], None], pa.list_(pa.struct([("a", pa.dictionary(pa.int8(), pa.string()))]))),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
def test_values_stay_and_types_are_few(array: pa.Array) -> None:
    for part in (array, array.slice(1), array.slice(1, 2), array.slice(0, 0)):
        plain = decoded(part)
        plain.validate(full=True)
        assert plain.type == plain_type(array.type)
        assert plain_type(plain.type) == plain.type
        assert plain.to_pylist() == part.to_pylist()
        column = plain_column(pa.chunked_array([part, part], array.type))
        # What views have no kernels for, whatever reads a column does.
        assert (
            column.combine_chunks().take(pa.array(range(len(column)), pa.int64())).to_pylist() == part.to_pylist() * 2
        )


def test_bytes_of_text_are_shared_and_not_copied() -> None:
    array = pa.array(["x" * 1000] * 10)
    assert decoded(array).buffers()[2].address == array.buffers()[2].address


def test_rare_types() -> None:
    ids = [uuid.UUID(int=1), None]
    spelled = decoded(pa.array([None if each is None else each.bytes for each in ids], pa.uuid()))
    assert spelled.to_pylist() == [str(ids[0]), None]
    pairs = decoded(pa.array([[("k", "v")], None, []], pa.map_(pa.string(), VIEW)))
    assert pairs.to_pylist() == [[{"key": "k", "value": "v"}], None, []]
    table = plain_table(
        pa.table({"whole": [Decimal(12), None], "huge": [Decimal(10**30), None], "not": [Decimal("1.5")] * 2})
    )
    assert [str(kind) for kind in table.schema.types] == ["int64", "decimal128(31, 0)", "decimal128(2, 1)"]


def test_a_plain_table_is_returned_as_it_is() -> None:
    table = pa.table({"n": [1], "text": pa.array(["a"], pa.large_string())})
    assert plain_table(table) is table
