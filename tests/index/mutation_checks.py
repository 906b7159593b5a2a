"""What must hold when a mutated index is opened, and the bench that tries cases one after another in one folder.

A case ends in one of three ways: *refused* by a CorruptIndexError of one line that names a file of the index, accepted
with the *same* answers as the golden index, or accepted as *another* index. Anything else raises Failure: another
exception, an index that breaks a rule although it was verified, damage that was accepted although digests tell it,
answers that differ from a slow reference, ids outside 0..n-1, or a write outside the scratch of the kernels.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import CorruptIndexError
from sparcode.index.layout import Index
from sparcode.index.store import format as store_format
from sparcode.index.store import open_index
from sparcode.index.store import receipts as store_receipts
from sparcode.query.search.base import BUCKETS
from sparcode.query.search.searcher import Scratch, Searcher
from tests.index.golden_index import QUERIES
from tests.index.mutations import Case, Change, Changes, Place, golden_files
from tests.query import reference

NAMED = re.compile(r"(CURRENT|manifests(/\S+\.json)?|segs(/s[0-9a-f]{16}(/\w+\.bin)?)?) is damaged: ")
LONGEST_MESSAGE = 1000
GUARD = 64
CANARY = 0xA5A5
LONGEST_CHECKED = 5000
"""Indexes of more items than this are not compared with the slow reference."""


class Failure(AssertionError):
    """A case broke a promise."""


class Bench:
    """A folder that holds the golden index, in which cases are set up, opened and undone.

    ``past_header``: whether the manifest of the last case was parsed and found good.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.past_header = False
        self._dirty: Changes = {}
        self._parse = store_format.parse_manifest
        self._settled = store_receipts.SETTLED_NS

    def __enter__(self) -> Bench:
        for path, content in golden_files().items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)
        index, _ = open_index(self.folder, verify="full")
        self.golden = Opened(index)
        self.golden.check()
        store_format.parse_manifest = self._parsed
        # No receipt is ever kept: "auto" verifies as "full" does.
        store_receipts.SETTLED_NS = 1 << 62
        return self

    def __exit__(self, *_: object) -> None:
        store_format.parse_manifest = self._parse
        store_receipts.SETTLED_NS = self._settled

    def _parsed(self, content: bytes, generation: int) -> dict[str, Any]:
        manifest = self._parse(content, generation)
        self.past_header = True
        return manifest

    def run(self, case: Case) -> str:
        """Set up a case and open it; returns ``refused``, ``same`` or ``another``, raises Failure."""
        self._set_up(case.changes)
        self.past_header = False
        try:
            index, _ = open_index(self.folder, verify=case.verify)
        except CorruptIndexError as problem:
            self._check_refusal(str(problem))
            return "refused"
        opened = Opened(index)
        if case.verify != "none":
            opened.check()
        same = opened.content == self.golden.content
        if not case.signed and not same and case.verify != "none":
            raise Failure("the content differs from what the digests say, and it was accepted")
        return "same" if same and opened.answers == self.golden.answers else "another"

    def _check_refusal(self, message: str) -> None:
        start = f"{self.folder}/"
        named = message.startswith(start) and NAMED.match(message[len(start) :])
        if not named or "sparcode build-index" not in message:
            raise Failure(f"a refusal without file or remedy: {message!r}")
        if len(message) > LONGEST_MESSAGE or not message.isprintable():
            raise Failure(f"a refusal that is no short line: {message!r}")

    def _set_up(self, changes: Changes) -> None:
        for path, change in self._dirty.items():
            if path not in changes or Place in (type(change), type(changes[path])):
                self._undo(path, change)
        for path, change in changes.items():
            self._apply(path, change)
        self._dirty = changes

    def _apply(self, path: str, change: Change) -> None:
        place = f"{self.folder}/{path}"
        if isinstance(change, bytes):
            return _write(place, change)
        aside = place + ".aside"
        os.rename(place, aside)
        if change is Place.FILE:
            _write(place, b"")
        elif change is Place.FOLDER:
            os.mkdir(place)
        elif change is Place.PIPE:
            os.mkfifo(place)
        elif change in (Place.LINK, Place.LOOP):
            os.symlink(aside if change is Place.LINK else place, place)
        return None

    def _undo(self, path: str, change: Change) -> None:
        place = f"{self.folder}/{path}"
        if isinstance(change, bytes):
            if path in golden_files():
                return _write(place, golden_files()[path])
            return os.unlink(place)
        if change is Place.FOLDER:
            os.rmdir(place)
        elif change is not Place.GONE:
            os.unlink(place)
        return os.rename(place + ".aside", place)


def _write(place: str, content: bytes) -> None:
    # Not O_TRUNC: ext4 writes a file that was cut to nothing to the disk when it is closed.
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, content)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


