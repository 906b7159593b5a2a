"""Item vectors in fewer bytes: float32 as trained, float16, or int8 with one scale an item.

    float16   v rounded to 11 significant bits, error at most 2^-12 |v| a coordinate
    int8      v = scale * code, scale = max |v| / 127 of the item, error at most scale / 2 a coordinate

Kernels read items as they are stored and decode a row when they score it, so a memory map serves all three. What they
take is ``Items``: a float32 or uint16 array (n, D), the latter the bits of float16, or a pair of int8 codes (n, D) and
float32 scales (n,).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparcode.errors import CorruptIndexError
from sparcode.jit import exact, overload, types

KINDS = ("float32", "float16", "int8")
Items = np.ndarray | tuple[np.ndarray, np.ndarray]
_HALF_BIAS = np.float32(2.0**112)
"""2^(127 - 15): the difference of the exponents' offsets. The product is exact, for denormal numbers too."""


def stored_arrays(item_tokens: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """Return the arrays to store for item tokens (n, K_c, d) float32: "item_tokens", and "item_scales" for int8."""
    tokens = np.ascontiguousarray(item_tokens, np.float32)
    if kind == "float32":
        return {"item_tokens": tokens}
    if kind == "float16":
        return {"item_tokens": tokens.astype(np.float16)}
    if kind != "int8":
        raise ValueError(f"item vectors of kind {kind!r}, expected one of {', '.join(KINDS)}")
    largest = np.abs(tokens).max(axis=(1, 2), initial=0.0)
    scales = (largest / np.float32(127)).astype(np.float32)
    shares = tokens / np.where(scales > 0, scales, 1)[:, None, None]
    return {"item_tokens": np.rint(shares).clip(-127, 127).astype(np.int8), "item_scales": scales}


def open_items(arrays: Mapping[str, np.ndarray], kind: str, shape: tuple[int, int, int]) -> Items:
    """Return what the kernels read; CorruptIndexError unless the arrays have the ``kind`` and ``shape`` (n, K_c, d)."""
    if kind not in KINDS:
        raise CorruptIndexError(f"the rescorer has item vectors of kind {kind!r}, expected one of {', '.join(KINDS)}")
    tokens = _expect(arrays, "item_tokens", np.dtype(kind), shape).reshape(shape[0], -1)
    if kind == "float32":
        return tokens
    if kind == "float16":
        return tokens.view(np.uint16)
    return tokens, _expect(arrays, "item_scales", np.dtype(np.float32), shape[:1])


def decoded(items: Items, rows: slice = slice(None)) -> np.ndarray:
    """Return rows of items as float32 (I, D); float32 items are not copied."""
    if isinstance(items, tuple):
        return np.asarray(items[0][rows].astype(np.float32) * items[1][rows, None], np.float32)
    if items.dtype == np.uint16:
        return items[rows].view(np.float16).astype(np.float32)
    return items[rows]


def _expect(arrays: Mapping[str, np.ndarray], name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise CorruptIndexError(f"the rescorer has no array {name!r}; its spec and its arrays do not belong together")
    array = np.asarray(arrays[name])
    if array.shape != shape or array.dtype != dtype:
        raise CorruptIndexError(
            f"rescorer array {name!r} is {array.dtype} of shape {array.shape}, its spec says {dtype} of shape {shape}"
        )
    return np.ascontiguousarray(array)


def item_row(items: Any, item: int, buffer: np.ndarray) -> np.ndarray:
    """Return the float32 vector (D,) of an item; in ``buffer`` (D,) unless it is stored as float32. For kernels."""
    if isinstance(items, tuple):
        buffer[:] = items[0][item] * items[1][item]
        return buffer
    if items.dtype == np.uint16:
        buffer[:] = items[item].view(np.float16)
        return buffer
    row: np.ndarray = items[item]
    return row


def vector_length(items: Any) -> int:
    """Return D. For kernels."""
    return int((items[0] if isinstance(items, tuple) else items).shape[1])


@overload(item_row)
def _item_row(items, item, buffer):  # type: ignore[no-untyped-def]
    if isinstance(items, types.BaseTuple):
        return _int8_row
    return _float16_row if items.dtype == types.uint16 else _float32_row


@overload(vector_length)
def _vector_length(items):  # type: ignore[no-untyped-def]
    if isinstance(items, types.BaseTuple):
        return lambda items: items[0].shape[1]
    return lambda items: items.shape[1]


def _float32_row(items, item, buffer):  # type: ignore[no-untyped-def]
    return items[item]


def _float16_row(items, item, buffer):  # type: ignore[no-untyped-def]
    row = items[item]
    for i in range(row.shape[0]):
        buffer[i] = half_to_float(row[i])
    return buffer


@exact
def half_to_float(bits):  # type: ignore[no-untyped-def]
    """Return the float32 value of the uint16 bits of a float16. For kernels."""
    half = np.uint32(bits)
    wide = (half & np.uint32(0x8000)) << np.uint32(16) | (half & np.uint32(0x7FFF)) << np.uint32(13)
    return np.uint32(wide).view(np.float32) * _HALF_BIAS


def _int8_row(items, item, buffer):  # type: ignore[no-untyped-def]
    row, scale = items[0][item], items[1][item]
    for i in range(row.shape[0]):
        buffer[i] = np.float32(row[i]) * scale
    return buffer
