"""``sparcode query``: recommendations for one user, one list of items, or one set of features."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .ids import ids_or_file, read_ids, split_ids
from .output import STDOUT, in_json, note, print_table

if TYPE_CHECKING:
    from sparcode.api import SparCode

User = Annotated[str | None, typer.Option("--user", metavar="ID", help="A user of the training data.")]
Items = Annotated[
    str | None, typer.Option("--items", metavar="ID,ID,...", help="A history, oldest first; '' = none, - = stdin.")
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
    unknown: options.Unknown = None,
    json: options.Json = None,
) -> None:
    """Recommend items to one user or history.

    The query is given by exactly one of --user, --items and --features.
    """
    if sum(value is not None for value in (user, items, features)) != 1:
        raise typer.BadParameter("give exactly one of --user ID, --items ID,ID,... and --features JSON")
    subject = query_subject(user, items, features)
    filters = {"where": where, "allow": allow, "deny": deny, "unknown": unknown}
    answers = query(run, subject, k=k, rescore=rescore, include_seen=include_seen, filters=filters)
    show_answers(answers, k, json)


def query_subject(user: str | None, items: str | None, features: str | None) -> dict[str, Any]:
    """Return who asks, as a keyword argument of ``SparCode.recommend``; items are still the text that names them."""
    if user is not None:
        return {"users": [user]}
    return {"histories": items} if items is not None else {"features": [_parse_features(features or "")]}


def open_run(run: Path) -> SparCode:
    """Open a run."""
    from sparcode.api import SparCode

    return SparCode.load(run)


def query(
    run: Path, subject: dict[str, Any], *, filters: Mapping[str, str | None] = MappingProxyType({}), **settings: Any
) -> list[dict[str, Any]]:
    """Return the answers, best first: item_id, score, title, filled.

    ``subject``: as ``query_subject`` gives it. ``filters``: where, allow, deny, unknown as texts of the command line;
    ``settings``: as of ``SparCode.recommend``.
    """
    model = open_run(run)
    options.check_count(settings.get("k", options.DEFAULT_COUNT), model.pipeline.item_count)
    if isinstance(subject.get("histories"), str):
        subject = {"histories": [history_of(model, subject["histories"])]}
    return model.recommend_items(**subject, **settings, **item_filters(model, **filters))[0]


def history_of(model: SparCode, text: str) -> list[Any]:
    """Return the item ids of ``--items``; ``-`` reads them from stdin."""
    known = model.run.dataset.item_ids
    if text == STDOUT and text not in known:
        return read_ids(text, "item", known)
    return split_ids(text, known, "--items")


def item_filters(
    model: SparCode,
    where: str | None = None,
    allow: str | None = None,
    deny: str | None = None,
    unknown: str | None = None,
) -> dict[str, Any]:
    """Return the given filters as keyword arguments of ``SparCode.recommend``; options left out are absent."""
    known, lenient = model.run.dataset.item_ids, unknown in ("warn", "ignore")
    if allow == deny == STDOUT and STDOUT not in known:
        raise typer.BadParameter("both --allow and --deny read stdin: give one of them a file")
    given = {
        "where": where,
        "allow": None if allow is None else ids_or_file(allow, known, "item", "--allow", lenient),
        "deny": None if deny is None else ids_or_file(deny, known, "item", "--deny", lenient),
        "unknown": unknown,
    }
    return {name: value for name, value in given.items() if value is not None}


def show_answers(answers: list[dict[str, Any]], k: int, json: str | None) -> None:
    """Write answers as JSON or as a table, and a note on those that popularity filled and those that are missing."""
    if not in_json(answers, json):
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
