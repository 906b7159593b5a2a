"""What is measured at one size: the world, the model, the codes, the engines; and the folder that keeps its cells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sparcode.scale.full_run import Codes

LARGE = 300_000
"""Items from which on engines that need hours to build, or fail, are left out."""

_DENSE = (
    "faiss-hnsw", "faiss-hnsw-sq8", "hnswlib", "usearch-f32", "usearch-f16", "faiss-ivf-flat", "faiss-ivf-pq", "scann",
    "faiss-flat",
)  # fmt: skip
_DENSE_LARGE = ("hnswlib", "faiss-ivf-flat", "faiss-ivf-pq", "faiss-flat")
_SPARSE = ("bm25s-numba", "bm25s-kernel", "scipy-csr", "numpy-dense", "numpy-touched")
_SMALL = 20_000


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
    dense: tuple[str, ...] = field(default=_DENSE)
    sparse: tuple[str, ...] = field(default=_SPARSE)

    @classmethod
    def of(cls, items: int, *, interaction: float = 0.5, seed: int = 0) -> Plan:
        """Return the plan of a size: N^2 codes of 256 postings, 4,096 at 10 thousand items to 65,536 at a million."""
        codewords = 64 if items <= 30_000 else 128 if items <= LARGE else 256
        sparse = (*_SPARSE, "seismic") if items <= _SMALL else _SPARSE
        return cls(
            items, min(max(items, 8_000), 40_000), min(max(items // 2, 1_000), 5_000), Codes(codewords=codewords),
            interaction, seed, dense=_DENSE if items < LARGE else _DENSE_LARGE, sparse=sparse,
        )  # fmt: skip

    def folder(self, out: Path) -> Path:
        """Return the folder of the world, its runs and its cells; engines to compare do not change it."""
        own = {
            name: value for name, value in asdict(self).items() if name not in ("dense", "sparse", "timed", "evaluated")
        }
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]
        return Path(out) / "work" / f"{self.items}-{digest}"
