"""SparCode that starts from a trained two-tower: what is copied, what is trained, how runs are resumed and followed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sparcode.build.job import build_index
from sparcode.config import Config, updated
from sparcode.errors import RunError
from sparcode.index.arrays import read_arrays
from sparcode.model.sparcode import SparCodeModel
from sparcode.model.two_tower import TwoTowerModel
from sparcode.query.encoder.encoder import Encoder
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.run import Run
from sparcode.train.checkpoint import load_best
from sparcode.train.run import train_run
from sparcode.train.warm_start import start_from
from tests.train.test_run import model_files
from tests.worlds import planted_table, queries_of, tiny_config

ITEMS = 11
WARM = {"train.warm_start": True, "scorer.kind": "dot", "model.heads": 1, "train.epochs": 2, "additive.epochs": 2}


@pytest.fixture(autouse=True)
def quiet_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny codebooks may be warned about
        yield


def pair(**changes) -> tuple[SparCodeModel, dict[str, torch.Tensor]]:
    """Return a fresh SparCode model and the state of a two-tower in which every parameter is random."""
    torch.manual_seed(0)
    config = tiny_config(**changes)
    model, tower = SparCodeModel(config, ITEMS, None, 0), TwoTowerModel(config, ITEMS, None, 0)
    for parameter in tower.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval(), {name: tensor.clone() for name, tensor in tower.eval().state_dict().items()}


@pytest.mark.parametrize("tokenizer", ["sasrec", "gru4rec", "dnn"])
@pytest.mark.parametrize("heads", [1, 3])
def test_weights_are_copied_and_head_0_is_the_two_tower(tokenizer: str, heads: int):
    model, weights = pair(**{"model.tokenizer": tokenizer, "model.heads": heads})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = start_from(model, weights)
    state = model.state_dict()
    assert sorted(copied) == sorted(weights), "everything a two-tower has, SparCode has"
    for name, tensor in state.items():
        if name not in weights:
            assert torch.equal(tensor, before[name]), f"{name} keeps its own start"
        elif tensor.shape == weights[name].shape:
            assert torch.equal(tensor, weights[name]), name
        else:
            rows = len(weights[name])
            assert name.startswith("tokenizer.head.")
            assert torch.equal(tensor[:rows], weights[name]), name
            assert torch.equal(tensor[rows:], before[name][rows:]), f"{name}: the other heads keep their own start"
    tower = TwoTowerModel(model.config, ITEMS, None, 0).eval()
    tower.load_state_dict(weights)
    items, lengths = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
    ours = model.last_tokens(model.items.table(), items, lengths, None)
    theirs = tower.last_tokens(tower.items.table(), items, lengths, None)
    torch.testing.assert_close(ours[:, :1], theirs)


def test_the_quantizer_and_the_interaction_are_left_alone():
    model, weights = pair(**{"model.item_tokens": 2})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights |= {"quantizer.codebooks": torch.ones(1), "no.such.name": torch.ones(1)}
    weights |= {name: tensor + 1 for name, tensor in before.items() if name.startswith("quantizer.")}
    copied = start_from(model, weights)
    own = [name for name in before if name.startswith("quantizer.") or name == "items.token_maps"]
    assert len(own) > 1
    assert not set(own) & set(copied)
    for name in own:
        assert torch.equal(model.state_dict()[name], before[name]), name


def test_tensors_that_do_not_fit_are_left_out():
    model, weights = pair()
    before = model.items.embedding.detach().clone()
    weights["items.embedding"] = torch.ones(ITEMS + 1, 16)
    assert "items.embedding" not in start_from(model, weights)
    weights["items.embedding"] = torch.ones(ITEMS, 8)
    assert "items.embedding" not in start_from(model, weights)
    assert torch.equal(model.items.embedding, before)


def test_load_best_refuses_what_is_no_checkpoint(tmp_path: Path):
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for name in ("broken", "missing"):
        with pytest.raises(RunError, match="not a readable checkpoint.*overwrite=True") as caught:
            load_best(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)


def train(folder: Path, **changes) -> Run:
    options = changes.pop("options", {})
    return train_run(planted_table(), folder, tiny_config(**WARM | changes), progress=False, **options)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A warm run in which only codebooks are fitted."""
    return train(tmp_path_factory.mktemp("warm") / "run")


def histories() -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 40, random.integers(1, 13)).tolist() for _ in range(50)]


def test_fitting_codes_alone_keeps_the_two_tower(warm: Run):
    queries = queries_of(histories())
    ours = Encoder.open(warm.model_folder)
    tokens = ours.tokens(queries)
    assert np.array_equal(tokens, Encoder.open(warm.model_folder, "two_tower").tokens(queries))
    vectors = read_arrays(warm.model_folder / "two_tower.safetensors")["item_vectors_out"]
    scores = Rescorer.open(warm.model_folder).score_all(tokens)
    np.testing.assert_allclose(scores, tokens[:, 0] @ vectors.T / warm.config.model.temperature, atol=1e-4)
    trained = warm.record["training"]
    assert list(trained)[0] == "sparcode"
    assert set(trained) >= {"sparcode", "two-tower", "additive"}
    assert trained["sparcode"]["epochs_run"] == 0
    assert trained["sparcode"]["occupied_codes"] > 1
    assert len(np.unique(ours.codes(tokens)[0].reshape(len(tokens), -1), axis=0)) > 5, "the codebooks were fitted"


