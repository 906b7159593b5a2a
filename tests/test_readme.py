"""README.md and docs/: every command parses, and the README's run in their printed order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from sparcode_cli.main import app

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SETS_UP = ("make ", "pip ", "git ")
MOST_LINES = 150
FILMS = 700
WORDS = ("Blue", "Last", "Lost", "Long", "Red", "Dark", "Old", "Night", "Train", "Garden", "River", "Summer", "Letter")
WORDS += ("House", "Road", "Dance", "Stranger", "City")


def blocks(path: Path, *languages: str) -> list[tuple[str, str]]:
    """Return (language, content) of the fenced blocks of some languages, in order."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```({'|'.join(languages)})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[str]:
    """Return every sparcode command line of a page, continuation lines joined, comments and pipes dropped."""
    text = "\n".join(content for _, content in blocks(path, "bash")).replace("\\\n", " ")
    lines = [line.partition(" # ")[0].rpartition(" | ")[2].strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("sparcode ")]


def parse(arguments: list[str]) -> None:
    """Parse a command line down to the last subcommand, without running it."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("sparcode", list(arguments))
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest, parent=context)


@pytest.mark.parametrize("command", sorted({command for page in PAGES for command in commands(page)}))
def test_command_parses(command: str) -> None:
    parse(shlex.split(command)[1:])


def test_a_wrong_command_does_not_parse() -> None:
    with pytest.raises(typer.TyperException):
        parse(["query", "runs/x", "--usr", "1"])


def write_stand_in(folder: Path) -> None:
    """Write a small planted set under the file names of ml-100k: 80 users, 700 films of four kinds."""
    rng, kinds = np.random.default_rng(0), ("Comedy", "Drama", "Action", "Sci-Fi")
    events = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(1, 81):
        seen = rng.permutation(np.arange(user % 4, FILMS, 4))[: rng.integers(8, 30)] + 1
        events += [f"{user}\t{film}\t{rng.integers(1, 6)}\t{900_000_000 + place}" for place, film in enumerate(seen)]
    films = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    for film in range(1, FILMS + 1):
        title = f"{WORDS[film % 7]} {WORDS[7 + film % 11]} {film}"
        films.append(f"{film}\t{title}\t{1940 + film % 60}\t{kinds[(film - 1) % 4]}")
    users = ["user_id:token\tage:token", *(f"{user}\t{20 + user % 50}" for user in range(1, 81))]
    folder.mkdir(parents=True)
    for ending, lines in (("inter", events), ("item", films), ("user", users)):
        (folder / f"ml-100k.{ending}").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_readme_runs_in_its_printed_order_in_an_empty_folder(tmp_path: Path) -> None:
    write_stand_in(tmp_path / "cache" / "data" / "ml-100k")
    here = tmp_path / "here"
    here.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "SPARCODE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    ran = 0
    for language, content in blocks(README, "bash", "python"):
        if content.startswith(SETS_UP):
            continue
        command = (
            [sys.executable, "-c", content] if language == "python" else ["bash", "-eo", "pipefail", "-c", content]
        )
        result = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{content}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        ran += 1
    assert ran >= 5
    assert (here / "predictions.parquet").is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_of_a_page_compiles(page: Path) -> None:
    for _, content in blocks(page, "python"):
        compile(content, str(page), "exec")


def test_the_readme_is_short_and_names_both_commands_of_a_fresh_machine() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert {"make demo", "make test"} <= {line.partition(" #")[0].strip() for line in text.splitlines()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_a_page_links_to_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
