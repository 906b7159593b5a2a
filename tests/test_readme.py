"""Commands and Python of README.md: each command is parsed, and run on a small run where it reads one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun

README = Path(__file__).resolve().parent.parent / "README.md"
READS_A_RUN = {"query", "predict", "similar", "explain", "info", "evaluate", "benchmark", "export"}


def blocks(language: str) -> list[str]:
    """Return the content of all fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return every sparcode command line, continuation lines joined, comments dropped."""
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [line.partition(" # ")[0].strip() for line in text.splitlines() if line.startswith("sparcode ")]


def parse(arguments: list[str]) -> None:
    """Parse a command line down to the last subcommand, without running it."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("sparcode", list(arguments))
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest, parent=context)


def replaced(words: list[str], run: TinyRun, folder: Path) -> list[str]:
    """Put ids and files of the small run in place of those of the README."""
    values = {"--user": run.user, "--item": run.item, "--items": ",".join(run.items), "--deny": run.item}
    values["--where"] = "categories='group 1' and year>=1960"
    result = [words[0], str(run.folder)]
    for option, word in zip(words[1:], words[2:], strict=False):
        if word.startswith("-"):
            result.append(word)
        elif option == "--users":
            (folder / "users.txt").write_text(f"{run.user}\n", encoding="utf-8")
            result.append(str(folder / "users.txt"))
        else:
            in_folder = word.endswith((".json", ".parquet", ".onnx"))
            result.append(values.get(option, str(folder / word) if in_folder else word))
    return result


def reads_a_run(command: str) -> bool:
    """Tell whether a command reads a run; `benchmark --scale` is run by tests/scale, at a size that takes seconds."""
    return command.split()[1] in READS_A_RUN and "--scale" not in command


def test_the_readme_shows_commands() -> None:
    shown = {command.split()[1] for command in commands()}
    assert {"data", "train", "tune", "build-index", *READS_A_RUN} <= shown


@pytest.mark.parametrize("command", commands())
def test_command_parses(command: str) -> None:
    parse(shlex.split(command)[1:])


def test_a_wrong_command_does_not_parse() -> None:
    with pytest.raises(typer.TyperException):
        parse(["query", "runs/x", "--usr", "1"])


@pytest.mark.parametrize("command", [line for line in commands() if reads_a_run(line)])
def test_command_runs(command: str, tiny_run: TinyRun, tmp_path: Path) -> None:
    arguments = replaced(shlex.split(command)[1:], tiny_run, tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{arguments}: {result.output}"


def test_python_runs(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparcode import SparCode

    load = SparCode.load
    monkeypatch.setattr(SparCode, "train", lambda *_, **__: load(tiny_run.folder))
    monkeypatch.setattr(SparCode, "load", lambda _: load(tiny_run.folder))
    for code in blocks("python"):
        names: dict[str, Any] = {}
        code = code.replace('"50", "181"', ", ".join(f'"{item}"' for item in tiny_run.items[:2]))
        exec(compile(code, "README.md", "exec"), names)
        assert names["ids"].shape == names["scores"].shape == (1, 10)


def test_files_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (README.parent / link).exists()] == []
