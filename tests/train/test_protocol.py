"""Nothing of a run may depend on what is held out for the test, nor its weights on what is held out for validation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sparcode.build.job import build_index
from sparcode.config import Config, DataConfig, updated
from sparcode.data.dataset import load_dataset
from sparcode.data.synthetic import planted_groups
from sparcode.data.tables import Tables
from sparcode.train.defaults import resolve
from sparcode.train.run import TrainingJob, train_run
from tests.conftest import TINY_SETTINGS
from tests.worlds import planted_table, tiny_config

COUNTED = {"loss.popular_share": 0.5, "families.category.enabled": True, "families.segment.enabled": True}
"""What else reads counts of events."""
SETTINGS = {**TINY_SETTINGS, **COUNTED, "train.epochs": 2, "additive.epochs": 2}
ONE_EPOCH = {**SETTINGS, "train.epochs": 1, "additive.epochs": 1, "train.fine_tune_epochs": 1}
TEST, VALIDATION = 1, 2


def shuffled(world: Tables, place: int) -> Tables:
    """Return a world in which each user's ``place``-th event from the end is another item, and items' counts differ."""
    events = world.interactions
    users = np.array(events["user_id"].to_pylist())
    items = events["item_id"].to_numpy().copy()
    ends = np.append(np.flatnonzero(users[1:] != users[:-1]), len(users) - 1) + 1
    held = ends - place
    before = items[held]
    items[held] = np.roll(before, 1)
    items[held[::2]] = before[0]
    assert (items[held] != before).mean() > 0.8
    return Tables(events.set_column(1, "item_id", pa.array(items)), world.items, world.users, world.source)


@dataclass(frozen=True)
class Artefacts:
    """What a run left: ``files``, name to digest, and what training reported of each epoch, but for its time."""

    files: dict[str, str]
    reports: list[dict[str, Any]]

    def changed(self, other: Artefacts) -> list[str]:
        """Return the files that differ or that one of the two has not."""
        names = self.files.keys() | other.files.keys()
        return sorted(name for name in names if self.files.get(name) != other.files.get(name))


def trained(world: Tables, folder: Path, settings: dict[str, Any] = SETTINGS) -> Artefacts:
    """Train and build; every file that answers depend on counts, and what the data folder holds."""
    train_run(world, folder, updated(Config(), settings), progress=False)
    build_index(folder)
    patterns = ("data/*", "model/*.safetensors", "index/segs/*/*.bin", "query.json")
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    digests = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    reports = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return Artefacts(digests, [{key: value for key, value in report.items() if key != "seconds"} for report in reports])


def learned(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the reports say of training, without the figures of validation."""
    return [{key: value for key, value in report.items() if "ndcg" not in key} for report in reports]


@pytest.fixture(scope="module")
def world() -> Tables:
    return planted_groups(users=60, items=40)


@pytest.fixture(scope="module")
def plain(world: Tables, tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    return trained(world, tmp_path_factory.mktemp("protocol") / "plain")


def test_nothing_depends_on_the_test_split_but_the_split_itself(
    world: Tables, plain: Artefacts, tmp_path: Path
) -> None:
    found = trained(shuffled(world, TEST), tmp_path / "poisoned")
    assert found.changed(plain) == ["data/dataset.json", "data/serving.arrow", "data/test.arrow"]
    assert found.reports == plain.reports


def test_what_trains_does_not_depend_on_validation(world: Tables, plain: Artefacts, tmp_path: Path) -> None:
    """Two models learn from scratch, epoch by epoch, whatever is selected; the third starts from a selected epoch."""
    found = trained(shuffled(world, VALIDATION), tmp_path / "poisoned")
    assert found.reports != plain.reports, "the poison must reach the selection"
    for name in ("two-tower", "additive"):
        first, second = (
            [report for report in learned(each.reports) if report["model"] == name] for each in (found, plain)
        )
        assert len(first) == len(second) == SETTINGS["train.epochs"]
        assert first == second
    assert "model/transitions.safetensors" in plain.files
    assert "model/transitions.safetensors" not in found.changed(plain)


def test_validation_selects_and_trains_nothing(world: Tables, tmp_path: Path) -> None:
    """Where there is one epoch there is none to select: then validation changes no weight, no code and no count.

    What is chosen by its answers may change: how lists are weighed and cut (``query.json``, their postings).
    """
    plain = trained(world, tmp_path / "plain", ONE_EPOCH)
    found = trained(shuffled(world, VALIDATION), tmp_path / "poisoned", ONE_EPOCH)
    assert [name for name in found.changed(plain) if name.startswith("model/")] == []
    held_out = {"data/dataset.json", "data/serving.arrow", "data/test.arrow", "data/validation.arrow"}
    assert {name for name in found.changed(plain) if name.startswith("data/")} == held_out
    assert learned(found.reports) == learned(plain.reports)
    figures = [[report["ndcg@10"] for report in each.reports] for each in (found, plain)]
    assert all(first != second for first, second in zip(*figures, strict=True)), "the poison must reach validation"


def test_items_of_held_out_events_alone_are_unknown_to_training(tmp_path: Path) -> None:
    table = planted_table()
    rows = {"user_id": ["held"] * 4, "item_id": [100, 104, 998, 999], "timestamp": [1, 2, 3, 4]}
    extra = pa.table([pa.array(rows[name], table.schema.field(name).type) for name in table.column_names], table.schema)
    dataset = load_dataset(pa.concat_tables([table, extra]), DataConfig(), seed=0)
    job = TrainingJob(tmp_path, resolve(tiny_config(**{"train.epochs": 1}), dataset), torch.device("cpu"))
    trainer, _ = job.fit("two-tower", dataset)
    held = dataset.item_ids.to_internal([998, 999])
    assert trainer.model.items.known[held].sum() == 0
    drawn, _ = trainer.objective.sampler.draw(torch.zeros(500, 4, dtype=torch.long), torch.ones(500, 4) > 0, 0, 0)
    assert len(np.unique(drawn)) == dataset.item_count - 2
    assert not np.isin(drawn, held).any()
