"""``sparcode info``: what a run holds, and whether its files are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .output import in_json, plain, print_pairs

Verify = Annotated[bool, typer.Option("--verify", help="Check every digest of the run, and every posting.")]


def info_command(run: options.RunFolder, verify: Verify = False, json: options.Json = None) -> None:
    """Describe a run: data, model, index, state."""
    content = info(run, verify)
    if not in_json(content, json):
        print_pairs(readable(content))


def readable(content: dict[str, Any]) -> dict[str, Any]:
    """Return the description with bytes in MB and the technical names spelled out."""
    shown = dict(content)
    sizes = {name: shown.pop(f"{name}_bytes") for name in ("cache", "rescoring", "encoder", "attribute")}
    shown["memory"] = {f"{name} MB": f"{size / 1e6:.2f}" for name, size in sizes.items()}
    shown["index"] = dict(shown["index"])
    families = shown["index"].pop("families")
    shown["index"]["lists"] = ", ".join(f"{family['lists']:,} {family['name']}" for family in families)
    shown["index"] |= {"built with": shown["index"].pop("info")}
    shown["query settings"] = shown.pop("query")
    shown["training"] = shown.pop("training")
    shown["files verified"] = (
        "yes, all digests and postings agree" if shown.pop("verified") else "no (--verify checks them)"
    )
    return shown


def info(run: Path, verify: bool = False) -> dict[str, Any]:
    """Return the description of a run as a JSON-able dictionary."""
    from sparcode.api import SparCode

    return plain(SparCode.load(run).info(verify=verify))
