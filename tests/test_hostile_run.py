"""A run folder of somebody else: changed values are refused by name, links and pipes are not followed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode.build.job import build_index
from sparcode.errors import CorruptIndexError, RunError, SparcodeError
from sparcode.files import read_json, write_json
from sparcode.index.arrays import read_arrays, write_arrays
from sparcode.query.model_checks import verify_model
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run, hash_model
from tests.conftest import TinyRun
from tests.run_mutations import use

MUTANTS = 150


@pytest.fixture
def run(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the tiny run."""
    return Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))


def names_its_file(line: str) -> bool:
    """Tell whether a mutant, ``seed file outcome``, was refused by the name of the file that was changed.

    Where files of data or model disagree nobody knows which one was changed: then the name of another will do.
    """
    name = Path(line.split(" ")[1].partition(":")[0])
    said = line.partition(" refused ")[2]
    return name.stem in said or (str(name.parent) != "." and f"/run/{name.parent}/" in said)


@pytest.mark.parametrize("kind", ["run_mutations", "run_structures"])
def test_no_change_of_a_value_ends_the_process(run: Path, kind: str):
    script = Path(__file__).with_name(f"{kind}.py")
    command = [sys.executable, str(script), str(run), f"0-{MUTANTS}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=script.parent.parent)
    outcomes = done.stdout.splitlines()
    assert done.returncode == 0, (done.returncode, outcomes[-1:], done.stderr[-500:])
    assert len(outcomes) == MUTANTS
    assert [line for line in outcomes if " raw " in line] == []
    refused = [line for line in outcomes if " refused " in line]
    assert len(refused) > MUTANTS // 3
    assert [line for line in refused if not names_its_file(line)] == []


def test_the_run_itself_answers(run: Path):
    use(run)


@pytest.mark.parametrize("key", ["width", "items", "item_tokens"])
def test_a_rescorer_of_other_sizes_is_refused(run: Path, key: str):
    spec, arrays = read_json(run / "model" / "rescorer.json"), dict(read_arrays(run / "model" / "rescorer.safetensors"))
    tokens = arrays["item_tokens"]
    if key == "width":
        arrays["item_tokens"] = np.ascontiguousarray(tokens[:, :, ::2])
        spec["width"] //= 2
    elif key == "items":
        arrays = {name: np.concatenate([array, array]) if len(array) == len(tokens) else array
                  for name, array in arrays.items()}  # fmt: skip
        spec["items"] *= 2
    else:
        spec["item_tokens"] += 1
    write_arrays(run / "model" / "rescorer.safetensors", arrays)
    write_json(run / "model" / "rescorer.json", spec)
    with pytest.raises(CorruptIndexError, match=r"rescorer\.json"):
        Pipeline.open(run, verify="none")


def test_weights_that_are_no_numbers_are_refused_at_the_default_opening(run: Path):
    path = run / "model" / "encoder.safetensors"
    arrays = {name: np.array(array) for name, array in read_arrays(path).items()}
    arrays["item_vectors"][3, 1] = np.nan
    write_arrays(path, arrays)
    with pytest.raises(CorruptIndexError, match="not those that were trained"):
        Pipeline.open(run)
    write_json(run / "run.json", read_json(run / "run.json") | {"model_hash": hash_model(run / "model")})
    with pytest.raises(CorruptIndexError, match=r"encoder\.safetensors is damaged: array item_vectors holds NaN"):
        verify_model(Run.open(run), "auto")


@pytest.mark.parametrize("order", [np.zeros(60, np.int32), np.arange(59), np.arange(1, 61), np.linspace(0, 59, 60)])
def test_an_order_of_filling_is_a_permutation(run: Path, order: np.ndarray):
    write_arrays(run / "model" / "popularity.safetensors", {"order": order})
    with pytest.raises(CorruptIndexError, match=r"popularity\.safetensors is damaged: order"):
        Pipeline.open(run, verify="none")


def _rewritten(run: Path, name: str, changed: dict[str, pa.Array]) -> None:
    """Change columns of a file of the data, under a size that agrees."""
    path, record = run / "data" / f"{name}.arrow", run / "data" / "dataset.json"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    columns = dict(zip(table.column_names, table.columns, strict=True)) | changed
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, (table := pa.table(columns)).schema) as writer:
        writer.write_table(table)
    content = read_json(record)
    write_json(record, content | {"files": content["files"] | {name: path.stat().st_size}})


