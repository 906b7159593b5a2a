"""Training rows: windows of sequences in buckets of fixed length, so that shapes repeat and padding is small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparcode.seeding import generator
from sparcode.types import Sequences

GROUP_POSITIONS = 64
"""Positions that share one set of negatives: rows shorter than this are grouped, so work per step is alike."""


@dataclass(frozen=True)
class Batch:
    """R rows of one bucket length L; every valid position is a training query for its target.

    ``items``, ``targets``: (R, L) int64; ``valid``: (R, L) bool, padding on the right; ``users``: (R,) int64;
    ``first``: (R,) bool, the row starts its user's sequence; ``group_rows``: rows that share negatives;
    ``number``: running number of the batch in its epoch.
    """

    items: np.ndarray
    targets: np.ndarray
    valid: np.ndarray
    users: np.ndarray
    first: np.ndarray
    group_rows: int
    number: int


def bucket_lengths(history: int) -> list[int]:
    """Return row lengths 4, 8, 16, ... up to ``history``: a row is padded to less than twice its length."""
    lengths = [4]
    while lengths[-1] * 2 < history:
        lengths.append(lengths[-1] * 2)
    return sorted({min(length, history) for length in [*lengths, history]})


@dataclass(frozen=True)
class Windows:
    """Rows as slices of the event array: inputs ``start:start + length``, targets one further."""

    starts: np.ndarray
    lengths: np.ndarray
    users: np.ndarray
    first: np.ndarray


def cut_windows(sequences: Sequences, history: int, rng: np.random.Generator) -> Windows:
    """Cut every sequence into windows of at most ``history`` inputs; each event but the first is a target once.

    Boundaries of long sequences are shifted at random, so that over the epochs every event is predicted from
    contexts of many lengths.
    """
    events = np.diff(sequences.indptr)
    users = np.flatnonzero(events >= 2)
    inputs = events[users] - 1
    shift = np.where(inputs > history, rng.integers(0, history, len(users)), 0)
    pieces = 1 + np.maximum(0, -(-(inputs - shift) // history)) - (shift == 0)
    owner = np.repeat(np.arange(len(users)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = np.where(shift[owner] > 0, np.maximum(0, shift[owner] + (piece - 1) * history), piece * history)
    end = np.minimum(inputs[owner], np.where(shift[owner] > 0, shift[owner] + piece * history, begin + history))
    keep = end > begin
    owner, begin, end = owner[keep], begin[keep], end[keep]
    return Windows(sequences.indptr[users[owner]] + begin, end - begin, users[owner], begin == 0)


def epoch_batches(sequences: Sequences, history: int, batch_positions: int, seed: int, epoch: int) -> Iterator[Batch]:
    """Yield the batches of one epoch in a seeded order; the same (seed, epoch) gives the same batches."""
    rng = generator(seed, "batches", epoch)
    windows = cut_windows(sequences, history, rng)
    lengths = bucket_lengths(history)
    bucket = np.searchsorted(lengths, windows.lengths)
    plan: list[tuple[int, np.ndarray]] = []
    for number, length in enumerate(lengths):
        rows = rng.permutation(np.flatnonzero(bucket == number))
        group_rows = max(1, GROUP_POSITIONS // length)
        count = group_rows * max(1, batch_positions // (length * group_rows))
        plan += [(length, rows[low : low + count]) for low in range(0, len(rows), count)]
    for number, index in enumerate(rng.permutation(len(plan))):
        length, rows = plan[index]
        yield _fill(sequences.items, windows, rows, length, number)


def _fill(items: np.ndarray, windows: Windows, rows: np.ndarray, length: int, number: int) -> Batch:
    group_rows = max(1, GROUP_POSITIONS // length)
    total = -(-len(rows) // group_rows) * group_rows  # short batches are padded to whole groups
    place = np.arange(length)
    starts = np.zeros(total, np.int64)
    sizes = np.zeros(total, np.int64)
    starts[: len(rows)], sizes[: len(rows)] = windows.starts[rows], windows.lengths[rows]
    valid = place < sizes[:, None]
    index = np.where(valid, starts[:, None] + place, 0)
    padded = np.zeros(total, np.int64)
    padded[: len(rows)] = windows.users[rows]
    first = np.zeros(total, bool)
    first[: len(rows)] = windows.first[rows]
    following = np.minimum(index + 1, len(items) - 1)
    inputs = np.where(valid, items[index], 0).astype(np.int64)
    targets = np.where(valid, items[following], 0).astype(np.int64)
    return Batch(inputs, targets, valid, padded, first, group_rows, number)
