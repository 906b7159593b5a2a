"""``sparcode info``: what a run holds, and whether its files are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .output import plain, print_json, print_pairs

Verify = Annotated[bool, typer.Option("--verify", help="Check digests and posting ranges of the whole index.")]


def info_command(run: options.RunFolder, verify: Verify = False, json: options.Json = False) -> None:
    """Describe a run: data, model, index, state."""
    content = info(run, verify)
    if json:
        print_json(content)
    else:
        print_pairs(content)


def info(run: Path, verify: bool = False) -> dict[str, Any]:
    """Return the description of a run as a JSON-able dictionary."""
    from sparcode.api import SparCode

    return plain(SparCode.load(run).info(verify=verify))
