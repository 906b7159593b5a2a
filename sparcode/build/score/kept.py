"""What stays of the scores of a block of codes: pairs above a threshold, and the best few of every code.

Scores stream past, items in any order. A pair is looked at only when its score is above its code's *raw threshold*, so
the inner loop is one comparison; raw thresholds rise while better pairs are found. A pair above the code's threshold
goes into a stream of (code, item, value). Any other may still belong to the ``floor`` best of its code: it goes into
the code's buffer, and when that is full the best ``floor`` of it are selected and the last of them gives the new raw
threshold. Of equal values the smaller item is the better one. Policy ``length`` is the case of a threshold nothing
exceeds.

What is kept is a function of the values alone: tiles, blocks and the order of items cannot change it.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.jit import exact

STRIDE = 64
"""Scores compared before the next branch."""
MOST_ROOM = 256
"""Room of a buffer beyond the ``floor`` pairs it must hold, at most."""
STREAM_SLOTS = 1 << 16
_SIGN = np.uint32(0x80000000)
_ALL = np.uint32(0xFFFFFFFF)
_LOW = np.uint64(0xFFFFFFFF)
_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)


class PairBuffers(NamedTuple):
    """The arrays the kernels work on, for C codes.

    ``raw_thresholds`` (C,) f32: no raw score at or below can be kept; value = raw score - ``shift`` (C,) f32.
    ``thresholds`` (C,) f32 and ``above`` (C,) i64, how many values exceeded them. ``keys`` (C, slots) u64, the
    buffers, ``filled`` (C,) i64, and ``least`` (C,) u64: keys at or below are not among the ``floor`` best. ``rows
    items values`` (X,), the stream, of which ``used`` (1,) i64 places are taken.
    """

    raw_thresholds: np.ndarray
    shift: np.ndarray
    thresholds: np.ndarray
    above: np.ndarray
    least: np.ndarray
    keys: np.ndarray
    filled: np.ndarray
    rows: np.ndarray
    items: np.ndarray
    values: np.ndarray
    used: np.ndarray
    floor: int


class KeptPairs:
    """Collects what is kept of one block; kernels fill ``buffers``, ``reserve`` comes before every kernel."""

    def __init__(self, thresholds: np.ndarray, floor: int, shift: np.ndarray) -> None:
        """``thresholds`` (C,), what a value must exceed; ``shift`` (C,), what is subtracted from raw scores; f32."""
        count = len(thresholds)
        thresholds, shift = np.ascontiguousarray(thresholds, np.float32), np.ascontiguousarray(shift, np.float32)
        slots = floor + min(max(floor, 16), MOST_ROOM) if floor else 0
        self.streams = bool((thresholds < np.inf).any())
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.buffers = PairBuffers(
            np.full(count, -np.inf, np.float32) if floor else raw_thresholds_of(thresholds, shift),
            shift, thresholds, np.zeros(count, np.int64), np.full(count, 0 if floor else _LAST, np.uint64),
            np.empty((count, slots), np.uint64), np.zeros(count, np.int64), *_stream(STREAM_SLOTS),
            np.zeros(1, np.int64), floor,
        )  # fmt: skip

    def reserve(self, pairs: int) -> PairBuffers:
        """Return the buffers with room for ``pairs`` more pairs in the stream."""
        buffers = self.buffers
        if self.streams and len(buffers.rows) - int(buffers.used[0]) < pairs:
            self._flush()
            if len(buffers.rows) < pairs:
                rows, items, values = _stream(pairs)
                self.buffers = buffers._replace(rows=rows, items=items, values=values)
        return self.buffers

    def _flush(self) -> None:
        used = int(self.buffers.used[0])
        self.parts.append(tuple(part[:used].copy() for part in self.buffers[7:10]))  # type: ignore[arg-type]
        self.buffers.used[0] = 0

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (rows i32, items i32, values f32): of each code those above its threshold and its ``floor`` best.

        In no particular order.
        """
        self._flush()
        buffers = self.buffers
        wanted = np.minimum(np.maximum(buffers.floor - buffers.above, 0), buffers.filled)
        parts = [*self.parts, drain(buffers, wanted, int(wanted.sum()))]
        rows, items, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        return rows, items, values


