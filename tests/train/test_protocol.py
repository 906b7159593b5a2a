"""Nothing of a run may depend on what is held out for the test, nor its weights on what is held out for validation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode.build.job import build_index
from sparcode.config import Config, updated
from sparcode.data.synthetic import planted_groups
from sparcode.data.tables import Tables
from sparcode.train.run import train_run
from tests.conftest import TINY_SETTINGS

SETTINGS = {**TINY_SETTINGS, "train.epochs": 2, "additive.epochs": 2}
TEST, VALIDATION = 1, 2


def shuffled(world: Tables, place: int) -> Tables:
    """Return a world in which the ``place``-th event from the end has changed hands: no user keeps its item."""
    events = world.interactions
    users = np.array(events["user_id"].to_pylist())
    items = events["item_id"].to_numpy().copy()
    ends = np.append(np.flatnonzero(users[1:] != users[:-1]), len(users) - 1) + 1
    held = ends - place
    items[held] = np.roll(items[held], 1)
    assert (items != events["item_id"].to_numpy()).any()
    return Tables(events.set_column(1, "item_id", pa.array(items)), world.items, world.users, world.source)


def trained(world: Tables, folder: Path) -> dict[str, str]:
    """Train and build; return the digest of every file that answers depend on, and what training reported."""
    train_run(world, folder, updated(Config(), SETTINGS), progress=False)
    build_index(folder)
    files = [*folder.glob("model/*.safetensors"), *folder.glob("index/segs/*/*.bin"), folder / "query.json"]
    digests = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
    reports = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [{key: value for key, value in report.items() if "second" not in key} for report in reports]
    return digests | {"reports": json.dumps(kept)}


@pytest.fixture(scope="module")
def world() -> Tables:
    return planted_groups(users=60, items=40)


@pytest.fixture(scope="module")
def plain(world: Tables, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return trained(world, tmp_path_factory.mktemp("protocol") / "plain")


def test_no_artefact_depends_on_the_test_split(world: Tables, plain: dict[str, str], tmp_path: Path) -> None:
    found = trained(shuffled(world, TEST), tmp_path / "poisoned")
    assert set(found) == set(plain)
    assert [name for name in plain if found[name] != plain[name]] == []


def test_validation_selects_and_trains_nothing(world: Tables, plain: dict[str, str], tmp_path: Path) -> None:
    found = trained(shuffled(world, VALIDATION), tmp_path / "poisoned")
    assert found["reports"] != plain["reports"], "the poison must reach the selection"
    counted = ("model/transitions.safetensors", "model/popularity.safetensors")
    assert [name for name in counted if name in plain and found[name] != plain[name]] == []
