"""``sparcode query``: recommendations for one user, one list of items, or one set of features."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .output import note, print_json, print_table

User = Annotated[str | None, typer.Option("--user", metavar="ID", help="A user of the training data.")]
Items = Annotated[
    str | None, typer.Option("--items", metavar="ID,ID,...", help="A history, oldest first; '' = no history.")
]
Features = Annotated[
    str | None, typer.Option("--features", metavar="JSON", help="Features of a user without history: '{\"age\": 30}'.")
]
Rescore = Annotated[
    int | None, typer.Option("--rescore", metavar="R", min=0, help="Candidates scored exactly; 0 = posting lists only.")
]
IncludeSeen = Annotated[
    bool | None,
    typer.Option(
        "--include-seen/--leave-out-seen",
        help="Answer with items of the history too, or not; default: as trained (query.include_seen).",
    ),
]


def query_command(
    run: options.RunFolder,
    user: User = None,
    items: Items = None,
    features: Features = None,
    k: options.Count = options.DEFAULT_COUNT,
    rescore: Rescore = None,
    include_seen: IncludeSeen = None,
    where: options.ItemsWhere = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    json: options.Json = False,
) -> None:
    """Recommend items to one user or history.

    The query is given by exactly one of --user, --items and --features.
    """
    if sum(value is not None for value in (user, items, features)) != 1:
        raise typer.BadParameter("give exactly one of --user ID, --items ID,ID,... and --features JSON")
    subject = query_subject(user, items, features)
    filters = options.item_filters(where, allow, deny)
    show_answers(query(run, subject, k=k, rescore=rescore, include_seen=include_seen, **filters), k, json)


def query_subject(user: str | None, items: str | None, features: str | None) -> dict[str, Any]:
    """Return who asks, as the keyword argument of ``SparCode.recommend``."""
    if user is not None:
        return {"users": [user]}
    if items is not None:
        return {"histories": [[part.strip() for part in items.split(",") if part.strip()]]}
    return {"features": [_parse_features(features or "")]}


def query(run: Path, subject: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    """Return the answers, best first: item_id, score, title, filled. ``settings``: as of ``SparCode.recommend``."""
    from sparcode.api import SparCode

    model = SparCode.load(run)
    options.check_count(settings.get("k", options.DEFAULT_COUNT), model.pipeline.item_count)
    return model.recommend_items(**subject, **settings)[0]


def show_answers(answers: list[dict[str, Any]], k: int, json: bool) -> None:
    """Write answers as JSON or as a table, and a note on those that popularity filled and those that are missing."""
    if json:
        print_json(answers)
    else:
        print_answers(answers)
    filled = sum(answer["filled"] for answer in answers)
    if filled:
        note(f"{filled} of {len(answers)} filled by popularity: the lists that were read hold no other eligible item")
    if len(answers) < k:
        note(f"{len(answers)} of {k} answered: no other item is eligible")


def print_answers(answers: list[dict[str, Any]]) -> None:
    """Write answers as a table; items filled in by popularity have no score."""
    rows = [
        (place, answer["item_id"], _score(answer), answer.get("title"), "popular" if answer["filled"] else "")
        for place, answer in enumerate(answers, 1)
    ]
    print_table(("#", "item", "score", "title", ""), rows)


def _score(answer: dict[str, Any]) -> float | None:
    return None if answer["filled"] else answer["score"]


def _parse_features(text: str) -> dict[str, Any]:
    try:
        features = json_module.loads(text)
    except json_module.JSONDecodeError as problem:
        raise typer.BadParameter(f"not valid JSON: {problem}", param_hint="--features") from None
    if not isinstance(features, dict):
        raise typer.BadParameter("expected a JSON object such as '{\"age\": 30}'", param_hint="--features")
    return features
