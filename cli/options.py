"""Arguments and options that several commands share, and what they do to the configuration."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .output import STDOUT

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


FORMATS = frozenset(
    (".csv", ".tsv", ".parquet", ".pq", ".json", ".jsonl", ".toml", ".npy", ".npz", ".safetensors", ".onnx", ".md")
    + (".png", ".html", ".xlsx", ".gz", ".zip", ".pt", ".pkl", ".yaml", ".yml")
)
"""Endings that promise a format."""


def require_ending(path: Path, endings: tuple[str, ...], option: str, strict: bool = False) -> None:
    """Refuse a file whose name promises another format than the one written; ``strict``: or promises none."""
    ending = path.suffix.lower()
    if ending not in endings and (strict or ending in FORMATS):
        raise typer.BadParameter(f"{path}: expected a name that ends with {' or '.join(endings)}", param_hint=option)


def _json_target(target: str | None) -> str | None:
    """Refuse a file that cannot be written before any work is done."""
    if target == "":
        raise typer.BadParameter("the name of the file is empty", param_hint="--json")
    if target is not None and target != STDOUT:
        from sparcode.files import require_writable

        require_ending(Path(target), (".json", ".jsonl"), "--json")
        require_writable(Path(target))
    return target


Json = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="[FILE]", callback=_json_target, help="JSON: on stdout instead of text, or into FILE."
    ),
]
DEFAULT_COUNT = 10
Count = Annotated[int, typer.Option("-k", min=1, help="How many items.")]

ItemsWhere = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Answer only with items like this: 'genres in (Comedy, Drama) and not year<1990'; also or, parentheses.",
    ),
]
Allow = Annotated[
    str | None,
    typer.Option("--allow", metavar="ID,...|FILE", help="Answer only with these items; - reads stdin."),
]
Unknown = Annotated[
    Literal["raise", "warn", "ignore"] | None,
    typer.Option(
        "--unknown",
        help="Ids the run does not know: an error, a warning, or nothing.  [default: warn for histories, else raise]",
    ),
]
Deny = Annotated[
    str | None,
    typer.Option("--deny", metavar="ID,...|FILE", help="Never answer with these items; - reads stdin."),
]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file with what differs from the defaults.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one configuration key; may be repeated."),
]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where torch trains.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="CPU threads; absent: all this process may use."),
]
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
    str | None,
    typer.Option(
        "--where", metavar="CONDITION", help="Keep rows that satisfy it: 'event in (view, buy) and not price<1'."
    ),
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
    str | None,
    typer.Option(
        "--time-cut",
        metavar="T",
        help="Split by time: share of events (0..1), timestamp, or date (2020-01-31).",
    ),
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
    time_cut: str | float | None,
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
