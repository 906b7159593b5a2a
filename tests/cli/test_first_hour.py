"""What a command says of its own work: what an interruption left, what comes next, where nothing can be written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import sparcode.run
import sparcode.train.run
import sparcode.train.tune
from sparcode.config import Config, load_config
from sparcode.retrievers import evaluation
from sparcode_cli.build_index import next_step
from sparcode_cli.main import app
from tests.conftest import TINY_SETTINGS, TinyRun

OVERRIDES = [part for key, value in TINY_SETTINGS.items() for part in ("--set", f"{key}={str(value).lower()}")]


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def stopped(monkeypatch: pytest.MonkeyPatch, method: str, after: int = 0) -> None:
    """Let Ctrl-C come when a method of the training job is called for the time ``after`` (0 = first)."""
    job, calls = sparcode.train.run.TrainingJob, []
    inner = getattr(job, method)

    def interrupt(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return inner(*arguments, **options)

    monkeypatch.setattr(job, method, interrupt)


def test_interrupted_before_anything_is_replaced(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    stopped(monkeypatch, "_dataset")
    result = invoke("train", tiny_run.data, "--out", run, "--overwrite", *OVERRIDES)
    assert result.exit_code == 130
    assert f"interrupted: the earlier run {run} is untouched" in result.stderr
    assert (run / "run.json").exists()


def test_interrupted_after_the_earlier_run_is_gone(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    stopped(monkeypatch, "_train_additive")
    result = invoke("train", tiny_run.data, "--out", run, "--overwrite", *OVERRIDES)
    assert result.exit_code == 130
    assert f"interrupted: the earlier run {run} is replaced; go on from the last finished epoch" in result.stderr
    assert "--resume" in result.stderr
    assert "untouched" not in result.stderr
    monkeypatch.undo()
    # ... and that is true, with another number of threads too.
    again = invoke("train", tiny_run.data, "--out", run, "--resume", "--threads", 2, *OVERRIDES)
    assert again.exit_code == 0, again.stderr
    assert f"next: sparcode build-index {run}" in again.stderr


def test_interrupted_before_anything_is_written(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(monkeypatch, "_dataset")
    result = invoke("train", tiny_run.data, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "interrupted: nothing is kept of this training" in result.stderr
    assert not (tmp_path / "run" / "config.toml").exists()


def test_no_baselines_says_what_is_trained(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(monkeypatch, "_dataset")
    result = invoke("train", tiny_run.data, "--out", tmp_path / "run", "--no-baselines")
    assert "one is trained, because SparCode starts from its weights" in result.stderr
    result = invoke(
        "train", tiny_run.data, "--out", tmp_path / "run", "--no-baselines", "--set", "train.warm_start=false"
    )
    assert result.exit_code == 130
    assert "one is trained" not in result.stderr


def test_the_next_step_fits_the_run(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert next_step(tiny_run.folder) == f"sparcode evaluate {tiny_run.folder}"
    inner = sparcode.run.Run.held_out
    monkeypatch.setattr(sparcode.run.Run, "held_out", lambda run, split: None if split == "test" else inner(run, split))
    assert next_step(tiny_run.folder) == f"sparcode evaluate {tiny_run.folder} --split validation"
    monkeypatch.setattr(sparcode.run.Run, "held_out", lambda *_: None)
    assert next_step(tiny_run.folder) == f"sparcode query {tiny_run.folder} --user u000"


def test_building_says_what_it_does(tiny_run: TinyRun, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    result = invoke("build-index", run, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    for text in ("item lists: made", "item lists: decay chosen, validation NDCG@10", "query weights: fitted on"):
        assert text in result.stderr
    assert result.stderr.splitlines()[-1].endswith(f"next: sparcode evaluate {run}")


def read_only(tmp_path: Path) -> Path:
    blocked = tmp_path / "file"
    blocked.write_text("a file, not a folder")
    return blocked / "inside"


@pytest.mark.parametrize(
    ("command", "work"),
    [
        (["train", "DATA", "--out", "BLOCKED/run"], (sparcode.train.run, "load_dataset")),
        (["tune", "DATA", "--out", "BLOCKED/best.toml"], (sparcode.train.tune, "load_dataset")),
        (["evaluate", "RUN", "--per-query", "BLOCKED/q.parquet"], (evaluation, "evaluation_set_of")),
        (["evaluate", "RUN", "--json", "BLOCKED/e.json"], (evaluation, "evaluation_set_of")),
        (["benchmark", "RUN", "--json", "BLOCKED/b.json"], (evaluation, "evaluation_set_of")),
    ],
    ids=lambda value: " ".join(value[:1] + value[-2:-1]) if isinstance(value, list) else "",
)
def test_outputs_are_tried_before_the_work(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], work: tuple[Any, str]
) -> None:
    def too_late(*_: Any, **__: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(*work, too_late)
    places = {"DATA": tiny_run.data, "RUN": tiny_run.folder}
    blocked = str(read_only(tmp_path))
    result = invoke(*(places.get(part, part.replace("BLOCKED", blocked)) for part in command))
    assert result.exit_code == 1
    assert "work was begun" not in result.output
    assert blocked in result.stderr


def test_a_search_that_changes_nothing_says_so(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparcode.train.tune._Search, "run", lambda *_: Config())
    out = tmp_path / "best.toml"
    sparcode.train.tune.tune(tiny_run.data, out, trials=1)
    assert out.read_text().startswith("# The defaults were best")
    assert load_config(out) == Config()


@pytest.mark.parametrize("command", ["train", "tune", "build-index", "evaluate"])
def test_threads_are_an_option_and_are_checked(command: str) -> None:
    assert "--threads" in invoke(command, "--help").stdout
    result = invoke(command, "X", "--threads", 0)
    assert result.exit_code == 2
    assert "--threads" in result.stderr


def test_evaluation_runs_with_the_threads_asked_for(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    inner = sparcode.retrievers.evaluation.evaluation_set_of

    def spy(*arguments: Any) -> Any:
        found.append(torch.get_num_threads())
        return inner(*arguments)

    monkeypatch.setattr(evaluation, "evaluation_set_of", spy)
    before = torch.get_num_threads()
    result = invoke("evaluate", tiny_run.folder, "--retriever", "popular", "--threads", 2)
    assert result.exit_code == 0, result.stderr
    assert found == [2]
    assert torch.get_num_threads() == before
    assert "interval over users" in result.stderr


def test_training_advises_repeats_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(user, item, 10 * place) for user in range(30) for place, item in enumerate([user % 5, 7, user % 5, 7, 7])]
    data = tmp_path / "clicks.csv"
    data.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    stopped(monkeypatch, "_train_all")
    result = invoke("train", data, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "30 of 30 validation targets (100 %) are already in the history of their query" in result.stderr
    assert "query.include_seen=true" in result.stderr
    told = invoke("train", data, "--out", tmp_path / "other", "--set", "query.include_seen=true")
    assert told.exit_code == 130
    assert "validation targets" not in told.stderr
    checked = invoke("data", "validate", data)
    assert "repeats   30 of 30 test targets (100 %)" in checked.stdout
