"""Half distances of up to four tokens to all codewords of a book, in vector registers.

What a plain loop over codewords costs is mostly loading and storing sums. A tile keeps those of R tokens and V times 16
codewords in registers while it runs over the coordinates: R V = 8 vectors hide the latency of an addition. Every sum
starts at the codeword's half squared norm and subtracts the products in the order of the coordinates, whatever the
shape of the tile, so a token's distances do not depend on its company.

``tile_distances`` is ordinary Python, which says what it does and is the reference of tests. Compiled kernels get
vector code in its place: numba vectorises loops, but does not keep a tile in registers.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.jit.library import is_active, overload, resting_on_numba, types

with resting_on_numba("tiles"):
    from llvmlite import ir
    from numba.core import cgutils
    from numba.extending import intrinsic
    from numba.np.arrayobj import make_array

LANES = 16
"""Codewords in a vector; a machine with narrower registers uses several."""
ROWS = 4
"""The most tokens in a tile; with eight, LLVM puts the sums into memory."""
SUMS = 8
"""Vectors of sums in a tile."""

if is_active("tiles"):
    _FLOATS = ir.VectorType(ir.FloatType(), LANES)
    _WHOLE = ir.VectorType(ir.IntType(32), LANES)
_CONTRACT = ("contract",)  # as in ``encoder.math.kernel``: one rounding where the machine multiplies and adds at once


def tile_distances(x, book, norms, rest, rests, values, least, words):
    """Measure rows of ``x`` against all codewords but those behind the last multiple of 16, which is returned.

    ``values[r, c] = norms[c] - rest[r] rests[c] - x[r] . codeword c``; ``least[r, l]`` is the smallest of the codewords
    with c % 16 = l, ``words[r, l]`` the first c that has it (inf and 0 without codewords).
    ``x`` (R, width) with R = 4, 2 or 1, each row contiguous; ``book`` (width, N), ``norms`` and ``rests`` (N,),
    ``rest`` (R,), ``values`` (R, N), ``least`` (R, 16), all float32, and ``words`` (R, 16) int32, C-contiguous.
    ``rest`` and ``rests`` may both be None, and ``values`` too.
    """
    stop = book.shape[1] // LANES * LANES
    for r in range(x.shape[0]):
        own = norms[:stop].copy()
        if rest is not None:
            own -= rest[r] * rests[:stop]
        for i in range(book.shape[0]):
            own -= x[r, i] * book[i, :stop]
        if values is not None:
            values[r, :stop] = own
        least[r], words[r] = np.inf, 0
        for c in range(stop):
            if own[c] < least[r, c % LANES]:
                least[r, c % LANES], words[r, c % LANES] = own[c], c
    return stop


@overload(tile_distances)
def _tile_distances(x, book, norms, rest, rests, values, least, words):
    if not is_active("tiles"):
        return _in_plain_loops

    def implementation(x, book, norms, rest, rests, values, least, words):
        if x.shape[0] == 4:
            return _tile4(x, book, norms, rest, rests, values, least, words)
        if x.shape[0] == 2:
            return _tile2(x, book, norms, rest, rests, values, least, words)
        return _tile1(x, book, norms, rest, rests, values, least, words)

    return implementation


def _in_plain_loops(x, book, norms, rest, rests, values, least, words):
    # The same numbers in the same order: one product is subtracted at a time, contracted as the caller is.
    stop = book.shape[1] // LANES * LANES
    for r in range(x.shape[0]):
        for lane in range(LANES):
            least[r, lane], words[r, lane] = np.float32(np.inf), 0
        for c in range(stop):
            own = norms[c]
            if rest is not None:
                own -= rest[r] * rests[c]
            for i in range(book.shape[0]):
                own -= x[r, i] * book[i, c]
            if values is not None:
                values[r, c] = own
            if own < least[r, c % LANES]:
                least[r, c % LANES], words[r, c % LANES] = own, c
    return stop


class _Tile:
    """Emits the code of one call: R rows, up to V vectors of codewords at once."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, rows: int) -> None:
        self.builder, self.rows = builder, rows
        arrays: list[Any] = [
            None if isinstance(kind, types.NoneType) else make_array(kind)(context, builder, value=value)
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        self.x, self.book, self.norms, self.rest, self.rests, self.values, self.least, self.words = arrays
        self.width, self.count = cgutils.unpack_tuple(builder, self.book.shape)
        self.index = self.count.type
        self.data = [self._row(r) for r in range(rows)]
        self.lowest = [cgutils.alloca_once_value(builder, _all(_FLOATS, float("inf"))) for _ in range(rows)]
        self.first = [cgutils.alloca_once_value(builder, _all(_WHOLE, 0)) for _ in range(rows)]

    def code(self) -> Any:
        """Emit everything; return the first column behind the whole vectors."""
        stop = self.index(0)
        for vectors in sorted({SUMS // self.rows, 1}, reverse=True):
            stop = self._while_whole(stop, vectors)
        for r in range(self.rows):
            place = self.index(LANES * r)
            self._store(self.builder.load(self.lowest[r]), self.least, place)
            self._store(self.builder.load(self.first[r]), self.words, place)
        return stop

    def _while_whole(self, start: Any, vectors: int) -> Any:
        """Take ``vectors`` vectors at once from column ``start`` on while there are as many; return the next column."""
        builder, step = self.builder, self.index(LANES * vectors)
        column = cgutils.alloca_once_value(builder, start)
        body, check, done = (builder.append_basic_block(name) for name in ("body", "check", "done"))
        builder.branch(check)
        builder.position_at_end(check)
        builder.cbranch(builder.icmp_signed("<=", builder.add(builder.load(column), step), self.count), body, done)
        builder.position_at_end(body)
        self._take(builder.load(column), vectors)
        builder.store(builder.add(builder.load(column), step), column)
        builder.branch(check)
        builder.position_at_end(done)
        return builder.load(column)

    def _take(self, column: Any, vectors: int) -> None:
        """Measure the codewords from ``column`` on, keep the least and store all where they are asked for."""
        builder = self.builder
        start = self._spread(builder.trunc(column, ir.IntType(32)), _WHOLE)
        for r, row in enumerate(self._sums(column, vectors)):
            for v, total in enumerate(row):
                own = builder.add(start, _WHOLE([LANES * v + lane for lane in range(LANES)]))
                less = builder.fcmp_ordered("<", total, builder.load(self.lowest[r]))
                builder.store(builder.select(less, total, builder.load(self.lowest[r])), self.lowest[r])
                builder.store(builder.select(less, own, builder.load(self.first[r])), self.first[r])
                if self.values is not None:
                    line = builder.add(builder.mul(self.count, self.index(r)), column)
                    self._store(total, self.values, builder.add(line, self.index(LANES * v)))

    def _sums(self, column: Any, vectors: int) -> list[list[Any]]:
        """Emit the sums of codewords from ``column`` on; return them by row and vector."""
        builder = self.builder
        places = [builder.add(column, self.index(LANES * v)) for v in range(vectors)]
        totals = [[cgutils.alloca_once(builder, _FLOATS) for _ in places] for _ in self.data]
        for v, place in enumerate(places):
            start = self._load(self.norms, place)
            for r in range(self.rows):
                builder.store(start, totals[r][v])
        if self.rest is not None:
            self._subtract(totals, [builder.gep(self.rest.data, [self.index(r)]) for r in range(self.rows)], self.rests,
                           places)  # fmt: skip
        with cgutils.for_range(builder, self.width) as loop:
            line = builder.mul(loop.index, self.count)
            factors = [builder.gep(row, [loop.index]) for row in self.data]
            self._subtract(totals, factors, self.book, [builder.add(line, place) for place in places])
        return [[builder.load(total) for total in row] for row in totals]

    def _subtract(self, totals: list[list[Any]], factors: list[Any], array: Any, places: list[Any]) -> None:
        """Subtract the number each row's pointer shows times the vectors of ``array`` at ``places``."""
        builder, parts = self.builder, [self._load(array, place) for place in places]
        for row, pointer in zip(totals, factors, strict=True):
            factor = self._spread(builder.load(pointer), _FLOATS)
            for total, part in zip(row, parts, strict=True):
                product = builder.fmul(factor, part, flags=_CONTRACT)
                builder.store(builder.fsub(builder.load(total), product, flags=_CONTRACT), total)

    def _row(self, r: int) -> Any:
        stride = cgutils.unpack_tuple(self.builder, self.x.strides)[0]
        start = self.builder.bitcast(self.x.data, ir.IntType(8).as_pointer())
        place = self.builder.gep(start, [self.builder.mul(stride, stride.type(r))])
        return self.builder.bitcast(place, ir.FloatType().as_pointer())

    def _load(self, array: Any, place: Any) -> Any:
        pointer = self.builder.gep(array.data, [place])
        return self.builder.load(self.builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)

    def _store(self, vector: Any, array: Any, place: Any) -> None:
        pointer = self.builder.gep(array.data, [place])
        self.builder.store(vector, self.builder.bitcast(pointer, vector.type.as_pointer()), align=4)

    def _spread(self, scalar: Any, kind: Any) -> Any:
        empty = kind(ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.IntType(32)(0))
        return self.builder.shuffle_vector(first, empty, _all(_WHOLE, 0))


def _all(kind: Any, number: float) -> Any:
    return kind([number] * LANES)


def _tile(rows: int) -> Any:
    @intrinsic
    def call(typing_context, x, book, norms, rest, rests, values, least, words):
        def code(context, builder, signature, arguments):
            return _Tile(context, builder, signature, arguments, rows).code()

        return types.intp(x, book, norms, rest, rests, values, least, words), code

    return call


if is_active("tiles"):
    _tile4, _tile2, _tile1 = _tile(4), _tile(2), _tile(1)
