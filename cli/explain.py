"""``sparcode explain``: which codes brought an item to a user, and what rescoring changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .output import plain, print_json, print_pairs, print_table

User = Annotated[str, typer.Option("--user", metavar="ID", help="A user of the training data.", show_default=False)]
Item = Annotated[str, typer.Option("--item", metavar="ID", help="Item of the catalogue.", show_default=False)]


def explain_command(run: options.RunFolder, user: User, item: Item, json: options.Json = False) -> None:
    """Show what brings an item to a user."""
    explanation = explain(run, user, item)
    if json:
        print_json(explanation)
    else:
        print_explanation(explanation)


def explain(run: Path, user: str, item: str) -> dict[str, Any]:
    """Return the explanation as a JSON-able dictionary."""
    from sparcode.api import SparCode

    return plain(SparCode.load(run).explain(user=user, item=item))


def print_explanation(explanation: dict[str, Any]) -> None:
    """Write single values as pairs and lists of contributions as tables."""
    tables = {key: value for key, value in explanation.items() if _is_table(value)}
    print_pairs({key: value for key, value in explanation.items() if key not in tables})
    for name, rows in tables.items():
        typer.echo(f"\n{name}")
        headers = list(rows[0])
        print_table(headers, [[_text(row.get(header)) for header in headers] for row in rows])


def _text(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
