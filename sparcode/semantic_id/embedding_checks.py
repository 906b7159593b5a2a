"""One pass over a matrix of embeddings: what cannot be quantized is refused, what is odd is counted.

Refused: nan and infinite values, values whose squares overflow, and a matrix whose rows
are all equal. Counted, and kept as they are: rows that equal
an earlier row bit for bit (they get one code, which collision handling then tells apart), rows of zeros (items nothing
is known about), columns with one value (they carry nothing and cost little).
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sparcode.data.features import LARGEST_VECTOR
from sparcode.errors import DataError
from sparcode.jit import exact

_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class VectorFacts:
    """``rows``, ``width``; ``duplicates``: rows that equal an earlier one; ``zeros``: rows of zeros.

    ``constant_columns``: columns with the same value in every row.
    """

    rows: int
    width: int
    duplicates: int
    zeros: int
    constant_columns: int

    def notes(self) -> list[str]:
        """Return one sentence for everything that is odd."""
        found = []
        if self.duplicates:
            found.append(f"{self.duplicates:,} of {self.rows:,} vectors equal an earlier one: they share their codes")
        if self.zeros:
            found.append(f"{self.zeros:,} of {self.rows:,} vectors are zero: nothing is known about these items")
        if self.constant_columns:
            found.append(f"{self.constant_columns:,} of {self.width:,} columns have one value everywhere")
        return found


def inspect(vectors: np.ndarray, ids: pa.Array | None = None, *, alike: bool = False) -> VectorFacts:
    """Check float32 (n, d), read block by block; memory beyond the matrix is some 260 bytes a row.

    DataError names the rows (and ids) of nan or infinite values and of values whose squares overflow, and, unless
    ``alike`` allows it, a matrix without variance: nothing can be learned from it, but items to encode may be few and
    equal.
    """
    rows, width = vectors.shape
    low, high = np.array(vectors[0]), np.array(vectors[0])
    hashes, zeros = np.empty(rows, np.uint64), 0
    for block in blocks(rows, width):
        part = np.ascontiguousarray(vectors[block], dtype=np.float32)
        broken = scan(part, low, high, hashes[block])
        if broken.any():
            raise DataError(_broken_message(vectors, ids))
        zeros += int((hashes[block] == 0).sum())
    if max(-float(low.min()), float(high.max())) >= LARGEST_VECTOR:
        raise DataError(_broken_message(vectors, ids, LARGEST_VECTOR))
    constant = int((low == high).sum())
    if constant == width and rows > 1 and not alike:
        raise DataError(f"all {rows:,} embeddings are equal, so no code can tell items apart; check how they were made")
    duplicates = int((first_of_equals(vectors, hashes) != np.arange(rows)).sum())
    return VectorFacts(rows, width, duplicates, zeros, constant)


def distinct_rows(vectors: np.ndarray) -> np.ndarray:
    """Return int64 (n,): the first row that equals each row bit for bit (0.0 and -0.0 are one value)."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    hashes = np.empty(len(vectors), np.uint64)
    scan(vectors, vectors[0].copy(), vectors[0].copy(), hashes)
    return first_of_equals(vectors, hashes)


def blocks(rows: int, width: int) -> list[slice]:
    """Return slices of at most 64 MiB of float32."""
    step = max(_BLOCK_BYTES // (4 * width), 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def first_of_equals(vectors: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return int64 (n,) as ``distinct_rows``, given ``hashes`` uint64 (n,) of the rows; equal hashes are compared."""
    result = np.arange(len(hashes), dtype=np.int64)
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(repeated) == 0:
        return result
    place = np.minimum(np.searchsorted(repeated, hashes), len(repeated) - 1)
    rows = np.flatnonzero(repeated[place] == hashes)
    # Rows of one hash stand together, in their order.
    rows = rows[np.argsort(place[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(place[rows], prepend=-1))
    heads = np.repeat(rows[starts], np.diff(starts, append=len(rows)))
    result[rows] = heads
    parts = blocks(len(rows), vectors.shape[1])
    differ = np.concatenate([(vectors[rows[part]] != vectors[heads[part]]).any(axis=1) for part in parts])
    for head in np.unique(heads[differ]):
        # Different rows of one hash: told apart by their values.
        members = rows[heads == head]
        _, first, back = np.unique(vectors[members] + np.float32(0), axis=0, return_index=True, return_inverse=True)
        result[members] = members[first[back.ravel()]]
    return result


@exact
def scan(vectors, low, high, hashes):
    """Hash rows of float32 (n, d), lower ``low`` and raise ``high`` (d,); return bool (n,): True where not finite.

    ``hashes`` uint64 (n,) receives 0 for a row of zeros and for nothing else (but one row in 2^64).
    """
    rows, width = vectors.shape
    bits = vectors.view(np.uint32)
    broken = np.zeros(rows, np.bool_)
    for row in range(rows):
        state, finite = np.uint64(0), True
        for column in range(width):
            word = bits[row, column]
            # An exponent of ones is nan or infinite; without the sign, zero is zero.
            finite &= (word & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
            word = np.uint32(0) if word == np.uint32(0x80000000) else word
            mixed = (np.uint64(word) + (np.uint64(column) << np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            state += (mixed ^ (mixed >> np.uint64(32))) if word else np.uint64(0)
            value = vectors[row, column]
            if value < low[column]:
                low[column] = value
            if value > high[column]:
                high[column] = value
        hashes[row] = state
        broken[row] = not finite
    return broken


def _broken_message(vectors: np.ndarray, ids: pa.Array | None, limit: float = np.inf) -> str:
    """Return the message that names the rows which hold nan or values from ``limit`` on."""
    found: list[int] = []
    for block in blocks(*vectors.shape):
        found += (np.flatnonzero(~(np.abs(vectors[block]) < limit).all(axis=1)) + block.start).tolist()
    named = [f"{row + 1:,}" + ("" if ids is None else f" (id {ids[row].as_py()!r})") for row in found[:3]]
    what = "nan" if np.isnan(vectors[found[0]]).any() else "an infinite value"
    kind = (
        f"nan or infinite values (as float32), first {what}"
        if np.isinf(limit)
        else (f"values from {limit:g} on, whose squares overflow")
    )
    remedy = "repair or remove these rows" if np.isinf(limit) else "scale the vectors or remove these rows"
    more = ", ..." if len(found) > 3 else ""
    return f"{len(found):,} of {len(vectors):,} embeddings hold {kind}: rows {', '.join(named)}{more}; {remedy}"
