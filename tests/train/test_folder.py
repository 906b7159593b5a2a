"""The folder of a run while it is trained: one process at a time, and nothing is written through a link in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sparcode.config import Config, updated
from sparcode.errors import DataError, RunError
from sparcode.locks import locked
from sparcode.train.run import LOCK, train_run
from tests.conftest import TINY_SETTINGS, TinyRun


def train(data: Path, out: Path, **options: bool) -> None:
    """Train as the tiny run was."""
    train_run(str(data), out, updated(Config(), TINY_SETTINGS), progress=False, **options)


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_a_second_training_into_one_folder_is_refused(tiny_run: TinyRun, tmp_path: Path, options: dict[str, bool]):
    out = tmp_path / "run"
    if options:
        shutil.copytree(tiny_run.folder, out)
    out.mkdir(exist_ok=True)
    before = sorted(path.name for path in out.iterdir() if path.name != LOCK)
    with locked(out / LOCK, "busy"), pytest.raises(RunError, match="is being trained by another process"):
        train(tiny_run.data, out, **options)
    assert sorted(path.name for path in out.iterdir() if path.name != LOCK) == before


def test_a_folder_that_another_filled_meanwhile_is_refused(tiny_run: TinyRun, tmp_path: Path, monkeypatch):
    from sparcode.train import run as module

    def slow(*arguments, **options):
        shutil.copytree(tiny_run.folder, tmp_path / "run")
        return load(*arguments, **options)

    load = module.load_dataset
    monkeypatch.setattr(module, "load_dataset", slow)
    with pytest.raises(RunError, match="already holds a run"):
        train(tiny_run.data, tmp_path / "run")


def test_refused_data_leave_no_folder(tmp_path: Path):
    (tmp_path / "a.csv").write_text("user_id,item_id\n")
    with pytest.raises(DataError):
        train(tmp_path / "a.csv", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["data", "model", "checkpoints", "metrics.jsonl", LOCK])
def test_resuming_never_writes_through_a_link(tiny_run: TinyRun, tmp_path: Path, name: str):
    out, victim = tmp_path / "run", tmp_path / "victim"
    shutil.copytree(tiny_run.folder, out)
    (out / "run.json").unlink()
    if (out / name).exists():
        (out / name).rename(victim)
    elif name == "checkpoints":
        victim.mkdir()
    else:
        victim.write_text("precious")
    before = {path: path.read_bytes() for path in [victim, *victim.rglob("*")] if path.is_file()}
    (out / name).symlink_to(victim)
    with pytest.raises(RunError, match=f"{name} is a symbolic link"):
        train(tiny_run.data, out, resume=True)
    assert {path: path.read_bytes() for path in [victim, *victim.rglob("*")] if path.is_file()} == before


def test_overwriting_keeps_the_users_own_link_and_what_links_inside_name(tiny_run: TinyRun, tmp_path: Path):
    from sparcode.train.run import TrainingJob

    out, victim = tmp_path / "run", tmp_path / "victim"
    shutil.copytree(tiny_run.folder, out)
    victim.mkdir()
    (victim / "precious").touch()
    (out / "link").symlink_to(victim)
    (tmp_path / "latest").symlink_to(out)
    job = object.__new__(TrainingJob)
    job.out = tmp_path / "latest"
    job._clear()
    assert {path.name for path in out.iterdir()} <= {LOCK}
    assert (tmp_path / "latest").is_symlink()
    assert (victim / "precious").exists()
