"""Posting lists of the ``item`` family: learned item -> item scores, counted transitions, or both merged.

The additive model (``model/additive.py``) scores an item c after a history by sum_j w(age_j) v_{x_j} . e_c, up to a
number per query. Its terms v_i . e_c are what the list of item i stores. A list keeps the L best and subtracts a share
of the best score left out, so that an absent item, which counts 0, does not gain on those just inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparcode.build.items.clustered import clustered_neighbours
from sparcode.build.items.transitions import Transitions, count_repeats
from sparcode.config import ItemFamilyConfig
from sparcode.types import Sequences

COMPARED_ITEMS = 50_000
"""Items up to which all pairs are compared; above, sources look into the clusters of targets that suit them best."""
MERGED_AT_ONCE = 1 << 22
"""Postings merged at a time."""
BLOCK_SCORES = 1 << 24
"""Item x item scores held at a time."""


class Neighbours(NamedTuple):
    """The best items of every source, best first, ties by the smaller id.

    ``items`` (n, K) int32, ``scores`` (n, K) float32; K is one more than the longest list made of them, if n allows.
    """

    items: np.ndarray
    scores: np.ndarray


def best_neighbours(
    sources: np.ndarray, targets: np.ndarray, temperature: float, longest: int, *, own: bool = False
) -> Neighbours:
    """Return the ``longest + 1`` best targets of every source (fewer when n is smaller), itself among them if ``own``.

    ``sources``, ``targets``: (n, d) float32; score = source . target / temperature. Above COMPARED_ITEMS nearly the
    best ones, see ``clustered``; places for which nothing was found score -inf.
    """
    count = len(sources)
    keep = min(longest + 1, count if own else max(count - 1, 0))
    if count > COMPARED_ITEMS:
        scaled = np.ascontiguousarray(targets / np.float32(temperature), np.float32)
        return Neighbours(*clustered_neighbours(np.asarray(sources), scaled, keep, own=own))
    items = np.empty((count, keep), np.int32)
    scores = np.empty((count, keep), np.float32)
    scaled = np.ascontiguousarray(targets / np.float32(temperature), np.float32)
    rows = max(1, BLOCK_SCORES // max(count, 1))
    for low in range(0, count, rows):
        block = sources[low : low + rows] @ scaled.T
        if not own:
            block[np.arange(len(block)), low + np.arange(len(block))] = -np.inf
        items[low : low + rows], scores[low : low + rows] = _best(block, keep)
    return Neighbours(items, scores)


def _best(block: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    if keep == 0:
        return np.empty((len(block), 0), np.int32), np.empty((len(block), 0), np.float32)
    found = np.argpartition(-block, keep - 1, axis=1)[:, :keep]
    # The partition takes any of the scores that tie at the border; such rows are sorted in full.
    least = np.take_along_axis(block, found, axis=1).min(axis=1, keepdims=True)
    for row in np.flatnonzero((block >= least).sum(axis=1) > keep):
        found[row] = np.argsort(-block[row], kind="stable")[:keep]
    # Ascending ids first, then a stable sort by score: ties inside the list fall to the smaller id.
    found = np.sort(found, axis=1)
    values = np.take_along_axis(block, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(found, order, 1).astype(np.int32), np.take_along_axis(values, order, 1)


def lists_of(neighbours: Neighbours, length: int, cut: float) -> Transitions:
    """Return lists of at most ``length`` items with value score - ``cut`` * (best score left out), if that is > 0.

    ``cut`` in 0..1. Where nothing is left out (a catalogue of ``length`` items or fewer) nothing is subtracted.
    """
    count, held = neighbours.scores.shape
    length = min(length, held)
    left_out = neighbours.scores[:, length] if held > length else np.zeros(count, np.float32)
    values = neighbours.scores[:, :length] - np.float32(cut) * np.maximum(left_out, 0.0)[:, None]
    return _rows(neighbours.items[:, :length], values)


def with_repeats(lists: Transitions, train: Sequences, config: ItemFamilyConfig) -> Transitions:
    """Return counted lists with their own item in them, where training sequences come back to it.

    Where items of the history are ranked too, an item can be brought back by its own list alone.
    """
    return merge_lists([(1.0, lists), (1.0, count_repeats(train, len(lists.indptr) - 1, config))])


def weigh_own(lists: Transitions, weight: float) -> Transitions:
    """Return the lists with the value of every list's own item times ``weight``; at 0 it is left out."""
    owners = np.repeat(np.arange(len(lists.indptr) - 1), np.diff(lists.indptr))
    return _weigh(lists, owners == lists.items, weight)


