"""One block of the offline job: score some stored codes against all items, keep what may be stored, write a shard.

A shard is whole or absent (temporary name, rename) and lies in a folder named after everything its content depends
on, so a restarted job may take any shard it finds there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from sparcode.errors import CorruptIndexError
from sparcode.index.arrays import open_encoder_files, read_arrays, write_arrays
from sparcode.index.counts import CountScorer
from sparcode.index.likelihood import LikelihoodScorer
from sparcode.index.rescorer import Rescorer
from sparcode.index.scoring import CodeScorer, ListScorer

CHUNK_BYTES = 1 << 24


class Candidates(NamedTuple):
    """Scored pairs that may be stored, CSR over codes: ``indptr`` int64, ``items`` int32 ascending, ``values`` f32."""

    indptr: np.ndarray
    items: np.ndarray
    values: np.ndarray

    @property
    def codes(self) -> np.ndarray:
        """(P,) int64 row of every pair."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


@dataclass(frozen=True)
class Block:
    """Codes ``start:stop`` of ``<folder>/stored.safetensors``; small, so that it travels to other processes.

    Kept are pairs with a score above ``threshold`` and the best ``floor`` pairs of every code.
    """

    model: str
    folder: str
    start: int
    stop: int
    threshold: float
    floor: int

    @property
    def path(self) -> Path:
        """The shard file."""
        return Path(self.folder) / f"block-{self.start:09d}-{self.stop:09d}.safetensors"


def open_scorer(model: Path) -> ListScorer:
    """Open the scorer that makes the lists of a model folder: the trained one, or log-frequencies (``counts``)."""
    encoder, arrays = open_encoder_files(model, "encoder")
    rescorer = Rescorer.open(model)
    if rescorer.spec.get("lists", rescorer.kind) == "counts":
        return CountScorer.open(model, rescorer.item_count)
    scorer = CodeScorer(rescorer, arrays["codebooks"], str(encoder["quantizer"]["kind"]))
    return scorer if rescorer.spec.get("bias") is not None else LikelihoodScorer(scorer)


@lru_cache(maxsize=2)
def _cached_scorer(model: str, stamp: int) -> ListScorer:
    return open_scorer(Path(model))


def run_block(block: Block) -> int:
    """Score one block and write its shard, unless a readable one is there; returns the number of pairs in it."""
    try:
        return len(read_arrays(block.path, verify=True)["items"])
    except CorruptIndexError:
        pass  # absent, or damaged by a crash of the machine: made again
    stored = read_arrays(Path(block.folder) / "stored.safetensors")["codes"]
    # The stamp keeps a long-lived worker from using arrays of a model that was replaced meanwhile.
    stamp = (Path(block.model) / "rescorer.safetensors").stat().st_mtime_ns
    found = score_block(
        _cached_scorer(block.model, stamp), np.array(stored[block.start : block.stop]), block.threshold, block.floor
    )
    write_arrays(block.path, found._asdict())
    return len(found.items)


def read_shards(blocks: list[Block]) -> Candidates:
    """Join the shards of consecutive blocks."""
    parts = [read_arrays(block.path) for block in blocks]
    lengths = [np.diff(part["indptr"]) for part in parts]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]) if parts else np.zeros(1)
    return Candidates(
        indptr.astype(np.int64),
        np.concatenate([part["items"] for part in parts]) if parts else np.zeros(0, np.int32),
        np.concatenate([part["values"] for part in parts]) if parts else np.zeros(0, np.float32),
    )


def score_block(scorer: ListScorer, codes: np.ndarray, threshold: float, floor: int) -> Candidates:
    """Return the pairs of codes (C, M) and all items above ``threshold``, and the best ``floor`` of each code."""
    plan = scorer.plan(codes)
    count, floor = len(codes), min(floor, scorer.item_count)
    best_values = np.full((count, floor), -np.inf, np.float32)
    best_items = np.full((count, floor), -1, np.int32)
    parts = []
    chunk = max(1, CHUNK_BYTES // (4 * max(count, 1)))
    for start in range(0, scorer.item_count, chunk):
        scores = scorer.scores(plan, start, start + chunk)
        parts.append(above(scores, start, np.float32(threshold), int(count_above(scores, np.float32(threshold)))))
        if floor:
            keep_best(scores, start, best_values, best_items)
    rows, items, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    rest = (best_items >= 0) & ~(best_values > np.float32(threshold))
    rows = np.concatenate([rows, np.nonzero(rest)[0].astype(np.int32)])
    items, values = np.concatenate([items, best_items[rest]]), np.concatenate([values, best_values[rest]])
    order = grouped(items, scorer.item_count) if rest.any() else None
    order = grouped(rows, count) if order is None else order[grouped(rows[order], count)]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)
    return Candidates(indptr, items[order], values[order])


@njit(cache=True, nogil=True)
def grouped(keys: np.ndarray, size: int) -> np.ndarray:
    """Return the stable order (P,) int64 of keys 0..size-1: a counting sort, because P is large and keys are small."""
    starts = np.zeros(size + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    for place in range(size):
        starts[place + 1] += starts[place]
    order = np.empty(keys.shape[0], np.int64)
    for place in range(keys.shape[0]):
        order[starts[keys[place]]] = place
        starts[keys[place]] += 1
    return order


@njit(cache=True, nogil=True)
def count_above(scores, threshold):  # type: ignore[no-untyped-def]
    """Return how many scores (I, C) are above ``threshold``."""
    total = 0
    for i in range(scores.shape[0]):
        row = scores[i]
        for c in range(row.shape[0]):
            total += row[c] > threshold
    return total


@njit(cache=True, nogil=True)
def above(scores, first_item, threshold, total):  # type: ignore[no-untyped-def]
    """Return (rows, items, values) of the ``total`` scores (I, C) above ``threshold``, items in ascending order."""
    rows = np.empty(total, np.int32)
    items = np.empty(total, np.int32)
    values = np.empty(total, np.float32)
    used = 0
    for i in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            if scores[i, c] > threshold:
                rows[used] = c
                items[used] = first_item + i
                values[used] = scores[i, c]
                used += 1
    return rows, items, values


@njit(cache=True, nogil=True)
def keep_best(scores, first_item, best_values, best_items):  # type: ignore[no-untyped-def]
    """Insert scores (I, C) into each code's sorted best (C, m); of equal scores the smaller item stays first."""
    size = best_values.shape[1]
    for i in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            value = scores[i, c]
            if not value > best_values[c, size - 1]:
                continue
            spot = size - 1
            while spot > 0 and best_values[c, spot - 1] < value:
                best_values[c, spot] = best_values[c, spot - 1]
                best_items[c, spot] = best_items[c, spot - 1]
                spot -= 1
            best_values[c, spot] = value
            best_items[c, spot] = first_item + i
