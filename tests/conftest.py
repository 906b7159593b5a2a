"""Fixtures shared by all tests: few threads, and one small trained and indexed run in each worker."""

from __future__ import annotations

import os

# Before numpy, numba and torch are imported: two workers share the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

# The first example of a test compiles kernels.
hypothesis.settings.register_profile("kernels", deadline=None)
hypothesis.settings.load_profile("kernels")

TINY_SETTINGS = {
    "model.width": 16,
    "model.history": 12,
    "model.dropout": 0.0,
    "quantizer.codewords": 16,
    "quantizer.warmup": 0.5,
    "scorer.hidden": 8,
    "loss.negatives": 16,
    "train.epochs": 4,
    "train.threads": 1,
    "query.rescore": 20,
}
"""Differences from the defaults that make a run train in seconds."""


@dataclass(frozen=True)
class TinyRun:
    """A trained and indexed run over planted data, with ids that exist in it (as the command line takes them)."""

    folder: Path
    data: Path
    user: str
    item: str
    items: tuple[str, ...]


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with interactions, items and users of a planted world: groups of items that users walk through."""
    from sparcode.data.synthetic import planted_groups, write_world

    return write_world(planted_groups(users=120, items=60), tmp_path_factory.mktemp("planted") / "data")


@pytest.fixture(scope="session")
def tiny_run(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """One trained and indexed run, shared by all tests of a worker; tests that change files copy it first."""
    from sparcode.build.job import build_index
    from sparcode.config import Config, updated
    from sparcode.train.run import train_run

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train_run(str(planted), folder, updated(Config(), TINY_SETTINGS), progress=False)
    build_index(folder)
    return TinyRun(folder, planted, user="u000", item="101", items=("100", "104", "108"))
