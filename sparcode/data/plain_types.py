"""Any Arrow array as one of few types, so that whatever reads a column later need not know the others.

Text and bytes get 64-bit offsets (their bytes are shared, not copied), views, dictionaries and runs are decoded,
lists get 64-bit offsets, at every depth. Numbers, times and truth values stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

_UUID = "arrow.uuid"
_TEXT = (pa.types.is_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_binary_view)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)


def plain_table(table: pa.Table) -> pa.Table:
    """Return a table whose columns are ``plain_column``; the same table when all of them are plain."""
    if all(plain_type(kind) == kind and not pa.types.is_decimal(kind) for kind in table.schema.types):
        return table
    return pa.table([plain_column(column) for column in table.columns], names=table.column_names)


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with chunks of one plain type; a decimal without decimals becomes int64 where all values fit."""
    wanted = plain_type(column.type)
    if wanted != column.type:
        column = pa.chunked_array([decoded(chunk) for chunk in column.chunks], type=wanted)
    if pa.types.is_decimal(wanted) and wanted.scale <= 0:
        return _whole_decimals(column)
    return column


def type_name(kind: pa.DataType) -> str:
    """Return the name of a plain type as people say it: a list, whatever the width of its offsets."""
    return str(kind).replace("large_", "")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that ``decoded`` gives an array of ``kind``."""
    if _is(kind, _TEXT):
        return pa.large_string()
    if _is(kind, _BYTES):
        return pa.large_binary()
    if isinstance(kind, pa.BaseExtensionType):
        return pa.large_string() if kind.extension_name == _UUID else plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if pa.types.is_map(kind):
        return pa.large_list(pa.struct([("key", plain_type(kind.key_type)), ("value", plain_type(kind.item_type))]))
    if _is(kind, _LISTS):
        return pa.large_list(plain_type(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    return kind


def decoded(array: pa.Array) -> pa.Array:
    """Return an array as ``plain_type`` of its type; nulls stay null."""
    kind = array.type
    wanted = plain_type(kind)
    if wanted == kind:
        return array
    if isinstance(kind, pa.BaseExtensionType):
        return _spelled(array) if kind.extension_name == _UUID else decoded(array.storage)
    if pa.types.is_dictionary(kind):
        return decoded(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(kind):
        return _without_runs(array)
    if _is(kind, _LISTS) or pa.types.is_map(kind):
        return _lists(array, wanted)
    if pa.types.is_fixed_size_list(kind):
        return _nested(wanted, array, [decoded(array.values)])
    if pa.types.is_struct(kind):
        fields = [decoded(array.field(place)) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(wanted), mask=array.is_null())
    return array.cast(wanted)


def _spelled(array: pa.Array) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.large_string())


def _lists(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    kind = array.type
    if pa.types.is_map(kind):
        pairs = pa.StructArray.from_arrays([decoded(array.keys), decoded(array.items)], fields=list(wanted.value_type))
        lists = pa.Array.from_buffers(
            pa.list_(wanted.value_type), len(array), array.buffers()[:2], offset=array.offset, children=[pairs]
        )
        return lists.cast(wanted)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return _ordered_views(array)
    # The offsets are widened while the values keep their own type: for some of them a cast has no kernel.
    wide = array if pa.types.is_large_list(kind) else array.cast(pa.large_list(kind.value_type))
    return _nested(wanted, wide, [decoded(wide.values)])


def _ordered_views(array: pa.Array) -> pa.Array:
    """Return list views, whose values may lie in any order, as lists."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), decoded(array.flatten()), mask=array.is_null())


def _nested(wanted: pa.DataType, array: pa.Array, children: list[pa.Array]) -> pa.Array:
    own = array.buffers()[: 1 if pa.types.is_fixed_size_list(wanted) else 2]
    return pa.Array.from_buffers(wanted, len(array), own, offset=array.offset, children=children)


def _without_runs(array: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    values = decoded(array.values)
    kind = pa.run_end_encoded(array.type.run_end_type, values.type)
    plain = pa.RunEndEncodedArray.from_buffers(
        kind, len(array), [None], offset=array.offset, children=[array.run_ends, values]
    )
    return pc.run_end_decode(plain)


def _whole_decimals(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _is(kind: pa.DataType, tests: tuple[Any, ...]) -> bool:
    return any(test(kind) for test in tests)
