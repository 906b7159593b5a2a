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
    """Write what the item scores, and the lists that hold it, the largest contribution first."""
    print_pairs(
        {
            "item": explanation["item_id"],
            "title": explanation["title"],
            "in the history": "yes" if explanation["seen"] else "no",
            "recommended": _recommended(explanation),
            "place by exact score": _place(explanation),
            "cached score": f"{explanation['cached_score']:.4g} (sum of the lists below)",
            "exact score": _exact(explanation),
        }
    )
    lists, total = explanation["lists"], explanation["cached_score"]
    typer.echo(f"\nlists read for the user that hold the item: {len(lists) or 'none'}")
    if lists:
        headers = ("list", "weight", "impact", "contribution", "share")
        print_table(headers, [[_name(part), *_amounts(part, total)] for part in lists])


def _exact(explanation: dict[str, Any]) -> str:
    total, model, lists = (explanation[f"{part}_score"] for part in ("exact", "interaction", "evidence"))
    return f"{total:.4g} = {model:.4g} all-to-all score + {lists:.4g} evidence of the lists"


def _place(explanation: dict[str, Any]) -> str:
    if explanation["exhaustive_rank"] is None:
        return "behind the first 1,000"
    among = "all items" if explanation["seen"] else "all unseen items"
    return f"{explanation['exhaustive_rank'] + 1:,} of {among}"


def _recommended(explanation: dict[str, Any]) -> str:
    reasons = {
        "seen": "no: it is in the history, and queries leave that out; --include-seen ranks it",
        "filtered": "no: --where, --allow or --deny leave it out",
    }
    return reasons.get(explanation["excluded_because"], "yes, where its score and the number of answers allow")


def _name(part: dict[str, Any]) -> str:
    if part["family"] == "item":
        return f"after item {part.get('item_id', part['code'])} {part.get('title') or ''}".rstrip()
    if "word" in part:
        return f"{part['family']} {part['word']}"
    code = part["code"]
    return f"{part['family']} code {' '.join(map(str, code)) if isinstance(code, list) else code}"


def _amounts(part: dict[str, Any], total: float) -> list[Any]:
    share = f"{100 * part['contribution'] / total:.0f} %" if total else ""
    return [part["weight"], part["impact"], part["contribution"], share]
