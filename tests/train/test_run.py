"""Whole training runs: the folder, repeatability, interruption, refusals, production runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pyarrow.csv
import pytest
import torch

from sparcode.config import Config, updated
from sparcode.errors import ConfigError, DataError, RunError
from sparcode.files import sha256_of, write_json
from sparcode.run import Run
from sparcode.train.run import resolve_device, resolve_equal, train_run, usage_warnings
from tests.worlds import planted_table, tiny_config

ROOT = Path(__file__).resolve().parents[2]

# Kills its own process in the middle of an epoch: the counterpart of `kill -9` at a known place.
KILLED = """
import os, signal, sys
from sparcode.train.loop import Trainer
from sparcode.train.run import train_run
from tests.worlds import planted_table, tiny_config

folder, name, epoch = sys.argv[1], sys.argv[2], int(sys.argv[3])
step = Trainer._step

def fatal(self, batch, at, quantised):
    result = step(self, batch, at, quantised)
    if self.name == name and at == epoch and batch.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

Trainer._step = fatal
train_run(planted_table(), folder, tiny_config(), progress=False)
"""


@pytest.fixture(autouse=True)
def quiet_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny codebooks may be warned about
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An undisturbed run."""
    return train_run(planted_table(), tmp_path_factory.mktemp("whole") / "run", tiny_config(), progress=False)


def model_files(folder: Path) -> dict[str, str]:
    """Return the digests of the exported model; the records of times are not part of it."""
    files = sorted((folder / "model").iterdir())
    return {file.name: sha256_of(file) for file in files if not file.name.endswith("trained.json")}


def test_the_folder_is_self_contained(whole: Run):
    assert {"run.json", "config.toml", "metrics.jsonl", "data", "model"} <= {p.name for p in whole.folder.iterdir()}
    assert not (whole.folder / "checkpoints").exists()
    opened = Run.open(whole.folder)
    assert opened.model_hash == whole.model_hash
    assert opened.config.train.epochs == 3
    assert opened.dataset.item_count == opened.record["items"] == 40
    summary = opened.record["training"]
    assert summary["sparcode"]["epochs_run"] <= 3
    assert summary["sparcode"]["occupied_codes"] > 1
    assert summary["sparcode"]["padding_share"] <= 0.5
    assert summary["two-tower"]["validation_ndcg@10"] > 0


def test_same_seed_same_bytes(whole: Run, tmp_path: Path):
    again = train_run(planted_table(), tmp_path / "run", tiny_config(), progress=False)
    assert model_files(again.folder) == model_files(whole.folder)
    assert again.model_hash == whole.model_hash


def test_another_seed_another_model(whole: Run, tmp_path: Path):
    other = train_run(planted_table(), tmp_path / "run", tiny_config(seed=1), progress=False, baselines=False)
    assert other.model_hash != whole.model_hash
    assert not (other.folder / "model" / "two_tower.json").exists()
    assert "two-tower" not in other.record["training"]


