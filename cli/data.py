"""``sparcode data``: fetch or convert a public set, look at a set before training, generate a planted one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sparcode.errors import DataError

from . import options
from .command import group
from .output import in_json, note, say, say_lines

if TYPE_CHECKING:
    from sparcode.scale.world.world import ScaleWorld

app = group("Fetch, convert, check and generate interaction data.")


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a public set, e.g. ml-100k.")],
    json: options.Json = None,
) -> None:
    """Download a public set once, check its SHA-256 and print where it is kept."""
    folder = str(fetch(name))
    if not in_json({"name": name, "folder": folder}, json):
        say(folder)


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
    json: options.Json = None,
) -> None:
    """Report counts, density, time range, duplicates, repeats, and what training would drop."""
    changes = options.data_changes(columns, where, min_rating, k_core, split_by, time_cut)
    report, lines = validate(data, changes)
    if not in_json(report, json):
        say_lines("\n".join(lines))


def validate(data: str, changes: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the report of ``data`` and the same report as lines of text."""
    from sparcode.data.validate import report_lines
    from sparcode.data.validate import validate as check

    report = check(data, options.resolve_config(None, None, changes).data)
    return report, report_lines(report)


@app.command("generate")
def generate_command(
    items: Annotated[int, typer.Option("--items", metavar="N", help="Items, 50 to 16,777,215.", show_default=False)],
    users: Annotated[int, typer.Option("--users", metavar="N", help="Users.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder to write.", show_default=False)],
    interaction: Annotated[
        float, typer.Option("--interaction", metavar="X", help="0: a dot product ranks best; 1: pure interaction.")
    ] = 0.5,
    events: Annotated[int, typer.Option("--events", metavar="N", help="Mean events of a user.")] = 20,
    exponent: Annotated[float, typer.Option("--exponent", metavar="X", help="Of Zipf's law of popularity.")] = 0.8,
    interests: Annotated[int, typer.Option("--interests", metavar="N", help="Most interests of a user.")] = 4,
    seed: options.Seed = None,
    json: options.Json = None,
) -> None:
    """Write a planted world whose best ranking is known, as a folder that `sparcode train` reads.

    Users with several interests, Zipf popularity, items with category, department, year and price.
    """
    given = {"events_per_user": events, "exponent": exponent, "interests": interests, "seed": seed or 0}
    world = generate(out, items=items, users=users, interaction=interaction, **given)
    count = int(world.events().indptr[-1])
    if not in_json({"out": out, "events": count, "users": users, "items": items}, json):
        note(f"wrote {out}: {count:,} events of {users:,} users over {items:,} items")


def generate(out: Path, **arguments: Any) -> ScaleWorld:
    """Write ``ScaleWorld(**arguments)`` to a new folder and return it."""
    from sparcode.scale.world.world import ScaleWorld

    try:
        world = ScaleWorld(**arguments)
    except DataError as problem:  # whose other names are those of the options
        raise DataError(str(problem).replace("events_per_user=", "--events ")) from None
    world.write(out)
    return world


@app.command("convert")
def convert_command(
    kind: Annotated[Literal["amazon-2023"], typer.Argument(metavar="KIND", help="amazon-2023: Amazon Reviews 2023.")],
    raw: Annotated[
        Path, typer.Argument(metavar="RAW", help="Folder of *.jsonl(.gz) and meta_*.jsonl(.gz), or a file.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder to write.", show_default=False)],
    cuts: Annotated[
        str | None,
        typer.Option(
            "--cuts", metavar="MS,MS", help="Where validation and test begin.  [default: 80 % and 90 % of events]"
        ),
    ] = None,
    json: options.Json = None,
) -> None:
    """Write a public raw set as a folder that `sparcode train --split-by column` reads, split by time."""
    summary = convert(raw, out, cuts)
    if in_json(summary, json):
        return
    for name, count in summary.items():
        note(f"{name.replace('_', ' ')}: {count:,}")
    note(f"wrote {out}; train with: sparcode train {out} --split-by column --out RUN")


def convert(raw: Path, out: Path, cuts: str | None = None) -> dict[str, Any]:
    """Convert Amazon Reviews 2023 and return counts."""
    from sparcode.data.amazon import convert as convert_amazon

    return convert_amazon(raw, out, None if cuts is None else _cuts(cuts))


def _cuts(text: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[0]) >= int(parts[1]):
        raise typer.BadParameter(f"{text!r}: expected two rising moments in ms, MS,MS", param_hint="--cuts")
    return int(parts[0]), int(parts[1])
