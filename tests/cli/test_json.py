"""``--json`` means one thing: the result as JSON, on stdout or in a file. ``--quiet`` too. Examples parse."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from sparcode_cli.examples import EXAMPLES
from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def commands(tiny_run: TinyRun) -> dict[str, list[object]]:
    folder = tiny_run.folder
    return {
        "info": ["info", folder],
        "query": ["query", folder, "--user", "u000", "-k", 2],
        "similar": ["similar", folder, "--item", "100", "-k", 2],
        "explain": ["explain", folder, "--user", "u000", "--item", "100"],
        "validate": ["data", "validate", tiny_run.data],
        "config list": ["config", "list", "model"],
        "config show": ["config", "show", folder],
        "evaluate": ["evaluate", folder, "--retriever", "popular"],
    }


NAMES = ["info", "query", "similar", "explain", "validate", "config list", "config show", "evaluate"]


@pytest.mark.parametrize("name", NAMES)
def test_json_has_one_meaning(name: str, tiny_run: TinyRun, tmp_path: Path) -> None:
    words, file = commands(tiny_run)[name], tmp_path / "made" / "result.json"
    text = run(*words).stdout
    content = json.loads(run(*words, "--json").stdout)
    assert json.loads(run(*words, "--json", "-").stdout) == content
    assert json.loads(run(*words, "--json=-").stdout) == content
    for given in (["--json", file], [f"--json={file}"]):
        result = run(*words, *given)
        assert result.stdout == text, "the text is printed as ever"
        assert f"wrote {file}" in result.stderr
        assert json.loads(file.read_text()) == content
        file.unlink()


def test_the_run_may_follow(tiny_run: TinyRun, tmp_path: Path) -> None:
    wanted = run("info", tiny_run.folder, "--json").stdout
    assert run("info", "--json", tiny_run.folder).stdout == wanted
    assert run("info", "--json", "-", tiny_run.folder).stdout == wanted
    run("info", "--json", tmp_path / "a.json", tiny_run.folder)
    run("info", tiny_run.folder, "--json", tmp_path / "no_ending")
    assert json.loads((tmp_path / "no_ending").read_text()) == json.loads(wanted)


@pytest.mark.parametrize(("target", "code"), [("", 2), ("DIR", 1), ("DIR/file/x.json", 1), ("DIR/x.parquet", 2)])
def test_targets_are_looked_at_before_the_work(target: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("info", tmp_path / "no run", f"--json={target.replace('DIR', str(tmp_path))}", code=code)
    assert len(result.stderr.splitlines()) == 1
    assert "no run found" not in result.stderr


def test_per_query_ranks_are_parquet(tiny_run: TinyRun, tmp_path: Path) -> None:
    result = run("evaluate", tiny_run.folder, "--per-query", tmp_path / "ranks.csv", code=2)
    assert "expected a name that ends with .parquet or .pq" in result.stderr


def test_quiet_leaves_results_warnings_and_errors(tiny_run: TinyRun) -> None:
    words = ["query", tiny_run.folder, "--items", "gone", "-k", 2]
    loud = run(*words)
    assert len(loud.stderr.splitlines()) == 2
    for quiet in (run("-q", *words), run(*words, "-q"), run("--quiet", *words, "--quiet")):
        assert quiet.stdout == loud.stdout
        assert quiet.stderr.splitlines() == loud.stderr.splitlines()[:1], "the warning"
    assert run("-q", "query", tiny_run.folder, "--user", "nobody", code=1).stderr.startswith("error: ")
    assert run(*words).stderr == loud.stderr, "of that one command only"


def test_every_command_with_a_result_takes_json() -> None:
    without = {"train", "tune"}  # they leave a folder and a file, and say so
    for name in EXAMPLES.keys() - without:
        assert "--json [FILE]" in run(*name.split(), "--help").stdout, name


def test_json_may_be_said_twice(tiny_run: TinyRun) -> None:
    assert json.loads(run("info", "--json", tiny_run.folder, "--json").stdout)["items"] == 60


def test_every_command_has_examples() -> None:
    root = typer.main.get_command(app)
    names = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        names |= {f"{name} {inner}" for inner in getattr(command, "commands", {})} or {name}
    assert set(EXAMPLES) == names


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines])
def test_examples_parse_and_are_shown(name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"\n  {line}\n" in run(*name.split(), "--help").stdout
    words = shlex.split(line.rpartition("| ")[2])
    assert " ".join(words[: 1 + len(name.split())]) == f"sparcode {name}"
    command = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]  # type: ignore[attr-defined]
    assert command.make_context(name, words[1 + len(name.split()) :]).args == []
