"""Stored codes scored against all items in blocks, each a shard in the work folder of a build.

A shard is whole or absent (temporary name, rename) and lies in a folder named after everything its content depends
on, so that a build that was stopped takes the shards it finds there. Blocks of two kinds are scored: those whose lists
are made, and those that find the best codes of items that lists may leave over (``coverage``).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sparcode.build.coverage import Coverage, best_codes, coverage_of, unsettled, with_reserve
from sparcode.build.runners import Runner
from sparcode.build.score.candidates import Candidates, score_block
from sparcode.build.score.counts import CountScorer
from sparcode.build.score.likelihood import LikelihoodScorer
from sparcode.build.score.scoring import CodeScorer, ListScorer
from sparcode.build.stored_codes import Stored
from sparcode.errors import CorruptIndexError
from sparcode.files import own_folder
from sparcode.index.arrays import Arrays, open_encoder_files, read_arrays, write_arrays
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.run import Run

Progress = Callable[[int, int], None]
"""Receives blocks done and blocks in all."""


@dataclass(frozen=True)
class Block:
    """Codes ``start:stop`` of ``<folder>/stored.safetensors``; small, so that it travels to other processes.

    Kept are pairs with a score above the code's threshold, which stands in the same file, and the best ``floor`` pairs
    of every code.
    """

    model: str
    folder: str
    start: int
    stop: int
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


def cached_scorer(model: Path) -> ListScorer:
    """Open the scorer of a model folder, once for all blocks of a process."""
    # The stamp keeps a long-lived worker from using arrays of a model that was replaced meanwhile.
    return _cached_scorer(str(model), (model / "rescorer.safetensors").stat().st_mtime_ns)


def run_block(block: Block) -> int:
    """Score one block and write its shard, unless a readable one is there; returns the number of pairs in it."""
    found = _pairs_in(block.path)
    if found is not None:
        return found
    stored = read_arrays(Path(block.folder) / "stored.safetensors")
    codes, thresholds = (np.array(stored[name][block.start : block.stop]) for name in ("codes", "thresholds"))
    made = score_block(cached_scorer(Path(block.model)), codes, thresholds, block.floor)
    write_arrays(block.path, made._asdict())
    return len(made.items)


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


@dataclass(frozen=True)
class CoverBlock:
    """Codes ``start:stop`` of ``<folder>/cover.safetensors``, which also says what items need."""

    model: str
    folder: str
    start: int
    stop: int

    @property
    def path(self) -> Path:
        """The shard file."""
        return Path(self.folder) / f"cover-{self.start:09d}-{self.stop:09d}.safetensors"


def run_cover_block(block: CoverBlock) -> int:
    """Find the best codes of items within one block and write its shard, unless a readable one is there."""
    found = _pairs_in(block.path)
    if found is not None:
        return found
    given = read_arrays(Path(block.folder) / "cover.safetensors")
    scorer = cached_scorer(Path(block.model))
    made = best_codes(scorer, np.array(given["codes"][block.start : block.stop]), np.array(given["needs"]))
    write_arrays(block.path, made | {"codes": made["codes"] + np.int32(block.start)})
    return len(made["items"])


def read_cover(blocks: list[CoverBlock], needs: np.ndarray) -> Arrays:
    """Return the best pairs of every item over the shards of all blocks, as ``best_codes`` does."""
    parts = [read_arrays(block.path) for block in blocks]
    codes, items, values = (np.concatenate([part[name] for part in parts]) for name in ("codes", "items", "values"))
    chosen = coverage_of(items, needs).first(values.astype(np.float64), np.ones(len(items), bool))
    return {"codes": codes[chosen], "items": items[chosen], "values": values[chosen]}


def _pairs_in(shard: Path) -> int | None:
    """Return how many pairs a shard holds, None where it is absent, or damaged by a crash of the machine."""
    try:
        return len(read_arrays(shard, verify=True)["items"])
    except CorruptIndexError:
        return None


class BlockScoring:
    """Candidates of stored codes, scored by a runner; ``seconds`` adds up what that took."""

    def __init__(self, run: Run, work: Path, runner: Runner, block_codes: int, report: Progress) -> None:
        self.model, self.model_hash = run.model_folder, run.model_hash
        self.work, self.runner, self.block_codes, self.report = work, runner, block_codes, report
        self.seconds = 0.0

    def candidates(self, stored: Stored, threshold: float | np.ndarray, floor: int) -> Candidates:
        """Return the pairs above ``threshold``, one or (C,) for each code, and the best ``floor`` of every code."""
        began = time.perf_counter()
        thresholds = np.array(np.broadcast_to(np.asarray(threshold, np.float32), len(stored.codes)))
        identity = [self.model_hash, floor, self.block_codes, len(stored.codes)]
        content = json.dumps(identity).encode() + stored.codes.tobytes() + thresholds.tobytes()
        folder = self._folder(content, "stored", {"codes": stored.codes, "thresholds": thresholds})
        blocks = [
            Block(str(self.model), str(folder), start, stop, floor) for start, stop in self._ranges(len(stored.codes))
        ]
        self.report(0, len(blocks))
        for done, _ in enumerate(self.runner.map_blocks(run_block, blocks), start=1):
            self.report(done, len(blocks))
        self.seconds += time.perf_counter() - began
        return read_shards(blocks)

    def covered(
        self, stored: Stored, candidates: Candidates, needs: np.ndarray, threshold: float
    ) -> tuple[Candidates, Coverage]:
        """Add the best pairs of items that may be left over; all pairs above ``threshold`` are candidates.

        ``needs`` (n,): in how many learned lists each item is to be.
        """
        began, open_needs = time.perf_counter(), unsettled(candidates, needs, threshold)
        content = json.dumps([self.model_hash, self.block_codes]).encode()
        content += stored.codes.tobytes() + open_needs.tobytes()
        folder = self._folder(content, "cover", {"codes": stored.codes, "needs": open_needs})
        blocks = [
            CoverBlock(str(self.model), str(folder), start, stop) for start, stop in self._ranges(len(stored.codes))
        ]
        for _ in self.runner.map_blocks(run_cover_block, blocks):
            pass
        together, reserve = with_reserve(candidates, read_cover(blocks, open_needs))
        self.seconds += time.perf_counter() - began
        return together, coverage_of(together.items, needs, reserve)

    def _folder(self, content: bytes, name: str, given: Arrays) -> Path:
        """Return the folder of the shards that ``content`` decides, with what blocks read in it."""
        folder = own_folder(self.work / hashlib.sha256(content).hexdigest()[:16])
        write_arrays(folder / f"{name}.safetensors", given)
        return folder

    def _ranges(self, count: int) -> list[tuple[int, int]]:
        return [(start, min(start + self.block_codes, count)) for start in range(0, count, self.block_codes)]
