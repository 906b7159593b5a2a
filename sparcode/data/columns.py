"""Which column is the user, the item, the time, the rating, the split: given, or guessed by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

from sparcode.errors import DataError

ROLES = ("user", "item", "time", "rating", "split")

# Tiers: a name of an earlier tier wins; two names of one tier are ambiguous. Compared without case and punctuation.
_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        ("userid", "user", "uid", "useridx", "userindex"),
        ("reviewerid", "customerid", "customer", "visitorid", "memberid", "member", "accountid", "account", "authorid"),
        ("sessionid", "session", "sid", "basketid", "playlistid"),
    ),
    "item": (
        ("itemid", "item", "iid", "itemidx", "itemindex"),
        ("movieid", "movie", "productid", "product", "bookid", "book", "isbn", "songid", "trackid", "artistid")
        + ("articleid", "article", "newsid", "businessid", "poiid", "poi", "venueid", "locationid", "videoid")
        + ("gameid", "appid", "recipeid", "animeid", "sku", "contentid", "adid", "beerid", "placeid"),
        ("parentasin",),
        ("asin",),
    ),
    "time": (
        ("timestamp", "time", "ts", "unixtime", "eventtime", "unixreviewtime", "timestamps"),
        ("datetime", "createdat", "eventtimestamp", "visitedat"),
        ("date", "day", "reviewtime", "reviewdate", "eventdate"),
        ("position", "order", "step"),
    ),
    "rating": (("rating", "ratings"), ("score", "stars", "overall", "ratingvalue")),
    "split": (("split",), ("fold", "subset")),
}


def plain(name: str) -> str:
    """Return a column name in lower case without punctuation: ``userId``, ``USER_ID`` and ``user id`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


# What pandas, Spark and R call the numbers of rows when they write them beside the data.
_ROW_NUMBER = re.compile(r"unnamed: ?\d+(_level_\d+)?(\.\d+)*|__index_level_\d+__|level_\d+|index|", re.IGNORECASE)


# A number, a date: what stands in a row rather than in a header.
_VALUE = re.compile(r"[+-]?\d+(\.\d+)?|\d{4}-\d{2}-\d{2}.*")


def is_row_number(name: str) -> bool:
    """Tell whether a column is, by its name, the index of a data frame and no property of what the row is about."""
    return _ROW_NUMBER.fullmatch(name.strip()) is not None


def looks_like(name: str, role: str) -> bool:
    """Tell whether a column name is one that a role is guessed from."""
    spelled = plain(name)
    return any(spelled in tier for tier in _NAMES[role])


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names for a message: at most ``most``, and how many there are besides."""
    more = f", ... ({len(names):,} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def find_columns(
    names: Sequence[str],
    given: Mapping[str, str],
    needed: Sequence[str] = (),
    could_serve: Callable[[str], Sequence[str]] | None = None,
) -> dict[str, str]:
    """Return role -> column name for an interactions table.

    ``given`` wins and is checked; other roles are guessed. ``user``, ``item`` and every role of ``needed`` must be
    found, otherwise DataError names the columns and the option to write, and those that ``could_serve`` returns for
    the role. An ambiguous optional rating or split that nobody needs is left out.
    """
    roles = dict(_checked(names, given))
    taken = set(roles.values())
    for role in ROLES:
        if role in roles:
            continue
        required = role in ("user", "item", *needed)
        free = [name for name in names if name not in taken and not is_row_number(name)]
        name = _guess(free, role, required or role == "time", names)
        if name is None and required:
            raise DataError(_missing(role, names, could_serve(role) if could_serve else ()))
        if name is not None:
            roles[role] = name
            taken.add(name)
    return {role: roles[role] for role in ROLES if role in roles}


def find_id_column(names: Sequence[str], role: str, interactions_name: str) -> str:
    """Return the id column of an items or users table: the interactions' own name for it, else a guess."""
    if interactions_name in names:
        return interactions_name
    name = _guess(names, role, True, names)
    if name is None:
        raise DataError(
            f"the {role}s table has no column {interactions_name!r} to join by; its columns: {listed(names)}"
        )
    return name


def _checked(names: Sequence[str], given: Mapping[str, str]) -> Mapping[str, str]:
    for role, name in given.items():
        if role not in ROLES:
            raise DataError(f"--columns {role}={name}: unknown role {role!r}; roles are {', '.join(ROLES)}")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(f"--columns {role}={name}: no such column{hint}; columns found: {listed(names)}")
    for role, name in given.items():
        others = [other for other in given if other != role and given[other] == name]
        if others:
            raise DataError(f"--columns gives {name!r} for {role} and for {others[0]}; each role needs its own column")
    return given


def _guess(names: Sequence[str], role: str, strict: bool, all_names: Sequence[str]) -> str | None:
    for tier in _NAMES[role]:
        matches = [name for name in names if plain(name) in tier]
        if len(matches) == 1:
            return matches[0]
        if matches and strict:
            raise DataError(
                f"ambiguous {role} column: {' and '.join(map(repr, matches))} both fit; write --columns "
                f"{role}={matches[0]} (columns found: {listed(all_names)})"
            )
        if matches:
            return None
    return None


def _missing(role: str, names: Sequence[str], serving: Sequence[str]) -> str:
    if serving:
        return (
            f"no {role} column found; write --columns {role}={serving[0]} (columns that could serve: "
            f"{listed(serving, 8)}; columns found: {listed(names)})"
        )
    message = f"no {role} column found; write --columns {role}=NAME (columns found: {listed(names)})"
    if any(_VALUE.fullmatch(name) for name in names):
        message += "; the first line looks like data: add a header line"
    return message
