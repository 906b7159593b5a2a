"""Arguments and options that several commands share, and what they do to the configuration."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from sparcode.config import Config

ROLES = ("user", "item", "time", "rating", "split")

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file (Parquet, CSV, TSV, RecBole .inter), a folder holding interactions.*, or a fetched name.",
        show_default=False,
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `sparcode train`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of text.")]
DEFAULT_COUNT = 10
Count = Annotated[int, typer.Option("-k", min=1, help="How many items.")]

ItemsWhere = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="CONDITION", help="Answer only with items like this: 'genres=Comedy and year>=1990'."
    ),
]
Allow = Annotated[
    str | None, typer.Option("--allow", metavar="ID,...|FILE", help="Answer only with these items; ids, or a file.")
]
Deny = Annotated[
    str | None, typer.Option("--deny", metavar="ID,...|FILE", help="Never answer with these items; ids, or a file.")
]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file with what differs from the defaults.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one configuration key; may be repeated."),
]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where torch trains.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.  [default: 0]")]

Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="ROLE=NAME,...",
        help="Column names: user=U,item=I,time=T,rating=R,split=S. Guessed and printed when absent.",
    ),
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="CONDITION", help="Keep rows that satisfy it, e.g. in_sasrec=true.")
]
MinRating = Annotated[float | None, typer.Option("--min-rating", metavar="X", help="Keep rows rated at least X.")]
KCore = Annotated[
    int | None, typer.Option("--k-core", metavar="N", min=0, help="Drop users and items with fewer than N events.")
]
SplitBy = Annotated[
    Literal["leave-last-out", "time", "column", "none"] | None,
    typer.Option("--split-by", help="How events are held out.  [default: leave-last-out]"),
]
TimeCut = Annotated[
    float | None, typer.Option("--time-cut", metavar="T", help="Split by time: share of events (0..1) or timestamp.")
]


def parse_columns(text: str) -> dict[str, str]:
    """Parse ``user=U,item=I``; an unknown role is a usage error that suggests the right one."""
    columns = {}
    for part in text.split(","):
        role, separator, name = (piece.strip() for piece in part.partition("="))
        if not separator or not name:
            raise typer.BadParameter(f"{part.strip()!r}: expected ROLE=NAME, e.g. user=user_id", param_hint="--columns")
        if role not in ROLES:
            near = difflib.get_close_matches(role, ROLES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise typer.BadParameter(
                f"unknown role {role!r}, expected one of {', '.join(ROLES)}{hint}", param_hint="--columns"
            )
        columns[role] = name
    return columns


def data_changes(
    columns: str | None,
    where: str | None,
    min_rating: float | None,
    k_core: int | None,
    split_by: str | None,
    time_cut: float | None,
) -> dict[str, Any]:
    """Return the given data options as dotted configuration keys; options left out are absent."""
    given = {
        "data.columns": None if columns is None else parse_columns(columns),
        "data.where": where,
        "data.min_rating": min_rating,
        "data.k_core": k_core,
        "data.split_by": split_by,
        "data.time_cut": time_cut,
    }
    return {key: value for key, value in given.items() if value is not None}


def resolve_config(
    file: Path | None, overrides: list[str] | None, changes: dict[str, Any], seed: int | None = None
) -> Config:
    """Read FILE, apply ``--set``, then the options named on the command line, which win."""
    from sparcode.config import load_config, updated

    config = load_config(file, overrides)
    if "data.columns" in changes:
        changes = {**changes, "data.columns": {**config.data.columns, **changes["data.columns"]}}
    if seed is not None:
        changes = {**changes, "seed": seed}
    return updated(config, changes)


def check_count(k: int, items: int) -> None:
    """Refuse more answers than the catalogue has items; the default serves smaller catalogues too."""
    from sparcode.errors import QueryError

    if k > max(items, DEFAULT_COUNT):
        raise QueryError(f"-k {k}: the run has {items:,} items; expected 1 to {items}")


def item_filters(where: str | None, allow: str | None, deny: str | None) -> dict[str, Any]:
    """Return the given filters as keyword arguments of ``SparCode.recommend``; options left out are absent."""
    given = {
        "where": where,
        "allow": None if allow is None else listed_ids(allow, "--allow"),
        "deny": None if deny is None else listed_ids(deny, "--deny"),
    }
    return {name: value for name, value in given.items() if value is not None}


def listed_ids(text: str, option: str) -> list[Any]:
    """Return the ids of a file, or those of ``ID,ID,...``; what looks like a path must be a file.

    Raises DataError as ``read_ids``, and a usage error when no id is given.
    """
    if os.path.isfile(text) or Path(text).suffix in (".txt", ".csv", ".parquet") or os.sep in text:
        return read_ids(Path(text))
    ids = [part.strip() for part in text.split(",") if part.strip()]
    if not ids:
        raise typer.BadParameter("expected ids such as 123,456, or a file of ids", param_hint=option)
    return ids


def read_ids(path: Path) -> list[Any]:
    """Read external ids: the first column of a Parquet file, or text with one id a line.

    A first line that says user_id, user, item_id or item is a header; blank lines are skipped.
    Raises DataError when the file is missing, unreadable or holds no id.
    """
    from sparcode.errors import DataError

    if not path.is_file():
        raise DataError(f"{path}: no such file; expected one id a line, or a Parquet file")
    try:
        ids = _parquet_ids(path) if path.suffix == ".parquet" else _text_ids(path)
    except (ValueError, OSError) as problem:
        raise DataError(f"{path}: cannot be read as a list of ids: {problem}") from None
    if not ids:
        raise DataError(f"{path}: holds no id; expected one id a line, or a Parquet file")
    return ids


def _parquet_ids(path: Path) -> list[Any]:
    import pyarrow.parquet as parquet

    return [value for value in parquet.read_table(path).column(0).to_pylist() if value is not None]


def _text_ids(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    ids = [line for line in lines if line]
    return ids[1:] if ids and ids[0].lower() in {"user_id", "user", "item_id", "item"} else ids
