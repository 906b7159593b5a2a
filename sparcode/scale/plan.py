"""What is measured at one size: the world, the model, the codes, the engines; and the folder that keeps its cells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sparcode.scale.full_run import Codes
from sparcode.scale.peers.registry import dense_peers, measured_at, sparse_peers

OURS = "sparcode"
"""Our engine among the sparse ones; it is timed on both query shapes under names of its own."""


@dataclass(frozen=True)
class Plan:
    """One size; equal plans share their folders. ``sample``: users the model is trained on."""

    items: int
    users: int
    sample: int
    codes: Codes
    interaction: float = 0.5
    seed: int = 0
    epochs: int = 8
    timed: int = 300
    evaluated: int = 2000
    dense: tuple[str, ...] = ()
    sparse: tuple[str, ...] = ()

    @classmethod
    def of(cls, items: int, *, interaction: float = 0.5, seed: int = 0) -> Plan:
        """Return the plan of a size: N^2 codes of 256 postings, 4,096 at 10 thousand items to 65,536 at a million."""
        codewords = 64 if items <= 30_000 else 128 if items <= 300_000 else 256
        return cls(
            items, min(max(items, 8_000), 40_000), min(max(items // 2, 1_000), 5_000), Codes(codewords=codewords),
            interaction, seed, dense=tuple(measured_at(dense_peers(), items)),
            sparse=tuple(name for name in measured_at(sparse_peers(), items) if name != OURS),
        )  # fmt: skip

    def folder(self, out: Path) -> Path:
        """Return the folder of the world, its runs and its cells; engines to compare do not change it."""
        own = {
            name: value for name, value in asdict(self).items() if name not in ("dense", "sparse", "timed", "evaluated")
        }
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]
        return Path(out) / "work" / f"{self.items}-{digest}"