class GuardedScratch(Scratch):
    """Scratch whose buffers lie between canaries."""

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self.guards: list[np.ndarray] = []
        # Lazily zeroed, as the buffers they stand for: an index of 2^24 items costs nothing here.
        self.narrow, self.wide = (self._guarded(np.zeros, part) for part in (self.narrow, self.wide))
        self.work = self._guarded(np.empty, self.work)
        self.work[:BUCKETS] = 0

    def _guarded(self, make: Any, part: np.ndarray) -> np.ndarray:
        whole = make(len(part) + 2 * GUARD, part.dtype)
        for guard in (whole[:GUARD], whole[-GUARD:]):
            guard[:] = CANARY
            self.guards.append(guard)
        return whole[GUARD:-GUARD]

    def check(self) -> None:
        """Raise Failure unless the canaries live and the buffers are clean for the next query."""
        if any((guard != CANARY).any() for guard in self.guards):
            raise Failure("a kernel wrote outside its buffers")
        if len(self.narrow) < LONGEST_CHECKED and (self.narrow.any() or self.wide.any()):
            raise Failure("a query left sums behind")
        if self.work[:BUCKETS].any():
            raise Failure("a query left counts behind")


class Opened:
    """An opened index and what it answers to the golden queries, as far as it has their rows.

    Making one already checks what holds without verification: sound ids and sums, nothing written outside buffers.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        arrays = {name: array.tobytes() for name, array in index.arrays().items()}
        self.content = (arrays, index.code_table.shape, index.item_count, index.scale, index.families)
        self.searcher = Searcher(index)
        self.scratch = GuardedScratch(index)
        self.searcher._local.scratch = self.scratch
        self.queries = [_query(rows, weights, k, index.row_count) for rows, weights, k in QUERIES]
        self.answers = [self._answer(*query) for query in self.queries]

    def _answer(self, rows: list[int], weights: list[int], k: int) -> list[tuple[int, int]]:
        given = np.array(rows, np.int32), np.array(weights, np.int32)
        ids, sums = self.searcher.search_one(*given, k)
        exact = self.searcher.sums_of(*given, ids)
        self.scratch.check()
        answer = list(zip(ids.tolist(), sums.tolist(), strict=True))
        if len(set(ids.tolist())) != len(answer) or not all(0 <= item < self.index.item_count for item, _ in answer):
            raise Failure(f"ids outside 0..{self.index.item_count - 1}, or one twice: {answer}")
        bound = 255 * sum(weights)
        if not all(0 < total <= bound for _, total in answer) or len(exact) != len(answer):
            raise Failure(f"sums outside 1..{bound}: {answer}")
        return answer

    def check(self) -> None:
        """Raise Failure unless the index keeps every rule and answers as the slow reference does."""
        check_rules(self.index)
        if self.index.item_count > LONGEST_CHECKED:
            return
        offsets, postings = self.index.indptr.tolist(), self.index.postings.tolist()
        needed = {row for rows, _, _ in self.queries for row in rows}
        lists = {row: {p >> 8: p & 255 for p in postings[offsets[row] : offsets[row + 1]]} for row in needed}
        for (rows, weights, k), answer in zip(self.queries, self.answers, strict=True):
            expected = reference.search(lists, rows, weights, k)
            if answer != expected:
                raise Failure(f"query {rows} answers {answer}, expected {expected}")


def _query(rows: list[int], weights: list[int], k: int, row_count: int) -> tuple[list[int], list[int], int]:
    known = [(row, weight) for row, weight in zip(rows, weights, strict=True) if row < row_count]
    return [row for row, _ in known], [weight for _, weight in known], k


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise Failure(f"accepted, but {rule}")


def check_rules(index: Index) -> None:
    """The rules of docs/index-format.md in the plainest form; Failure names the first one broken."""
    items, offsets, postings = index.item_count, index.indptr.tolist(), index.postings.tolist()
    _require(0 <= items < 1 << 24, f"it has {items} items")
    _require(math.isfinite(index.scale) and index.scale > 0, f"its scale is {index.scale}")
    _require(offsets[0] == 0 and offsets[-1] == len(postings) and offsets == sorted(offsets), "offsets are wrong")
    for start, stop in zip(offsets, offsets[1:], strict=False):
        ids = [posting >> 8 for posting in postings[start:stop]]
        _require(all(one < other for one, other in zip(ids, ids[1:], strict=False)), "a list does not ascend")
        _require(not ids or ids[-1] < items, "a posting names an item past n")
    _require(all(posting & 255 for posting in postings), "an impact is 0")
    _check_families(index)
    _check_tables(index)
    for score in [] if index.scores is None else index.scores.tolist():
        _require(math.isfinite(score) and score > 0, f"a score is {score}")


def _check_families(index: Index) -> None:
    rows = [row for family in index.families for row in range(family.first_row, family.first_row + family.rows)]
    _require(rows == list(range(index.row_count)), "the families do not cover the rows one after another")
    _require(len({family.name for family in index.families}) == len(index.families), "a family's name stands twice")
    sound = all(math.isfinite(family.multiplier) and family.multiplier > 0 for family in index.families)
    _require(sound, "a multiplier is not > 0")


def _check_tables(index: Index) -> None:
    learned = sum(family.rows for family in index.families if family.name == "learned")
    _require(len(index.code_table) in (0, learned) and index.code_table.shape[1] <= 64, "the code table does not fit")
    if index.code_rows is not None:
        rows = index.code_rows.tolist()
        _require(bool(rows) and min(rows) >= 0 and max(rows) < learned, "the fallback table names a wrong row")
