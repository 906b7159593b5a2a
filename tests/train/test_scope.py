"""Training gives the same bytes again, and leaves the caller's torch and numpy as they were."""

from __future__ import annotations

import contextlib
import hashlib
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparcode.config import Config, updated
from sparcode.data.synthetic import planted_groups
from sparcode.train.item_autoencoder import train_item_autoencoder
from sparcode.train.run import TrainingJob, train_run
from sparcode.train.scope import training_scope
from tests.conftest import TINY_SETTINGS

CPU = torch.device("cpu")
SHORT = TINY_SETTINGS | {"train.epochs": 2, "additive.epochs": 2, "additive.width": 16, "train.threads": 2}
KINDS: list[dict[str, Any]] = [
    {},
    {"model.tokenizer": "gru4rec", "scorer.kind": "hadamard", "train.fine_tune_epochs": 1},
    {"model.tokenizer": "capsule", "model.heads": 2, "loss.kind": "in-batch", "scorer.kind": "mixture"},
    {"model.tokenizer": "self-attentive", "model.heads": 2, "loss.kind": "bpr", "quantizer.kind": "residual",
     "quantizer.books": 2, "train.warm_start": False},
    {"model.tokenizer": "dnn", "loss.kind": "full", "scorer.kind": "concatenation", "model.item_tokens": 2},
]  # fmt: skip


def digest(folder: Path) -> str:
    files = sorted((folder / "model").glob("*.safetensors"))
    assert files
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.get("model.tokenizer", "sasrec")))
def test_two_threads_give_the_same_bytes_again(kind: dict[str, Any], tmp_path: Path) -> None:
    found = set()
    for turn in range(2):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*deterministic")  # every operation has such a form on a CPU
            train_run(
                planted_groups(users=60, items=40, events=8), tmp_path / str(turn), updated(Config(), SHORT | kind),
                progress=False,
            )  # fmt: skip
        found.add(digest(tmp_path / str(turn)))
    assert len(found) == 1


def test_training_is_deterministic_inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[bool, int]] = []
    inner = TrainingJob._fit

    def spy(self: TrainingJob, *arguments: Any) -> Any:
        asked.append((torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()))
        return inner(self, *arguments)

    monkeypatch.setattr(TrainingJob, "_fit", spy)
    config = updated(Config(), SHORT | {"families.item.enabled": False})
    train_run(planted_groups(users=40, items=30, events=6), tmp_path / "run", config, progress=False)
    assert asked == [(True, 2), (True, 2)]


def state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "lenient": torch.is_deterministic_algorithms_warn_only_enabled(),
        "filling": torch.utils.deterministic.fill_uninitialized_memory,
        "gradients": torch.is_grad_enabled(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],  # noqa: NPY002 (the generator that must not be used)
        "python": random.getstate(),
        "warnings": list(warnings.filters),
    }


def test_the_callers_state_survives(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        torch.manual_seed(7)
        before = state()
        with torch.no_grad():
            train_run(
                planted_groups(users=40, items=30, events=6), tmp_path / "run", updated(Config(), SHORT), progress=False
            )
            vectors = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
            train_item_autoencoder("rq-vae", vectors, {"codebooks": 2, "codebook_size": 4, "epochs": 2}, seed=0)
        assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)


def test_a_failed_training_restores_too() -> None:
    before = state()
    with contextlib.suppress(KeyError), training_scope(CPU, 2):
        torch.manual_seed(1)
        raise KeyError
    assert state() == before


def test_a_strict_caller_stays_strict() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with training_scope(CPU):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_semantic_ids_are_the_same_again() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    options = {"codebooks": 2, "codebook_size": 8, "epochs": 3}
    found = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(len(found))  # the caller's seed plays no part
            found.append(train_item_autoencoder("rq-vae", vectors, options, seed=0).arrays)
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