def test_the_metrics_tell_the_systems_in_their_order(warm: Run):
    lines = [json.loads(line) for line in (warm.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["model"], line["epoch"]) for line in lines] == [
        ("two-tower", 0), ("two-tower", 1), ("additive", 0), ("additive", 1), ("sparcode", 0)
    ]  # fmt: skip
    last = lines[-1]
    assert last["quantised"]
    assert "loss" not in last
    best = max(line["ndcg@10"] for line in lines if line["model"] == "two-tower")
    assert last["ndcg@10"] == pytest.approx(best)
    assert last["quantised_ndcg@10"] > 0


def test_fine_tuning_trains(warm: Run, tmp_path: Path):
    tuned = train(tmp_path / "run", **{"train.fine_tune_epochs": 1})
    assert tuned.record["training"]["sparcode"]["epochs_run"] == 1
    files, ours = model_files(tuned.folder), model_files(warm.folder)
    assert files["two_tower.safetensors"] == ours["two_tower.safetensors"], "the same start"
    queries = queries_of(histories())
    moved = Encoder.open(tuned.model_folder).tokens(queries)
    start = Encoder.open(tuned.model_folder, "two_tower").tokens(queries)
    assert not np.allclose(moved, start, atol=1e-3)
    assert (moved * start).sum(axis=2).mean() > 0.7, "but from where the two-tower was, not from noise"
    (line,) = [json.loads(line) for line in (tuned.folder / "metrics.jsonl").read_text().splitlines()
               if '"sparcode"' in line]  # fmt: skip
    assert line["quantised"], "codes from the first step on"
    assert line["loss"] > 0


def test_without_the_baseline_nothing_else_changes(warm: Run, tmp_path: Path):
    run = train(tmp_path / "run", options={"baselines": False})
    assert not (run.model_folder / "two_tower.json").exists()
    files = model_files(warm.folder)
    assert model_files(run.folder) == {name: found for name, found in files.items() if not name.startswith("two_tower")}


@pytest.mark.parametrize(
    "stop", [("two-tower", 0), ("two-tower", 1), ("additive", 0), ("additive", 1), ("sparcode", 0)]
)
def test_interrupted_and_resumed_gives_the_same_files(warm: Run, tmp_path: Path, stop: tuple[str, int]):
    def interrupt(report: dict) -> None:
        if (report["model"], report["epoch"]) == stop:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(out, options={"callback": interrupt})
    assert not (out / "run.json").exists()
    resumed = train(out, options={"resume": True})
    assert model_files(out) == model_files(warm.folder)
    assert resumed.model_hash == warm.model_hash


def test_fine_tuning_resumes_from_its_own_checkpoint(tmp_path: Path):
    config = {"train.fine_tune_epochs": 2}
    whole = train(tmp_path / "whole", **config)

    def interrupt(report: dict) -> None:
        if (report["model"], report["epoch"]) == ("sparcode", 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", **config, options={"callback": interrupt})
    train(tmp_path / "run", **config, options={"resume": True})
    assert model_files(tmp_path / "run") == model_files(whole.folder)


def test_a_lost_two_tower_checkpoint_is_trained_again(warm: Run, tmp_path: Path):
    def interrupt(report: dict) -> None:
        if report["model"] == "additive":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", options={"callback": interrupt})
    (tmp_path / "run" / "checkpoints" / "two-tower.safetensors").unlink()
    train(tmp_path / "run", options={"resume": True})
    assert model_files(tmp_path / "run") == model_files(warm.folder)


@pytest.mark.parametrize("fine_tune", [0, 2])
def test_a_production_run_trains_each_part_to_its_best_epoch(tmp_path: Path, fine_tune: int):
    earlier = train(tmp_path / "earlier", **{"train.fine_tune_epochs": fine_tune, "train.epochs": 3})
    build_index(earlier.folder)
    config = updated(Config(), {"data.split_by": "none"})
    run = train_run(
        planted_table(), tmp_path / "run", config, like=earlier.folder, baselines=False, progress=False
    )  # fmt: skip
    best = {name: part["best_epoch"] + 1 for name, part in earlier.record["training"].items() if name != "seconds"}
    trained = run.record["training"]
    assert trained["two-tower"]["epochs_run"] == best["two-tower"]
    assert trained["additive"]["epochs_run"] == best["additive"]
    assert trained["sparcode"]["epochs_run"] == (best["sparcode"] if fine_tune else 0)
    assert run.query_settings["item_lists"] == Run.open(earlier.folder).query_settings["item_lists"]
    assert build_index(run.folder)["item_lists"] == run.query_settings["item_lists"]


def test_a_cold_run_needs_neither(tmp_path: Path):
    cold = {"train.warm_start": False, "families.item.additive": False}
    run = train(tmp_path / "run", **cold, options={"baselines": False})
    assert set(run.record["training"]) == {"sparcode", "seconds"}
    assert not (run.model_folder / "additive.json").exists()
    assert run.record["training"]["sparcode"]["epochs_run"] == 2
