"""``sparcode explain``: which codes brought an item to a user, and what rescoring changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .output import in_json, plain, print_pairs, print_table, say
from .query import IncludeSeen, history_of, item_filters, open_run

User = Annotated[str | None, typer.Option("--user", metavar="ID", help="A user of the training data.")]
Items = Annotated[
    str | None, typer.Option("--items", metavar="ID,ID,...", help="A history in place of a user, oldest first.")
]
Item = Annotated[str, typer.Option("--item", metavar="ID", help="Item of the catalogue.", show_default=False)]


def explain_command(
    run: options.RunFolder,
    item: Item,
    user: User = None,
    items: Items = None,
    include_seen: IncludeSeen = None,
    where: options.ItemsWhere = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    unknown: options.Unknown = None,
    json: options.Json = None,
) -> None:
    """Show what brings an item to a user.

    The user is given by exactly one of --user and --items.
    """
    if (user is None) == (items is None):
        raise typer.BadParameter("give exactly one of --user ID and --items ID,ID,...")
    filters = {"where": where, "allow": allow, "deny": deny, "unknown": unknown}
    explanation = explain(run, item, user, items, include_seen, filters)
    if not in_json(explanation, json):
        print_explanation(explanation)


def explain(
    run: Path, item: str, user: str | None, items: str | None, include_seen: bool | None, filters: dict[str, str | None]
) -> dict[str, Any]:
    """Return the explanation as a JSON-able dictionary."""
    model = open_run(run)
    subject = {"user": user} if items is None else {"history": history_of(model, items)}
    return plain(model.explain(**subject, item=item, include_seen=include_seen, **item_filters(model, **filters)))


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
    say("")
    say(f"lists read for the user that hold the item: {len(lists) or 'none'}")
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