@pytest.mark.parametrize(("name", "epoch"), [("sparcode", 2), ("two-tower", 1)])
def test_killed_and_resumed_gives_the_same_files(whole: Run, tmp_path: Path, name: str, epoch: int):
    out = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), name, str(epoch)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (out / "run.json").exists()
    assert (out / "checkpoints" / f"{name}.safetensors").exists()
    with pytest.raises(RunError, match="unfinished.*resume=True"):
        Run.open(out)
    resumed = train_run(planted_table(), out, tiny_config(), resume=True, progress=False)
    assert model_files(out) == model_files(whole.folder)
    assert resumed.model_hash == whole.model_hash


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to Ctrl-C, also where the tests run in the background and were told to ignore it."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_a_run_that_resumes(whole: Run, tmp_path: Path):
    def interrupt(report):
        if report["model"] == "sparcode" and report["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_run(planted_table(), out, tiny_config(), progress=False, callback=interrupt)
    assert not (out / "run.json").exists()
    train_run(planted_table(), out, tiny_config(), resume=True, progress=False)
    assert model_files(out) == model_files(whole.folder)


def test_resuming_a_finished_run_changes_nothing(whole: Run, tmp_path: Path):
    shutil.copytree(whole.folder, tmp_path / "run")
    train_run(planted_table(), tmp_path / "run", tiny_config(), resume=True, progress=False)
    assert model_files(tmp_path / "run") == model_files(whole.folder)


def test_an_existing_run_is_refused(whole: Run):
    before = model_files(whole.folder)
    with pytest.raises(RunError, match="already holds a run.*resume=True.*overwrite=True"):
        train_run(planted_table(), whole.folder, tiny_config(), progress=False)
    with pytest.raises(RunError, match="exclude each other"):
        train_run(planted_table(), whole.folder, tiny_config(), resume=True, overwrite=True, progress=False)
    with pytest.raises(RunError, match="configuration differs"):
        train_run(planted_table(), whole.folder, tiny_config(**{"model.heads": 1}), resume=True, progress=False)
    assert model_files(whole.folder) == before


def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(RunError, match="holds no run"):
            train_run(planted_table(), tmp_path, tiny_config(), progress=False, **options)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_overwrite_replaces(whole: Run, tmp_path: Path):
    shutil.copytree(whole.folder, tmp_path / "run")
    (tmp_path / "run" / "index").mkdir()
    small = tiny_config(**{"train.epochs": 1, "model.heads": 1})
    run = train_run(planted_table(), tmp_path / "run", small, overwrite=True, baselines=False, progress=False)
    assert run.config.model.heads == 1
    assert not (tmp_path / "run" / "index").exists()


@pytest.mark.parametrize(
    ("table", "changes", "error"),
    [
        (planted_table().slice(0, 0), {}, DataError),
        ("no/such/file.csv", {}, DataError),
        (planted_table(), {"model.item_content": True}, ConfigError),
        (planted_table(), {"model.user_features": True}, ConfigError),
    ],
)
def test_a_refused_overwrite_keeps_the_earlier_run(whole: Run, tmp_path: Path, table, changes, error):
    shutil.copytree(whole.folder, tmp_path / "run")
    with pytest.raises(error) as caught:
        train_run(table, tmp_path / "run", tiny_config(**changes), overwrite=True, progress=False)
    assert "\n" not in str(caught.value)
    assert model_files(tmp_path / "run") == model_files(whole.folder)
    assert Run.open(tmp_path / "run").model_hash == whole.model_hash


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="'tpu': expected one of auto, cpu, cuda, mps"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda: torch finds no such device.*usable: cpu"):
            resolve_device("cuda")


def test_a_production_run_takes_over_sizes_schedule_and_weights(whole: Run, tmp_path: Path):
    earlier = tmp_path / "earlier"
    shutil.copytree(whole.folder, earlier)
    write_json(earlier / "query.json", {"learned_weight": 3, "probes": 1, "item_weights": [2], "evidence_weight": 0.5})
    config = updated(Config(), {"data.split_by": "none"})
    run = train_run(planted_table(), tmp_path / "run", config, like=earlier, baselines=False, progress=False)
    best = whole.record["training"]["sparcode"]["best_epoch"]
    assert run.config.model == whole.config.model
    assert run.config.train.epochs == 3
    assert run.record["training"]["sparcode"]["epochs_run"] == best + 1
    assert run.query_settings["learned_weight"] == 3
    assert run.dataset.validation is None
    assert run.dataset.item_ids.external.equals(whole.dataset.item_ids.external)
    assert run.dataset.train.indptr[-1] == planted_table().num_rows
    with pytest.raises(RunError, match="choose another out="):
        train_run(planted_table(), earlier, config, like=earlier, overwrite=True, progress=False)


def test_training_from_a_file(tmp_path: Path):
    pyarrow.csv.write_csv(planted_table(), tmp_path / "events.csv")
    config = tiny_config(**{"train.epochs": 1, "quantizer.warmup": 0.0, "loss.kind": "in-batch"})
    run = train_run(tmp_path / "events.csv", tmp_path / "run", config, baselines=False, progress=False)
    assert run.dataset.item_count == 40
    (tmp_path / "other.csv").write_bytes((tmp_path / "events.csv").read_bytes())
    with pytest.raises(RunError, match=r"is trained on .*events\.csv, not on .*other\.csv; use overwrite=True"):
        train_run(tmp_path / "other.csv", tmp_path / "run", config, resume=True, baselines=False, progress=False)
    (tmp_path / "link.csv").symlink_to(tmp_path / "events.csv")
    train_run(tmp_path / "link.csv", tmp_path / "run", config, resume=True, baselines=False, progress=False)


def test_too_few_events_are_one_line(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        train_run(planted_table().slice(0, 1), tmp_path / "run", tiny_config(), progress=False)
    assert "\n" not in str(caught.value)


def test_trained_density_lands_near_the_target(tmp_path: Path):
    import numpy as np

    from sparcode.build.job import build_index
    from sparcode.index.arrays import read_arrays
    from sparcode.quantize.product import decode
    from sparcode.query.encoder.encoder import Encoder
    from sparcode.query.rescore.rescorer import Rescorer

    config = tiny_config(**{"sparsity.target_density": 5.0, "model.heads": 1})
    run = train_run(planted_table(), tmp_path / "run", config, baselines=False, progress=False)
    codebooks = read_arrays(run.model_folder / "encoder.safetensors")["codebooks"]
    codes = read_arrays(run.model_folder / "codes.safetensors")["codes"]
    assert Encoder.open(run.model_folder).spec["quantizer"]["books"] == 2
    rescorer = Rescorer.open(run.model_folder)
    scores = rescorer.token_scores(decode(codes, np.asarray(codebooks)), slice(0, 40))
    # A world this small has a few hundred pairs and one steered epoch; closer figures are measured on real sets.
    percent = 100 * (scores + rescorer.spec["bias"] > 0).mean()
    assert 2.5 <= percent <= 10
    # The build takes the bias that training ended with, not a default of its own.
    assert build_index(run.folder)["density_percent"] == pytest.approx(percent, abs=0.2)


def test_resolve_equal_lets_open_values_be_filled_only():
    asked = tiny_config(**{"model.heads": None})
    assert resolve_equal(asked, updated(asked, {"model.heads": 1}))
    assert not resolve_equal(asked, updated(asked, {"model.heads": 1, "model.width": 8}))
    assert not resolve_equal(updated(asked, {"model.heads": 2}), updated(asked, {"model.heads": 1}))


def test_collapse_is_a_loud_warning():
    config = tiny_config()
    assert usage_warnings({"epoch": 1, "loss": 1.0}, config) == []
    assert usage_warnings({"epoch": 1, "usage": 0.6, "distinct_codes": 2.0}, config) == []
    (line,) = usage_warnings({"epoch": 1, "usage": 0.3, "distinct_codes": 2.0}, config)
    assert "codebook collapse" in line
    assert "30%" in line
    (line,) = usage_warnings({"epoch": 1, "usage": 0.6, "distinct_codes": 1.2}, config)
    assert "1.20 distinct codes" in line
    single = tiny_config(**{"model.heads": 1})
    assert usage_warnings({"epoch": 1, "usage": 0.6, "distinct_codes": 1.0}, single) == []
