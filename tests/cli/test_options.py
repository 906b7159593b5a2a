"""Who wins: a named option over ``--set``, that over a file, that over the default; and what excludes each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from sparcode_cli.main import app
from sparcode_cli.options import data_changes, resolve_config

if TYPE_CHECKING:
    from tests.conftest import TinyRun

FILE = 'seed = 7\n[data]\nk_core = 3\nmin_rating = 2.0\ncolumns = {user = "reader", item = "book"}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    return path


def named(**given: object) -> dict[str, object]:
    return data_changes(**dict.fromkeys(("columns", "where", "min_rating", "k_core", "split_by", "time_cut")) | given)


def test_a_named_option_wins_over_set_over_a_file(file: Path) -> None:
    resolved = resolve_config(file, ["data.k_core=4", "data.min_rating=3", "model.heads=2"], named(k_core=5))
    assert (resolved.data.k_core, resolved.data.min_rating, resolved.model.heads) == (5, 3.0, 2)
    assert (resolved.data.columns, resolved.seed) == ({"user": "reader", "item": "book"}, 7)


def test_columns_of_the_command_line_win_and_the_others_stay(file: Path) -> None:
    resolved = resolve_config(file, None, named(columns="user=customer,time=at"))
    assert resolved.data.columns == {"user": "customer", "item": "book", "time": "at"}


@pytest.mark.parametrize(("seed", "wanted"), [(None, 7), (0, 0), (3, 3)])
def test_a_seed_of_the_command_line_wins_0_too(file: Path, seed: int | None, wanted: int) -> None:
    assert resolve_config(file, None, {}, seed).seed == wanted


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--policy", "length", "--budget-mb", "1"), "--budget-mb belongs to --policy budget, not to --policy length"),
        (("--policy", "budget", "--bias", "1"), "--bias belongs to --policy global-bias, not to --policy budget"),
        (("--length", "5", "--budget-mb", "1"), "--budget-mb and --length exclude each other: give one of them"),
        (("--policy", "budget"), "--policy budget needs --budget-mb X or --postings-per-query Y"),
        (("--policy", "length"), "--policy length needs --length L"),
        (("--length", "5", "--item-floor", "2"), "--item-floor belongs to --policy budget, not to --policy length"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_of_two_policies_are_refused(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    result = CliRunner().invoke(app, ["build-index", str(tmp_path), *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "subjects",
    [(), ("--user", "1", "--items", "2"), ("--items", "2", "--features", "{}")],
    ids=["none", "two", "others"],
)
def test_a_query_has_one_subject(tmp_path: Path, subjects: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["query", str(tmp_path), *subjects])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give exactly one of --user ID, --items ID,ID,... and --features JSON" in result.stderr


def test_one_thing_goes_to_stdout(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["predict", str(tmp_path), "--users", "-", "--out", "-", "--json", "-"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "both --json and --out ask for stdout" in result.stderr


def test_a_split_that_is_named_is_evaluated(tiny_run: TinyRun) -> None:
    for split in ("test", "validation"):
        arguments = ["evaluate", str(tiny_run.folder), "--retriever", "popular", "--split", split, "--json"]
        assert json.loads(CliRunner().invoke(app, arguments).stdout)["split"] == split
