"""Stored codes scored against all items in blocks, each block a shard in the work folder of a build.

A folder of shards is named after all that decides what is in them, so that a build that was stopped finds them again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sparcode.build.coverage import (
    Coverage,
    CoverBlock,
    coverage_of,
    read_cover,
    run_cover_block,
    unsettled,
    with_reserve,
)
from sparcode.build.runners import Runner
from sparcode.build.shards import Block, Candidates, read_shards, run_block
from sparcode.build.stored_codes import Stored
from sparcode.files import own_folder
from sparcode.index.arrays import Arrays, write_arrays
from sparcode.run import Run

Progress = Callable[[int, int], None]
"""Receives blocks done and blocks in all."""


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
