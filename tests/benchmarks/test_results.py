"""The results harness on a tiny grid: cells in processes, caching, failures, the report of what is there."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sparcode.data.synthetic import planted_groups, write_world
from sparcode.files import read_json, write_json
from sparcode.index.arrays import read_arrays
from tests.worlds import TINY

GRID = """
from grid.cells import ABLATIONS, DataSet, Grid, LEARNED_ALONE, Split, Target, Variant

BY_TIME = {"data.split_by": "time", "data.time_cut": 0.9}
GRID = Grid(
    (DataSet("world", "planted"),), (0, 1),
    [each for each in ABLATIONS if each.name == LEARNED_ALONE],
    [Variant("world", "impossible", {"model.width": 1})],
    [Split("by-time", DataSet("by-time", "planted", BY_TIME), cutoffs=(20,), depth=20, without=("item-knn",))],
    (
        Target("world", "sparcode", "ndcg@10", 0.01),
        Target("world", "sparcode", "ndcg@10", 99.0, times="two-tower", above_zero=True),
        Target("world", "sparcode", "ndcg@10", 0.01, times="two-tower", ablation=LEARNED_ALONE),
        Target("world", "sparcode-cache", "bytes", 1.0, times="hnsw", most=True),
        Target("world", "sparcode", "minutes", 12.0, most=True),
        Target("world", "nobody", "ndcg@10", 0.5),
    ),
    base=%r,
)
"""
README = "# Title\n<!-- results:begin -->\nold\n<!-- results:end -->\ntail\n"
SEED_0 = ["--only", "main,ablation,variant", "--seeds", "0"]


@pytest.fixture(scope="module")
def results(script):
    return script("results")


@pytest.fixture(scope="module")
def world(results, tmp_path_factory):
    """A grid of six cells of which those of seed 0, but no split, were measured."""
    folder = tmp_path_factory.mktemp("results")
    write_world(planted_groups(60, 40, 4, 10), folder / "data" / "planted")
    (folder / "grid.py").write_text(GRID % (TINY | {"train.epochs": 1, "additive.epochs": 1, "quantizer.warmup": 0.5}))
    (folder / "README.md").write_text(README)
    files = {"data": "data", "work": "work", "grid": "grid.py", "out": "r.json", "docs": "r.md", "readme": "README.md"}
    options = [part for name, path in files.items() for part in (f"--{name}", str(folder / path))]
    code = results.main([*options, *SEED_0])
    cells = {cell.key: cell for cell in results.load_grid(folder / "grid.py").cells()}
    return SimpleNamespace(folder=folder, work=folder / "work", options=options, code=code, cells=cells)


@pytest.fixture
def copy(world, tmp_path):
    """The same, to be spoiled."""
    shutil.copytree(world.work, tmp_path / "work")
    (tmp_path / "README.md").write_text("no markers\n")
    files = {"work": "work", "out": "r.json", "docs": "r.md", "readme": "README.md"}
    options = world.options + [part for name, path in files.items() for part in (f"--{name}", str(tmp_path / path))]
    return SimpleNamespace(folder=tmp_path, work=tmp_path / "work", options=options, cells=world.cells)


def record(world, key: str) -> dict:
    return read_json(world.work / "cells" / f"{world.cells[key].digest}.json")


def no_process(*_: object, **__: object) -> None:
    raise AssertionError("a finished cell was measured again")


MAIN, OTHER = "main/world/seed-0", "main/world/seed-1"
ABLATION, BROKEN = "ablation/world/seed-0/learned-codes-only", "variant/world/seed-0/impossible"


def test_a_main_cell_keeps_every_figure(world):
    row = record(world, MAIN)
    assert row["state"] == "done"
    assert {"sparcode", "sparcode-cache", "two-tower", "popular", "all-to-all"} <= {
        each["retriever"] for each in row["results"]
    }
    for each in row["results"]:
        names = {"recall@10", "ndcg@10", "precision@50", "mrr", "coverage@10", "popularity@10"}
        assert names <= set(each["metrics"])
        assert each["intervals"]["ndcg@10"][0] <= each["metrics"]["ndcg@10"] <= each["intervals"]["ndcg@10"][1]
        assert each["seconds"] >= 0
    assert row["training"]["two-tower"]["seconds"] > 0
    assert row["build"]["build_s"] > 0
    assert row["bytes"]["hnsw"] == 40 * (4 * 16 + 4 * 64 + 8)
    assert row["bytes"]["two_tower_vectors"] == 40 * 4 * 16
    assert row["machine"]["threads"]["torch"] == 1
    assert row["machine"]["threads"]["OMP_NUM_THREADS"] == "1"
    assert row["config"]["changes"]["seed"] == 0


def test_values_of_every_user_stand_beside_it(world):
    values = read_arrays(world.work / world.cells[MAIN].digest / "values.safetensors")
    means = {each["retriever"]: each["metrics"] for each in record(world, MAIN)["results"]}
    assert len(values["users"]) == 60
    for name in ("sparcode", "two-tower"):
        for metric in ("ndcg@10", "recall@50"):
            assert values[f"{name}:{metric}"].mean() == pytest.approx(means[name][metric])


def test_an_ablation_builds_the_index_again_and_leaves_the_run_alone(world):
    row, main = record(world, ABLATION), record(world, MAIN)
    assert [each["retriever"] for each in row["results"]] == ["sparcode", "sparcode-cache"]
    assert row["model_hash"] == main["model_hash"]
    assert row["bytes"]["cache"] < main["bytes"]["cache"]
    assert row["postings_per_query"] > 0
    run = world.work / world.cells[MAIN].digest / main["folder"]
    assert read_json(run / "build.json") == main["build"]
    assert len(list((run / "index" / "manifests").glob("*.json"))) == 1
    assert not (world.work / world.cells[ABLATION].digest / "run").exists()


def test_holding_a_run_shares_files_and_has_no_index(results, world, script, tmp_path):
    run = world.work / world.cells[MAIN].digest / record(world, MAIN)["folder"]
    copy = tmp_path / "copy"
    script("shared").hold_run(run, copy)
    assert not (copy / "index").exists()
    assert not (copy / "query.json").exists()
    for file in (run / "model").iterdir():
        assert (copy / "model" / file.name).read_bytes() == file.read_bytes()


def test_a_failed_cell_is_told_and_the_others_go_on(world):
    assert world.code == 1
    row = record(world, BROKEN)
    assert row["state"] == "failed"
    assert "model.width" in row["error"]
    assert record(world, MAIN)["state"] == record(world, ABLATION)["state"] == "done"


def test_finished_cells_are_not_measured_again_and_failed_ones_are(results, copy, monkeypatch):
    monkeypatch.setattr(results.subprocess, "Popen", no_process)
    assert results.main([*copy.options, "--only", "main,ablation", "--seeds", "0"]) == 0
    with pytest.raises(AssertionError, match="measured again"):
        results.main([*copy.options, "--only", "variant"])


def test_list_shows_states_and_reasons(results, world, capsys):
    assert results.main([*world.options, "--list"]) == 0
    lines = {line.split()[2].rstrip(":"): line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == list(world.cells)
    assert lines[MAIN].startswith("done")
    assert lines[OTHER].startswith("missing")
    assert lines[BROKEN].startswith("failed")
    assert "model.width" in lines[BROKEN]


def test_the_report_of_partial_results(world):
    text = (world.folder / "r.md").read_text()
    assert "3 of 6 cells" not in text
    assert "2 of 6 cells are finished" in text
    assert "## world" in text
    assert "| sparcode - two-tower, 0 |" in text
    assert "learned codes only" in text
    assert f"`{BROKEN}` failed: " in text
    assert f"`{OTHER}`" in text
    assert str(world.folder) not in text
    rows = [line for line in text.splitlines() if line.startswith("| world: ")]
    outcomes = [row.split(" | ")[3] for row in rows]
    assert outcomes == ["met", "**missed**", "met", rows[3].split(" | ")[3], "met", "not measured"]
    document = json.loads((world.folder / "r.json").read_text())
    assert [row["state"] for row in document["cells"]] == ["done", "done", "failed"]
    assert str(world.folder) not in json.dumps(document)


def test_the_readme_gets_its_table_between_the_markers(results, world, copy):
    text = (world.folder / "README.md").read_text()
    assert text.startswith("# Title\n<!-- results:begin -->\n| ")
    assert text.endswith("<!-- results:end -->\ntail\n")
    assert "| world | " in text
    assert "old" not in text
    assert results.main([*copy.options, "--report"]) == 0
    assert (copy.folder / "README.md").read_text() == "no markers\n"


def test_seeds_are_pooled_users_first(results, script, copy):
    # A second seed is made of the first: values turned round, so that the mean of both is known.
    first, second = (copy.work / copy.cells[key].digest for key in (MAIN, OTHER))
    values = {name: np.array(array) for name, array in read_arrays(first / "values.safetensors").items()}
    turned = {name: array if name == "users" else array[::-1] for name, array in values.items()}
    script("grid.measure").write_arrays(second / "values.safetensors", turned)
    row = record(copy, MAIN) | {"seed": 1, "key": OTHER, "commits": ["other+"]}
    write_json(copy.work / "cells" / f"{copy.cells[OTHER].digest}.json", row)
    book = script("grid.figures").Book(list(copy.cells.values()), copy.work)
    found = book.paired("world", "sparcode", "two-tower")
    assert [each.seed for each in found] == ["0", "1", "all"]
    gap = values["sparcode:ndcg@10"] - values["two-tower:ndcg@10"]
    assert found[2].difference.difference == pytest.approx(gap.mean())
    expected = script("grid.figures").paired_difference((gap + gap[::-1]) / 2, np.zeros(len(gap)))
    assert found[2].difference[1:3] == pytest.approx(expected[1:3])
    assert results.main([*copy.options, "--report"]) == 0
    text = (copy.folder / "r.md").read_text()
    assert "| sparcode - two-tower, all |" in text
    assert "states of the code; do not compare" in text
    assert "files differed from the commits marked `+`" in text


def test_an_ablation_of_a_model_trained_anew_is_stale(results, copy):
    path = copy.work / "cells" / f"{copy.cells[MAIN].digest}.json"
    write_json(path, read_json(path) | {"model_hash": "another"})
    assert results.state_of(copy.cells[ABLATION], copy.work) == "stale"
    results.main([*copy.options, "--report"])
    assert f"`{ABLATION}` belongs to an earlier training" in (copy.folder / "r.md").read_text()


def test_another_protocol_and_again_without_training(results, script, copy):
    split = copy.cells["split/by-time/seed-0"]
    data = Path(copy.options[copy.options.index("--data") + 1])
    script("grid.measure").measure(split, data, copy.work)
    row = record(copy, split.key)
    assert {each["depth"] for each in row["results"]} == {20}
    assert "item-knn" not in {each["retriever"] for each in row["results"]}
    trained = (copy.work / split.digest / row["folder"] / "run.json").stat().st_mtime_ns
    results._forget([split], copy.work, runs=False)
    assert results.state_of(split, copy.work) == "missing"
    again = script("grid.measure").measure(split, data, copy.work)
    assert (copy.work / split.digest / row["folder"] / "run.json").stat().st_mtime_ns == trained
    for old, new in zip(row["results"], again["results"], strict=True):
        assert old["metrics"] == new["metrics"]
    results.main([*copy.options, "--report"])
    assert "mrr@20" in (copy.folder / "r.md").read_text()


def test_a_training_begun_at_another_commit_is_begun_anew(script, world, copy):
    cell = copy.cells[OTHER]
    folder = copy.work / cell.digest
    (folder / "run-00000000").mkdir(parents=True)
    write_json(folder / "training.json", {"commit": "another"})
    module = script("grid.measure")
    module._run_of(cell, folder, world.folder / "data" / "planted")
    assert not (folder / "run-00000000").exists()
    assert read_json(folder / "training.json")["commit"] == module._commit()


def test_digests_cover_what_is_measured_and_nothing_else(world, results):
    cells = results.GRID.cells()
    assert len({cell.digest for cell in cells}) == len(cells) == len({cell.key for cell in cells})
    assert [cell.digest for cell in results.GRID.cells()] == [cell.digest for cell in cells]
    for cell in cells:
        assert cell.config.seed == cell.seed
        assert cell.config.train.threads == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "mian"], "--only 'mian': no such cell"),
        (["--cell", "main/x"], "--cell 'main/x': no such cell"),
        (["--grid", "nowhere.py"], "expected a Python file that defines GRID"),
    ],
)
def test_wrong_options_are_one_line(results, arguments, message, capsys):
    assert results.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_without_data_the_option_is_named(results, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SPARCODE_DATA", raising=False)
    assert results.main(["--work", str(tmp_path)]) == 1
    assert "give --data FOLDER or set SPARCODE_DATA" in capsys.readouterr().err


def test_a_second_call_is_refused_while_one_runs(results, tmp_path, capsys):
    with results.only_one(tmp_path):
        assert results.main(["--data", str(tmp_path), "--work", str(tmp_path)]) == 1
    assert "in use by another call" in capsys.readouterr().err


def test_an_ablation_waits_for_its_main_cell_and_is_left_out_without_it(results, world, tmp_path, capsys):
    ran = []

    def run(cell):
        ran.append(cell.key)
        write_json(results.record_of(tmp_path, cell.digest), {"state": "done", "model_hash": "x"})
        return {"state": "done", "wall_seconds": 1.0}

    results.schedule([world.cells[ABLATION], world.cells[MAIN]], tmp_path, 2, run, lambda: None)
    assert ran == [MAIN, ABLATION]
    results.record_of(tmp_path, world.cells[MAIN].digest).unlink()
    results.schedule([world.cells[ABLATION]], tmp_path, 2, run, lambda: None)
    assert ran == [MAIN, ABLATION]
    assert "left out, main/world/seed-0 is not done" in capsys.readouterr().out


def test_an_interruption_ends_what_is_running(results, world, tmp_path):
    stopped = []

    def run(cell):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.schedule([world.cells[MAIN]], tmp_path, 1, run, lambda: stopped.append(True))
    assert stopped == [True]


def test_an_interrupted_cell_is_missing_and_a_killed_one_has_failed(results, world, tmp_path, monkeypatch):
    options = SimpleNamespace(work=tmp_path, data=world.folder, grid=None)
    cell, processes = world.cells[MAIN], results.Processes(options)
    script = f"print('at work in {tmp_path}', flush=True); import os; "
    monkeypatch.setattr(processes, "_command", lambda cell: [sys.executable, "-c", script + "os._exit(130)"])
    assert processes.run(cell)["error"] == "interrupted"
    assert results.state_of(cell, tmp_path) == "missing"
    monkeypatch.setattr(processes, "_command", lambda cell: [sys.executable, "-c", script + "os.kill(os.getpid(), 9)"])
    assert processes.run(cell)["error"] == "ended by signal 9; last line: at work in WORK"
    assert results.state_of(cell, tmp_path) == "failed"
    assert processes.alive == set()


def test_the_reason_of_a_failure_names_the_signal(results, tmp_path):
    (tmp_path / "log.txt").write_text("one\nerror: two\n\n")
    assert results.reason_of(tmp_path / "log.txt", 1) == "two"
    assert results.reason_of(tmp_path / "log.txt", -9) == "ended by signal 9; last line: two"
    (tmp_path / "log.txt").write_text("")
    assert results.reason_of(tmp_path / "log.txt", 1) == "nothing was written"
    assert results.one_thread_env()["NUMBA_NUM_THREADS"] == results.one_thread_env()["OMP_NUM_THREADS"] == "1"
