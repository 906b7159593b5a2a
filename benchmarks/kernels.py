"""How fast are the query kernels? Synthetic posting lists, single queries and batches, old and new side by side.

Lists: lengths lognormal around L, half of the draws by a Zipf-like popularity, half from the topic of the list, impacts
from the positive part of N(-0.5, 1). Two shapes of query: ``codes`` reads 8 lists of about 256 postings, half of them
of one topic; ``items`` reads the lists of up to 50 items, about 12 postings each and weighted by age, and 4 lists of
about 64: some 640 postings. ``one`` reads one list of about 256.

A variant is a whole ``Searcher``; ``--against FOLDER`` adds the one of another checkout (``FOLDER/sparcode/index``).
Variants take turns on each query, in one process on one thread; all must give the same answers. Times: whole calls of
``search_one`` from Python, and the time inside the kernel: a compiled loop over single queries of ``search_query``.

    python benchmarks/kernels.py [--items 10000,100000,1000000] [-k 10,100] [--queries 500] [--rounds 5]
                                 [--against FOLDER] [--out FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from shared import ROOT, Results, Row, notes, table

from sparcode.eval.latency import collector_off
from sparcode.eval.machine import one_thread
from sparcode.index import searcher as own_searcher
from sparcode.index.layout import Family, Index, make_index, pack
from sparcode.seeding import generator

CODES = {10_000: 4_096, 100_000: 16_384, 1_000_000: 65_536}
"""Items -> lists of 256 postings; other sizes get the nearest of these."""
SHAPES = ("codes", "items", "one")
ITEMS_PER_TOPIC = 1250
HEADER = ["items", "shape", "postings", "k", "variant", "call p50 us", "call p95 us", "kernel us", "batch queries/s",
          "with 2 threads"]  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """B queries as CSR: ``rows``, ``weights`` int32 by ``indptr`` (B + 1,) int64."""

    rows: np.ndarray
    weights: np.ndarray
    indptr: np.ndarray

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def one(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and weights of one query, arrays of their own."""
        part = slice(self.indptr[query], self.indptr[query + 1])
        return self.rows[part].copy(), self.weights[part].copy()


def world(shape: str, items: int, random: np.random.Generator) -> tuple[Index, np.ndarray]:
    """Return the index of a shape and the topic of each of its C code lists."""
    codes = CODES[min(CODES, key=lambda size: abs(size - items))]
    length = 64 if shape == "items" else 256
    lengths = _lengths(length, codes, items, random)
    if shape == "items":
        lengths = np.concatenate([lengths, _lengths(12, items, items, random)])
    topics = random.integers(0, max(items // ITEMS_PER_TOPIC, 1), len(lengths))
    keys = _postings(lengths, topics, items, random)
    indptr = np.searchsorted(keys >> np.int64(24), np.arange(len(lengths) + 1))
    values = _impacts(len(keys), random)
    families = [Family("codes", 0, codes), Family("item", codes, len(lengths) - codes)]
    return make_index(indptr, pack(keys & 0xFFFFFF, values), items, 0.5, families), topics[:codes]


def _lengths(mean: int, count: int, items: int, random: np.random.Generator) -> np.ndarray:
    drawn = random.lognormal(np.log(1.1 * mean) - 0.125, 0.5, count)
    return np.clip(drawn.astype(np.int64), 1, max(items // 4, 1))


def _postings(lengths: np.ndarray, topics: np.ndarray, items: int, random: np.random.Generator) -> np.ndarray:
    """Return sorted distinct ``row << 24 | item``; collisions leave lists a little shorter."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    # Density 1 / (50 + rank): a popular half without one item that is in every list.
    popular = (50 * (1 + items / 50) ** random.random(len(rows))).astype(np.int64) - 50
    pool, size = random.permutation(items), min(ITEMS_PER_TOPIC, items)
    topical = pool[topics[rows] * size + random.integers(0, size, len(rows))]
    keys = (rows << 24) | np.where(random.random(len(rows)) < 0.5, popular, topical)
    keys.sort()
    return keys[np.append(True, keys[1:] != keys[:-1])]


def _impacts(count: int, random: np.random.Generator) -> np.ndarray:
    """Return impacts 1..255: |N(-0.5, 1)| given that it is positive, at a scale that puts 3.5 at 255."""
    drawn = random.standard_normal(4 * count + 64) - 0.5
    positive = drawn[drawn > 0][:count]
    return np.clip(np.rint(positive * (255 / 3.5)), 1, 255).astype(np.int64)


def queries_of(shape: str, index: Index, topics: np.ndarray, count: int, random: np.random.Generator) -> Asked:
    """Return random queries of one shape."""
    parts = []
    for _ in range(count):
        topic = random.choice(topics)
        near = np.flatnonzero(topics == topic)
        lists = {"codes": 8, "items": 4, "one": 1}[shape]
        rows = np.concatenate(
            [random.choice(near, (lists + 1) // 2), random.integers(0, len(topics), lists // 2)]
        )
        weights = np.ones(lists, np.int64) * (4 if shape == "items" else 1)
        if shape == "items":
            events = int(np.clip(random.lognormal(np.log(28), 0.6), 5, 50))
            rows = np.concatenate([rows, len(topics) + random.integers(0, index.item_count, events)])
            weights = np.concatenate([weights, np.maximum(12 - np.arange(events) // 3, 1)])
        parts.append((rows, weights))
    indptr = np.cumsum([0, *(len(rows) for rows, _ in parts)]).astype(np.int64)
    flat = (np.concatenate(column).astype(np.int32) for column in zip(*parts, strict=True))
    return Asked(*flat, indptr)
