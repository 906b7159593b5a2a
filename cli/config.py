"""``sparcode config``: every configuration key with its default and meaning, and what a run or a file sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .command import group
from .output import in_json, print_table, say_lines

if TYPE_CHECKING:
    from sparcode.config import Config
    from sparcode.config_keys import Key

app = group("List configuration keys, show a configuration.")


@app.command("list")
def list_command(
    section: Annotated[
        str, typer.Argument(metavar="[SECTION]", help="A key or section, e.g. model or families.item.")
    ] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown page.")] = False,
    json: options.Json = None,
) -> None:
    """List configuration keys: default, values, meaning.

    "-": left open; then the data, or validation when the index is built, decide.
    """
    from sparcode.config_keys import described_keys

    keys = described_keys(section)
    if in_json([dataclasses.asdict(key) for key in keys], json):
        return
    if markdown:
        say_lines(markdown_page(keys))
    else:
        print_table(("key", "default", "values", "meaning"), ((k.name, shown(k), k.values, k.meaning) for k in keys))


@app.command("show")
def show_command(
    source: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run, or a TOML file.", show_default=False)],
    changes: Annotated[bool, typer.Option("--changes", help="Only what differs from the defaults.")] = False,
    json: options.Json = None,
) -> None:
    """Print the configuration of a run or file as TOML."""
    from sparcode.config import to_toml

    config = config_of(source)
    if not in_json(config.model_dump(), json):
        say_lines(to_toml(config, changes_only=changes))


def config_of(source: Path) -> Config:
    """Return the configuration of a run folder or of a TOML file."""
    from sparcode.config import load_config
    from sparcode.run import Run

    return Run.open(source).config if source.is_dir() else load_config(source)


def shown(key: Key) -> str:
    """Return the default as TOML spells it, ``-`` where it is left open."""
    from sparcode.config import toml_value

    return "-" if key.default is None or key.default == {} else toml_value(key.default)


def markdown_page(keys: Iterable[Key]) -> str:
    """Return docs/configuration.md: a table a section."""
    lines = ["# Configuration keys", "", *_INTRODUCTION]
    section: Any = None
    for key in keys:
        if (found := key.name.rpartition(".")[0]) != section:
            section = found
            lines += ["", f"## {section or 'the whole'}", "", *_HEAD]
        lines.append("| " + " | ".join(map(_cell, (f"`{key.name}`", shown(key), key.values, key.meaning))) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_HEAD = ("| key | default | values | meaning |", "|---|---|---|---|")
_INTRODUCTION = (
    "Written by `sparcode config list --markdown`; `sparcode config list SECTION` shows the same in a terminal.",
    "A configuration file lists what differs from these defaults; `--set KEY=VALUE` overrides one key, in Python",
    '`config={"model.heads": 4}`. `-`: left open, decided from the data or on validation; a run keeps what was decided',
    "(`sparcode config show RUN`).",
)
