"""Bad input, the whole way through the commands: one line, an exit code, and what was there before still answers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun

HEADER = "user,item,time\n"
GOOD = HEADER + "".join(f"{user},{item},{item}\n" for user in range(6) for item in range(user, user + 6))
TINY = [part for size in ("model.width=8", "quantizer.codewords=4", "train.epochs=1", "train.threads=1",
        "scorer.hidden=4") for part in ("--set", size)]  # fmt: skip


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object, code: int = 1) -> str:
    """Run a command that must fail with one line, and return the line."""
    result = invoke(*arguments)
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("warning: ", "columns: "))]
    assert (result.exit_code, result.stdout, len(lines)) == (code, "", 1), result.output
    assert "unexpected" not in lines[0]
    return lines[0]


@pytest.fixture
def copied(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    return tmp_path / "run"


TABLES = {
    "missing column": ("a,b,c\n1,2,3\n", "no user column"),
    "ambiguous column": ("user,user_id,item,time\n1,1,2,3\n", "ambiguous user column"),
    "column twice": ("user,user,item,time\n1,1,2,3\n", "several columns named 'user'"),
    "empty file": ("", "is empty"),
    "header only": (HEADER, "no rows"),
    "null time": (HEADER + "1,2,\n1,3,4\n", "row 1 has no time"),
    "NaN time": (HEADER + "1,2,nan\n1,3,4\n", "row 1 has no time"),
    "infinite time": (HEADER + "1,2,inf\n1,3,4\n", "row 1 has the time inf"),
    "negative time": (HEADER + "1,2,-5\n1,3,4\n", "row 1 has the time -5"),
    "one-item users": (HEADER + "1,2,1\n2,3,4\n3,4,5\n", "no user has 2 training events"),
    "not UTF-8": (b"user,item,time\n\xff\xfe,2,1\n", "save it as UTF-8"),
    "ragged rows": (HEADER + "1,2,1\n1,3\n", "line 3 has 2 fields, expected 3"),
}


@pytest.mark.parametrize("case", TABLES)
@pytest.mark.parametrize("earlier", [False, True])
def test_bad_tables_stop_training(case: str, earlier: bool, tmp_path: Path, copied: Path, tiny_run: TinyRun) -> None:
    content, message = TABLES[case]
    file = tmp_path / "bad.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    out = copied if earlier else tmp_path / "new"
    assert message in refused("train", file, "--out", out, *TINY, *(["--overwrite"] if earlier else []))
    if earlier:
        assert invoke("query", out, "--user", tiny_run.user).exit_code == 0
    else:
        assert not out.exists()


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("model.heads=many", "model.heads"),
        ("model.haeds=2", "model.heads"),
        ("quantizer.books=3", "does not divide"),
        ("model.attention_heads=3", "does not divide"),
    ],
)
def test_a_bad_setting_keeps_the_earlier_run(setting: str, word: str, copied: Path, tiny_run: TinyRun) -> None:
    assert word in refused("train", tiny_run.data, "--out", copied, "--overwrite", "--set", setting)
    assert invoke("query", copied, "--user", tiny_run.user).exit_code == 0


def test_resume_with_other_settings_or_data(copied: Path, tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(GOOD)
    out = tmp_path / "resumed"
    assert invoke("train", tmp_path / "other.csv", "--out", out, "--no-baselines", *TINY).exit_code == 0
    assert "configuration differs" in refused("train", tmp_path / "other.csv", "--out", out, "--resume")
    assert "not on" in refused("-q", "train", tiny_run.data, "--out", out, "--resume", "--no-baselines", *TINY)


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(GOOD)
    assert "is a file" in refused("train", tmp_path / "good.csv", "--out", tmp_path / "good.csv", *TINY)
    assert (tmp_path / "good.csv").read_text() == GOOD


def test_unknown_user_and_item(tiny_run: TinyRun) -> None:
    assert "nobody" in refused("query", tiny_run.folder, "--user", "nobody")
    assert "nothing" in refused("similar", tiny_run.folder, "--item", "nothing")
    assert "nothing" in refused("explain", tiny_run.folder, "--user", tiny_run.user, "--item", "nothing")


@pytest.mark.parametrize("k", [61, 99999999999])
def test_more_answers_than_items(k: int, tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text(tiny_run.user)
    out = tmp_path / "p.parquet"
    assert "60 items" in refused("query", tiny_run.folder, "--user", tiny_run.user, "-k", k)
    assert "60 items" in refused("similar", tiny_run.folder, "--item", tiny_run.item, "-k", k)
    assert "60 items" in refused("predict", tiny_run.folder, "--users", tmp_path / "users.txt", "--out", out, "-k", k)
    assert not out.exists()


def test_no_answers_asked(tiny_run: TinyRun) -> None:
    assert "-k" in refused("query", tiny_run.folder, "--user", tiny_run.user, "-k", 0, code=2)
    assert "--rescore" in refused("query", tiny_run.folder, "--user", tiny_run.user, "--rescore", -1, code=2)


def test_results_that_cannot_be_written(tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text(tiny_run.user)
    assert str(tmp_path) in refused("predict", tiny_run.folder, "--users", tmp_path / "users.txt", "--out", tmp_path)
    assert str(tmp_path) in refused("evaluate", tiny_run.folder, "--json", tmp_path)
    assert str(tmp_path) in refused("benchmark", tiny_run.folder, "--json", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["users.txt"]


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) * 2 // 3] ^= 0x10
        path.write_bytes(content)


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the files below a folder and what they hold."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SERVED = ["config.toml", "query.json", "data/items.arrow", "data/serving.arrow", "model/encoder.safetensors",
          "model/rescorer.safetensors", "model/rescorer.json",
          "index/segs/*/postings.bin", "index/CURRENT"]  # fmt: skip


@pytest.mark.parametrize("how", ["deleted", "truncated"])
@pytest.mark.parametrize("name", SERVED)
def test_incomplete_files_are_named(name: str, how: str, copied: Path, tiny_run: TinyRun) -> None:
    file = next(copied.glob(name))
    damage(file, how)
    line = refused("query", copied, "--user", tiny_run.user)
    assert str(copied) in line
    assert "again" in line or "build" in line


FLIPPED = [*(name for name in SERVED if not name.endswith((".toml", "query.json"))), "model/codes.safetensors",
           "model/transitions.safetensors", "model/two_tower.safetensors", "data/train.arrow"]  # fmt: skip


@pytest.mark.parametrize("name", FLIPPED)
def test_verify_finds_a_flipped_bit(name: str, copied: Path) -> None:
    file = next(copied.glob(name))
    damage(file, "flipped")
    line = refused("info", copied, "--verify")
    # The model's JSON files have one digest together.
    assert str(file if file.suffix != ".json" else file.parent) in line


@pytest.mark.parametrize("name", ["index/segs/*/postings.bin", "model/codes.safetensors", "data/train.arrow"])
def test_verify_names_the_file_what_was_found_and_what_was_expected(name: str, copied: Path) -> None:
    file = next(copied.glob(name))
    damage(file, "flipped")
    line = refused("info", copied, "--verify")
    found = r"damaged: .*SHA-256.* is \w{12}\.\.\., .* \w{12}\.\.\.; "
    assert re.search(re.escape(f"{file} is ") + found, line), line


def test_verify_says_in_one_line_that_all_is_good(copied: Path) -> None:
    for options, answer in (([], "no (--verify checks them)"), (["--verify"], "yes, all digests and postings agree")):
        result = invoke("info", copied, *options)
        assert result.exit_code == 0
        assert [line.split(None, 2)[2] for line in result.stdout.splitlines() if "files verified" in line] == [answer]


@pytest.mark.parametrize("option", ["--bias", "--density", "--budget-mb", "--postings-per-query"])
def test_a_policy_that_is_no_number(option: str, copied: Path, tiny_run: TinyRun) -> None:
    assert "nan" in refused("build-index", copied, option, "nan")
    assert invoke("query", copied, "--user", tiny_run.user).exit_code == 0


@pytest.mark.parametrize("how", ["deleted", "truncated", "flipped"])
@pytest.mark.parametrize("name", ["codes", "transitions"])
def test_a_damaged_model_is_not_built_and_the_earlier_index_stays(
    name: str, how: str, copied: Path, tiny_run: TinyRun
) -> None:
    file = copied / "model" / f"{name}.safetensors"
    whole, index = file.read_bytes(), contents(copied / "index")
    damage(file, how)
    assert "train the run again" in refused("build-index", copied)
    assert "train the run again" in refused("query", copied, "--user", tiny_run.user)
    file.write_bytes(whole)
    assert contents(copied / "index") == index
    assert invoke("query", copied, "--user", tiny_run.user).exit_code == 0


def test_a_world_is_refused_in_the_words_of_the_command(tmp_path: Path) -> None:
    small = ["data", "generate", "--items", "100", "--users", "50", "--out", tmp_path / "world"]
    assert "error: --events 20: expected 3 to a twelfth of the items" in refused(*small)
