"""Run folders: what opens and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sparcode.config import Config, to_toml, updated
from sparcode.errors import RunError
from sparcode.files import write_json, write_text
from sparcode.run import ADDED_FILES, FORMAT, MODEL_FILES, Run, hash_model


def finished(folder: Path) -> Path:
    """Write the least a run needs."""
    write_json(folder / "run.json", {"format": FORMAT, "model_hash": "abc"})
    write_text(folder / "config.toml", to_toml(updated(Config(), {"model.heads": 3})))
    return folder


def test_open_and_read(tmp_path: Path):
    run = Run.open(str(finished(tmp_path)))
    assert run.model_hash == "abc"
    assert run.config.model.heads == 3
    assert run.model_folder == tmp_path / "model"
    assert run.index_folder == tmp_path / "index"


def test_parts_are_found_after_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    finished(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    run = Run.open(tmp_path.name)
    monkeypatch.chdir("/")
    assert run.folder == Path(tmp_path.name)  # messages name it as it was given
    assert run.config.model.heads == 3
    assert run.update(stage="indexed").record["stage"] == "indexed"
    assert Run.open(tmp_path).record["stage"] == "indexed"
    assert run.model_folder == tmp_path / "model"


def test_update_is_written(tmp_path: Path):
    run = Run.open(finished(tmp_path)).update(stage="indexed")
    assert run.record["stage"] == "indexed"
    assert Run.open(tmp_path).record == {"format": FORMAT, "model_hash": "abc", "stage": "indexed"}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no run found there.*SparCode.train"),
        (lambda folder: write_text(folder / "config.toml", ""), "unfinished training.*resume=True"),
        (lambda folder: write_text(folder / "run.json", "{"), "not valid JSON"),
        (lambda folder: write_json(folder / "run.json", {"format": 99}), "format 99 found, 1 expected"),
        (lambda folder: write_json(folder / "run.json", [1]), "format .* found, 1 expected"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, prepare, message: str):
    prepare(tmp_path)
    with pytest.raises(RunError, match=message) as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_cut_between_two_lines_is_refused(tmp_path: Path):
    file = finished(tmp_path) / "config.toml"
    lines = file.read_text().splitlines(keepends=True)
    for kept in range(0, lines.index("[baselines]\n"), 7):
        write_text(file, "".join(lines[:kept]))
        with pytest.raises(RunError, match=r"config.toml is damaged or was edited .*\[baselines\]"):
            _ = Run.open(tmp_path).config


def test_settings_before_the_index(tmp_path: Path):
    with pytest.raises(RunError, match="no index yet; build it with: sparcode build-index"):
        _ = Run.open(finished(tmp_path)).query_settings


@pytest.mark.parametrize("name", MODEL_FILES)
def test_the_model_hash_sees_every_file(tmp_path: Path, name: str):
    for file in MODEL_FILES:
        write_text(tmp_path / file, "x")
    before = hash_model(tmp_path)
    write_text(tmp_path / "metrics.txt", "not part of the model")
    assert hash_model(tmp_path) == before
    write_text(tmp_path / name, "y")
    changed = hash_model(tmp_path)
    (tmp_path / name).unlink()
    assert len({before, changed, hash_model(tmp_path)}) == 3


def test_held_out_queries_carry_the_features_a_model_reads(tiny_run) -> None:
    run = Run.open(tiny_run.folder)
    config = run.config
    run.__dict__["config"] = updated(config, {"families.segment.enabled": False})
    assert run.held_out("test").queries.user_features is None
    for key in ("model.user_features", "families.segment.enabled"):
        run.__dict__["config"] = updated(config, {"families.segment.enabled": False, key: True})
        held = run.held_out("test")
        assert held.queries.user_features.shape == (len(held), run.dataset.user_features.width)


def test_files_that_older_runs_lack_leave_their_hash_alone(tmp_path: Path):
    older = [name for name in MODEL_FILES if name not in ADDED_FILES]
    content = "".join(f"{name}:{'absent'}\n" for name in older)
    assert hash_model(tmp_path) == hashlib.sha256(content.encode()).hexdigest()


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(RunError, match=r"'run-\\udcff': the name of the folder is not UTF-8"):
        Run.open("run-\udcff")
