"""``sparcode data``: fetch a public set, look at a set before training."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options
from .output import print_json

app = typer.Typer(help="Fetch and check interaction data.", rich_markup_mode=None, no_args_is_help=True)


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a public set, e.g. ml-100k.")],
) -> None:
    """Download a public set once, check its SHA-256 and print where it is kept."""
    typer.echo(str(fetch(name)))


def fetch(name: str) -> Any:
    """Return the folder of the set, downloading it when it is not cached."""
    from sparcode.data.sources import fetch as fetch_source

    return fetch_source(name)


@app.command("validate")
def validate_command(
    data: options.Data,
    columns: options.Columns = None,
    where: options.Where = None,
    min_rating: options.MinRating = None,
    k_core: options.KCore = None,
    split_by: options.SplitBy = None,
    time_cut: options.TimeCut = None,
    json: options.Json = False,
) -> None:
    """Report counts, density, time range, duplicates, repeats, and what training would drop."""
    changes = options.data_changes(columns, where, min_rating, k_core, split_by, time_cut)
    report, lines = validate(data, changes)
    if json:
        print_json(report)
    else:
        typer.echo("\n".join(lines))


def validate(data: str, changes: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the report of ``data`` and the same report as lines of text."""
    from sparcode.data.validate import report_lines
    from sparcode.data.validate import validate as check

    report = check(data, options.resolve_config(None, None, changes).data)
    return report, report_lines(report)