def _stream(slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(slots, np.int32), np.empty(slots, np.int32), np.empty(slots, np.float32)


@exact
def raw_thresholds_of(limits, shift):
    """Return ``raw_threshold`` (C,) f32 of each code."""
    thresholds = np.empty(limits.shape[0], np.float32)
    for code in range(thresholds.shape[0]):
        thresholds[code] = raw_threshold(limits[code], shift[code])
    return thresholds


@exact
def scan(scores, first_item, buffers):
    """Offer raw scores (I, C) of items ``first_item ..``."""
    for i in range(scores.shape[0]):
        scan_row(scores[i], buffers.raw_thresholds, np.float32(0.0), 0, first_item + i, buffers)


@exact
def scan_row(row, thresholds, known, first, item, buffers):
    """Offer ``known`` + row (X,) of codes ``first ..`` and one item; ``thresholds`` (X,): raw ones of theirs."""
    whole = row.shape[0] - row.shape[0] % STRIDE
    for low in range(0, whole, STRIDE):
        if any_above(row[low : low + STRIDE], thresholds[low : low + STRIDE], known):
            for c in range(low, low + STRIDE):
                if known + row[c] > thresholds[c]:
                    offer(known + row[c], first + c, item, buffers)
    for c in range(whole, row.shape[0]):
        if known + row[c] > thresholds[c]:
            offer(known + row[c], first + c, item, buffers)


@exact
def any_above(row, thresholds, known):
    """Return how many of STRIDE scores are above their thresholds; the fixed length makes it ten times faster."""
    hits = np.int32(0)
    for c in range(STRIDE):
        hits += np.int32(1) if known + row[c] > thresholds[c] else np.int32(0)
    return hits


@exact
def offer(score, code, item, buffers):
    """Take one pair in where it belongs."""
    value = score - buffers.shift[code]
    if value > buffers.thresholds[code]:
        spot = buffers.used[0]
        buffers.rows[spot], buffers.items[spot], buffers.values[spot] = code, item, value
        buffers.used[0] = spot + 1
        buffers.above[code] += 1
        if buffers.above[code] == buffers.floor:
            buffers.least[code] = _LAST
            buffers.raw_thresholds[code] = raw_threshold(buffers.thresholds[code], buffers.shift[code])
        return
    key = key_of(value, item)
    if key <= buffers.least[code]:
        return
    filled = buffers.filled[code]
    buffers.keys[code, filled] = key
    buffers.filled[code] = filled + 1
    if filled + 1 == buffers.keys.shape[1]:
        select_best(code, buffers)


@exact
def select_best(code, buffers):
    """Empty a full buffer down to what may be among the ``floor`` best, and raise the raw threshold accordingly."""
    wanted = buffers.floor - buffers.above[code]
    least = best_first(buffers.keys[code], buffers.filled[code], wanted)
    buffers.filled[code], buffers.least[code] = wanted, least
    # An equal value of a smaller item must still pass.
    limit = min(np.nextafter(value_of(least), np.float32(-np.inf)), buffers.thresholds[code])
    buffers.raw_thresholds[code] = raw_threshold(limit, buffers.shift[code])


@exact
def raw_threshold(limit, shift):
    """Return an f32 that every raw score s with s - shift > limit, in any rounding, is above."""
    threshold = np.float32(np.float64(limit) + np.float64(shift))
    return np.nextafter(threshold, np.float32(-np.inf))


@exact
def key_of(value, item):
    """Return a uint64 that orders pairs: greater for a greater value, of equal values for a smaller item."""
    bits = np.float32(np.float32(value) + np.float32(0.0)).view(np.uint32)  # -0 becomes 0
    bits = ~bits if bits & _SIGN else bits | _SIGN
    return (np.uint64(bits) << np.uint64(32)) | np.uint64(_ALL - np.uint32(item))


@exact
def value_of(key):
    """Return the value f32 of a key."""
    bits = np.uint32(key >> np.uint64(32))
    bits = bits & ~_SIGN if bits & _SIGN else ~bits
    return np.uint32(bits).view(np.float32)


@exact
def item_of(key):
    """Return the item i32 of a key."""
    return np.int32(_ALL - np.uint32(key & _LOW))


@exact
def best_first(keys, count, wanted):
    """Move the ``wanted`` >= 1 greatest of ``count`` distinct keys to the front; return the least of them."""
    low, high, spot = 0, count - 1, wanted - 1
    while low < high:
        middle = (low + high) >> 1
        a, b, c = keys[low], keys[middle], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if spot <= j:
            high = j
        elif spot >= i:
            low = i
        else:
            break
    return keys[spot]


@exact
def drain(buffers, wanted, total):
    """Return (rows, items, values) of the ``wanted`` (C,) best pairs of the buffers, ``total`` in all."""
    rows, items, values = np.empty(total, np.int32), np.empty(total, np.int32), np.empty(total, np.float32)
    used = 0
    for code in range(wanted.shape[0]):
        count, keys = wanted[code], buffers.keys[code]
        if count:
            best_first(keys, buffers.filled[code], count)
        for place in range(count):
            rows[used], items[used], values[used] = code, item_of(keys[place]), value_of(keys[place])
            used += 1
    return rows, items, values