def weigh_items(lists: Transitions, chosen: np.ndarray, weight: float) -> Transitions:
    """Return the lists with the values of the ``chosen`` (n,) bool items times ``weight``."""
    return _weigh(lists, chosen[lists.items], weight)


def _weigh(lists: Transitions, chosen: np.ndarray, weight: float) -> Transitions:
    if weight == 1.0:
        return lists
    values = np.where(chosen, lists.values * np.float32(weight), lists.values)
    kept = values > 0
    indptr = np.concatenate([[0], np.cumsum(kept)])[lists.indptr].astype(np.int64)
    return Transitions(indptr, lists.items[kept], values[kept])


def rows_of(lists: Transitions, only: np.ndarray) -> Transitions:
    """Return the lists of the items ``only`` (ascending) alone."""
    lengths = np.diff(lists.indptr)[only]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(indptr[-1]) + np.repeat(lists.indptr[:-1][only] - indptr[:-1], lengths)
    return Transitions(indptr, lists.items[places], lists.values[places])


def spread(lists: Transitions, only: np.ndarray, item_count: int) -> Transitions:
    """Return lists that belong to the items ``only`` (ascending) as lists of all items, the others' empty."""
    lengths = np.zeros(item_count, np.int64)
    lengths[only] = np.diff(lists.indptr)
    return Transitions(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), lists.items, lists.values)


def _rows(items: np.ndarray, values: np.ndarray) -> Transitions:
    """Return padded rows as CSR, ids ascending, values <= 0 left out."""
    order = np.argsort(items, axis=1, kind="stable")
    items, values = np.take_along_axis(items, order, 1), np.take_along_axis(values, order, 1)
    kept = values > 0
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
    return Transitions(indptr, items[kept], values[kept].astype(np.float32))


def merge_lists(parts: Sequence[tuple[float, Transitions]], item_count: int | None = None) -> Transitions:
    """Return the weighted sum of several sets of lists; an item of several parts becomes one posting.

    ``item_count``: items the lists are over; absent: as many as there are lists. Parts of weight 0 are left out. Sums
    are float64 in the order of the parts, values float32 > 0.
    """
    parts = [(weight, part) for weight, part in parts if weight > 0]
    if not parts:
        raise ValueError("no list has a weight above 0")
    count = len(parts[0][1].indptr) - 1
    rows = max(1, MERGED_AT_ONCE * count // max(sum(len(part.items) for _, part in parts), 1))
    blocks = [
        _merged([(weight, _sliced(part, low, low + rows)) for weight, part in parts], item_count or count)
        for low in range(0, max(count, 1), rows)
    ]
    ends = np.concatenate([[0], *(block.indptr[1:] for block in blocks)]).astype(np.int64)
    offsets = np.cumsum([0, *(len(block.items) for block in blocks)])[:-1]
    ends[1:] += np.repeat(offsets, [len(block.indptr) - 1 for block in blocks])
    return Transitions(ends, *(np.concatenate([block[field] for block in blocks]) for field in (1, 2)))


def _sliced(part: Transitions, low: int, high: int) -> Transitions:
    bounds = part.indptr[low : high + 1]
    return Transitions(bounds - bounds[0], part.items[bounds[0] : bounds[-1]], part.values[bounds[0] : bounds[-1]])


def _merged(parts: Sequence[tuple[float, Transitions]], items: int) -> Transitions:
    """Merge a block of lists over ``items`` items."""
    count = len(parts[0][1].indptr) - 1
    owners = [np.repeat(np.arange(count, dtype=np.int64), np.diff(part.indptr)) for _, part in parts]
    cells = np.concatenate([owner * items + part.items for owner, (_, part) in zip(owners, parts, strict=True)])
    values = np.concatenate([weight * part.values.astype(np.float64) for weight, part in parts])
    unique, place = np.unique(cells, return_inverse=True)
    sums = np.bincount(place.reshape(-1), values, len(unique)).astype(np.float32)
    kept = sums > 0  # a subnormal product may round to zero
    unique, sums = unique[kept], sums[kept]
    indptr = np.searchsorted(unique, np.arange(count + 1, dtype=np.int64) * items).astype(np.int64)
    return Transitions(indptr, (unique % max(items, 1)).astype(np.int32), sums)
