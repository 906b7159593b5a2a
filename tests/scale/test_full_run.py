"""A model trained on a sample of a world, and the run over the whole catalogue that is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparcode.config import updated
from sparcode.errors import ConfigError, RunError
from sparcode.index.arrays import read_arrays
from sparcode.query.encoder.encoder import Encoder
from sparcode.retrievers.registry import open_two_tower
from sparcode.run import Run
from sparcode.scale.content import Catalogue, sample_tables
from sparcode.scale.full_run import Codes, dataset_of, write_full_run
from sparcode.scale.plan import Plan
from sparcode.scale.prepare import _train
from sparcode.scale.world.world import ScaleWorld
from sparcode.train.run import train_run

PLAN = Plan(600, 250, 120, Codes(codewords=8, probes=4, length=32), epochs=1)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue(ScaleWorld(PLAN.items, PLAN.users))


@pytest.fixture(scope="module")
def sample(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("scale") / "sample"
    _train(PLAN, catalogue, out)
    return Run.open(out)


@pytest.fixture(scope="module")
def full(catalogue: Catalogue, sample: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_full_run(catalogue, sample, PLAN.codes, tmp_path_factory.mktemp("scale") / "full")


def test_internal_ids_fall_in_popularity(catalogue: Catalogue) -> None:
    counts = catalogue.popularity[catalogue.order]
    assert (np.diff(counts) <= 0).all()
    assert (catalogue.internal[catalogue.order] == np.arange(PLAN.items)).all()


def test_the_dataset_holds_out_the_last_two_events(catalogue: Catalogue) -> None:
    dataset = dataset_of(catalogue)
    assert dataset.test is not None and dataset.validation is not None  # noqa: PT018
    for user in (0, 17, PLAN.users - 1):
        events = catalogue.internal[catalogue.world.events_of(user)]
        assert dataset.test.targets(user).tolist() == [events[-1]]
        assert dataset.test.queries.history(user).tolist() == events[:-1].tolist()
        assert dataset.validation.targets(user).tolist() == [events[-2]]
        assert dataset.train.row(user).tolist() == events[:-2].tolist()
    assert dataset.popularity.sum() == len(dataset.train.items)


def test_vectors_of_all_items_are_those_the_sample_learned(catalogue: Catalogue, sample: Run, full: Run) -> None:
    """Items of the sample have the same vectors in both runs: content alone decides them."""
    theirs = read_arrays(sample.model_folder / "two_tower.safetensors")["item_vectors_out"]
    ours = read_arrays(full.model_folder / "two_tower.safetensors")["item_vectors_out"]
    assert len(ours) == PLAN.items > len(theirs)
    known = np.array(sample.dataset.item_ids.to_external(np.arange(len(theirs))))
    np.testing.assert_allclose(ours[catalogue.internal[known]], theirs, atol=1e-5)


def test_codes_cover_the_training_queries(full: Run) -> None:
    arrays = read_arrays(full.model_folder / "codes.safetensors")
    lengths = np.diff(full.dataset.train.indptr)
    assert arrays["traffic"].sum() == (lengths - 1).sum()
    assert arrays["next_counts"].sum() == (lengths - 1).sum()
    assert Encoder.open(full.model_folder).books[0].shape[:1] == (2,)


def test_the_full_run_answers(full: Run) -> None:
    held_out = full.held_out("test")
    assert held_out is not None
    hits = open_two_tower(full).retrieve(held_out.queries.slice(0, 5), 10)
    assert hits.ids.shape == (5, 10)
    assert (hits.ids >= 0).all()


def test_a_sample_with_item_ids_is_refused(catalogue: Catalogue, sample: Run, tmp_path: Path) -> None:
    config = updated(sample.config, {"model.item_ids": True, "train.epochs": 1, "additive.epochs": 1})
    run = train_run(sample_tables(catalogue, 60), tmp_path / "ids", config, progress=False)
    with pytest.raises(RunError, match=r"item_content.*model.item_ids=false"):
        write_full_run(catalogue, run, PLAN.codes, tmp_path / "full")


def test_content_alone_needs_content(sample: Run, tmp_path: Path) -> None:
    table = {"user_id": [1] * 5 + [2] * 5, "item_id": [1, 2, 3, 4, 5, 2, 3, 1, 5, 4], "timestamp": [1, 2, 3, 4, 5] * 2}
    config = updated(sample.config, {"model.item_content": None})
    with pytest.raises(ConfigError, match=r"model.item_ids=false.*items"):
        train_run(table, tmp_path / "run", config, progress=False)
    assert not (tmp_path / "run" / "run.json").exists()