@pytest.mark.parametrize(("name", "column", "values", "message"), [
    ("items", "item_id", [*range(100, 159), 100], "1 ids stand twice"),
    ("users", "user_id", ["u000"] * 120, "119 ids stand twice"),
    ("items", "item_id", [None, *range(101, 160)], "1 ids are null"),
    ("items", "item_id", [[1]] * 60, "expected text or int64"),
    ("items", "popularity", [-1] * 60, "popularity is not one count an item"),
    ("serving", "items", [[0.5]] * 120, "expected large_list"),
    ("serving", "times", [[0.5]] * 120, "expected a float64 an event"),
    ("test", "targets", [None] * 120, "expected large_list"),
])  # fmt: skip
def test_a_column_that_is_sound_as_a_file_and_wrong_as_a_run(run, name, column, values, message):
    made = {"times": pa.large_list(pa.float64()), "targets": pa.large_list(pa.int32())}.get(column)
    _rewritten(run, name, {column: pa.array(values, made)})
    with pytest.raises(CorruptIndexError, match=rf"{name}\.arrow.*{message}"):
        use(run)


@pytest.mark.parametrize(
    "name", ["index-work.lock", "index-work", "index", "index/LOCK", "index/segs", "index/manifests"]
)
def test_building_never_writes_through_a_link(run: Path, tmp_path: Path, name: str):
    victim = tmp_path / "victim"
    (victim / "deep").mkdir(parents=True)
    (victim / "deep" / "precious").write_text("precious")
    target = (
        victim if name in ("index-work", "index", "index/segs", "index/manifests") else victim / "deep" / "precious"
    )
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    with pytest.raises(RunError, match=f"{name} is a symbolic link"):
        build_index(run)
    assert sorted(str(file.relative_to(victim)) for file in victim.rglob("*")) == ["deep", "deep/precious"]
    assert (victim / "deep" / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", ["build.json", "query.json", "run.json", "index/CURRENT"])
def test_files_that_are_replaced_leave_what_a_link_names(run: Path, tmp_path: Path, name: str):
    victim = tmp_path / "victim"
    victim.write_bytes((run / name).read_bytes())
    kept = victim.read_bytes()
    (run / name).unlink()
    (run / name).symlink_to(victim)
    build_index(run)
    assert (run / name).is_symlink() == (name == "run.json")  # which is read alone
    assert victim.read_bytes() == kept


@pytest.mark.parametrize("name", [
    "run.json", "query.json", "config.toml", "model/encoder.json", "model/rescorer.safetensors", "data/items.arrow",
    "data/dataset.json", "model/popularity.safetensors", "index/CURRENT",
])  # fmt: skip
def test_a_pipe_in_a_run_is_refused_by_name(run: Path, name: str):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(SparcodeError, match=re.escape(name)):
        use(run)


@pytest.mark.parametrize("name", ["index-work.lock", "index/LOCK", "index/CURRENT"])
def test_a_pipe_is_not_waited_for_by_a_build(run: Path, name: str):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(RunError, match=re.escape(name)):
        build_index(run)


def test_a_run_behind_the_users_own_link_is_built_and_read(run: Path, tmp_path: Path):
    (tmp_path / "latest").symlink_to(run)
    build_index(tmp_path / "latest")
    use(tmp_path / "latest")


@pytest.mark.parametrize("field", ["items", "users", "model_hash", "training", "format"])
@pytest.mark.parametrize("value", [-1, True, None, [], 10**40, 0.5])
def test_a_bad_field_of_the_record_is_named(run: Path, field: str, value: object):
    write_json(run / "run.json", read_json(run / "run.json") | {field: value})
    with pytest.raises(RunError, match=rf"run\.json: {field}"):
        Run.open(run)
