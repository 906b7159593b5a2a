"""``sparcode embed``: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sparcode.semantic_id.embeddings import read_embeddings
from sparcode_cli.main import app


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["embed", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_several_sources_in_one_file(planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    text = run(planted, "--out", out, "--features", "auto", "--behaviour", "counts", "--width", 8)
    assert "features: width" in text
    assert "behaviour: width 8" in text
    assert f"wrote {out}: 60 items" in text
    assert len(read_embeddings(out)) == 60


def test_json_says_how_it_was_made(planted: Path, tmp_path: Path) -> None:
    options = ["--behaviour", "item2vec", "--width", 4, "--seed", 7, "--json"]
    result = CliRunner().invoke(app, ["embed", str(planted), "--out", str(tmp_path / "e"), *map(str, options)])
    about = json.loads(result.stdout)
    assert about["seed"] == 7
    assert about["sources"]["behaviour"]["method"] == "item2vec"
    first = read_embeddings(tmp_path / "e").vectors.tobytes()
    run(planted, "--out", tmp_path / "again", *options)
    assert read_embeddings(tmp_path / "again").vectors.tobytes() == first


def test_events_are_chosen_as_in_training(planted: Path, tmp_path: Path) -> None:
    few = ["--behaviour", "counts", "--width", 4, "--split-by", "time", "--time-cut", "0.8", "--k-core", 2]
    assert "split by time" in run(planted, "--out", tmp_path / "few.npy", *few)
    run(planted, "--out", tmp_path / "all.npy", "--behaviour", "counts", "--width", 4)
    first, second = (read_embeddings(tmp_path / name).vectors for name in ("few.npy", "all.npy"))
    assert not np.array_equal(first, second)


def test_new_items_by_a_recipe(planted: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "r.safetensors", tmp_path / "old.npy"
    run(planted, "--out", out, "--features", "auto", "--recipe", recipe)
    text = run(planted, "--out", tmp_path / "new.npy", "--like", recipe)
    assert "60 items" in text
    assert np.allclose(read_embeddings(tmp_path / "new.npy").vectors, read_embeddings(out).vectors, atol=1e-5)
    assert "names its sources" in run(planted, "--out", out, "--like", recipe, "--features", "auto", code=2)
    assert "no such file" in run(planted, "--out", out, "--like", tmp_path / "none", code=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "e.csv"], "written as .npy"),
        (["--out", "e.npy", "--text-columns", "nope"], "--text-columns nope: no such column"),
        (["--out", "e.npy", "--run", "nowhere"], "no run found"),
        (["--out", "e.npy", "--features", "nope"], "--features nope"),
    ],
)
def test_refusals_are_one_line(planted: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    arguments[1] = str(tmp_path / arguments[1])
    text = run(planted, *arguments, code=1)
    assert words in text
    assert len(text.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_recipe_has_a_file_of_its_own_and_is_of_use(planted: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "e.safetensors", tmp_path / "r.safetensors"
    for wrong in (out, tmp_path / "r.npy"):
        text = run(planted, "--out", out, "--features", "auto", "--recipe", wrong, code=2)
        assert "a name of its own that ends with .safetensors" in text
    text = run(planted, "--out", out, "--behaviour", "counts", "--recipe", recipe, code=2)
    assert "know nothing of new items" in text
    assert not list(tmp_path.iterdir())


def test_options_that_would_change_nothing(planted: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "r.safetensors", ["--out", tmp_path / "e.npy"]
    run(planted, *out, "--features", "auto", "--recipe", recipe)
    for option in (["--width", 3], ["--seed", 1], ["--fuse", "project"]):
        assert "leave the other options out" in run(planted, *out, "--like", recipe, *option, code=2)
    assert "--behaviour" in run(planted, *out, "--features", "auto", "--k-core", 2, code=2)


def test_one_new_item_twice_by_a_recipe(planted: Path, tmp_path: Path) -> None:
    recipe, table = tmp_path / "r.safetensors", pq.read_table(next(planted.glob("items.*")))
    run(planted, "--out", tmp_path / "e.npy", "--features", "auto", "--recipe", recipe)
    twice = pa.concat_tables([table.slice(0, 1)] * 2)
    key = table.column_names.index("item_id")
    ids = pa.array([f"new {row}" for row in range(2)])
    pq.write_table(twice.set_column(key, "item_id", ids), tmp_path / "new.parquet")
    assert "2 items" in run(tmp_path / "new.parquet", "--out", tmp_path / "new.npy", "--like", recipe)


def test_a_file_that_is_no_recipe(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"junk" * 9)
    text = run(planted, "--out", tmp_path / "e.npy", "--like", tmp_path / "r", code=1)
    assert "embed again with --recipe" in text


def test_wrong_usage() -> None:
    assert "--out" in run("items.parquet", code=2)
    assert "width" in run("items.parquet", "--out", "e.npy", "--width", 0, code=2)
