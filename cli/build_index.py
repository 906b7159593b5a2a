"""``sparcode build-index``: the offline job that turns a trained run into posting lists."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import options
from .output import in_json, is_quiet, note, print_pairs

Policy = Annotated[
    Literal["global-bias", "budget", "length"] | None,
    typer.Option("--policy", help="What is kept; absent: as the configuration of RUN says."),
]
Bias = Annotated[float | None, typer.Option("--bias", metavar="B", help="global-bias: keep pairs with score + B > 0.")]
Density = Annotated[
    float | None, typer.Option("--density", metavar="P", help="global-bias: keep P percent of (code, item) pairs.")
]
BudgetMb = Annotated[float | None, typer.Option("--budget-mb", metavar="X", help="budget: MB (10^6 bytes) of lists.")]
Postings = Annotated[
    float | None, typer.Option("--postings-per-query", metavar="Y", help="budget: mean postings a query reads.")
]
Length = Annotated[
    int | None, typer.Option("--length", metavar="L", min=1, help="length: the L best items of every code.")
]
ItemFloor = Annotated[
    int | None,
    typer.Option("--item-floor", metavar="N", min=0, help="budget: items with training events are in N lists or more."),
]
Runner = Annotated[
    Literal["serial", "threads", "processes"], typer.Option("--runner", help="Who scores the blocks; same bytes.")
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="W", min=1, help="Workers of the runner.")]


def build_index_command(
    run: options.RunFolder,
    policy: Policy = None,
    bias: Bias = None,
    density: Density = None,
    budget_mb: BudgetMb = None,
    postings_per_query: Postings = None,
    length: Length = None,
    item_floor: ItemFloor = None,
    runner: Runner = "serial",
    workers: Workers = None,
    threads: options.Threads = None,
    json: options.Json = None,
) -> None:
    """Build the posting lists of a run.

    Scores stored codes against all items, cuts, and publishes the index. A build that was stopped goes on where it
    stopped; until it is published, queries read the earlier index.
    """
    chosen = choose_policy(policy, bias, density, budget_mb, postings_per_query, length)
    if item_floor and chosen not in (None, "budget"):
        raise typer.BadParameter(f"--item-floor belongs to --policy budget, not to --policy {chosen}")
    settings = {
        "bias": bias, "density": density, "budget_mb": budget_mb, "postings_per_query": postings_per_query,
        "length": length, "item_floor": item_floor,
    }  # fmt: skip
    summary = build_index(run, policy=chosen, **settings, runner=runner, workers=workers, threads=threads)
    if not in_json(summary, json):
        print_pairs(summary)
        note(f"built the index of {run}; next: {next_step(run)}")


def next_step(run: Path) -> str:
    """Return the command to go on with: evaluation where something is held out, else a query for one of the users."""
    from sparcode.run import Run

    opened = Run.open(run)
    for split in ("test", "validation"):
        if opened.held_out(split) is not None:
            return f"sparcode evaluate {shlex.quote(str(run))}" + ("" if split == "test" else " --split validation")
    user = opened.dataset.user_ids.to_external([0])[0]
    return f"sparcode query {shlex.quote(str(run))} --user {shlex.quote(str(user))}"


def choose_policy(
    policy: str | None,
    bias: float | None,
    density: float | None,
    budget_mb: float | None,
    postings_per_query: float | None,
    length: int | None = None,
) -> str | None:
    """Return the policy the options belong to; contradictory options are a usage error."""
    owners = {
        "--bias": ("global-bias", bias), "--density": ("global-bias", density), "--budget-mb": ("budget", budget_mb),
        "--postings-per-query": ("budget", postings_per_query), "--length": ("length", length),
    }  # fmt: skip
    given = {option: owner for option, (owner, value) in owners.items() if value is not None}
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} exclude each other: give one of them")
    option, implied = next(iter(given.items()), (None, None))
    if policy and implied and policy != implied:
        raise typer.BadParameter(f"{option} belongs to --policy {implied}, not to --policy {policy}")
    if policy == "budget" and not implied:
        raise typer.BadParameter("--policy budget needs --budget-mb X or --postings-per-query Y")
    if policy == "length" and not implied:
        raise typer.BadParameter("--policy length needs --length L")
    return policy or implied


def build_index(run: Path, **settings: Any) -> dict[str, Any]:
    """Run the offline job with a progress bar and return its summary."""
    from sparcode.build.job import build_index as build

    return build(Path(run), progress=not is_quiet(), **settings)
