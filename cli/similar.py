"""``sparcode similar``: items like one item, through the same index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .query import query, show_answers

Item = Annotated[str, typer.Option("--item", metavar="ID", help="Item of the catalogue.", show_default=False)]


def similar_command(
    run: options.RunFolder,
    item: Item,
    k: options.Count = options.DEFAULT_COUNT,
    where: options.ItemsWhere = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    unknown: options.Unknown = None,
    json: options.Json = None,
) -> None:
    """Find items like one item, through the index."""
    filters = {"where": where, "allow": allow, "deny": deny, "unknown": unknown or "raise"}
    show_answers(similar(run, item, k, filters), k, json)


def similar(run: Path, item: str, k: int, filters: dict[str, str | None]) -> list[dict[str, Any]]:
    """Return the answers, best first: item_id, score, title, filled. ``filters``: where, allow, deny, unknown."""
    return query(run, {"histories": [[item]]}, k=k, filters=filters)
