"""``sparcode tune``: search a configuration by validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options
from .errors import training_extra
from .output import note

OutFile = Annotated[Path, typer.Option("--out", metavar="CONFIG", help="TOML file to write.", show_default=False)]
Trials = Annotated[int, typer.Option("--trials", min=1, help="Largest number of trials, those resumed counted.")]
System = Annotated[
    Literal["sparcode", "two-tower", "additive"], typer.Option("--system", help="What the trials train.")
]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0.0, help="Stop starting trials after this long.")]


def tune_command(
    data: options.Data,
    out: OutFile,
    trials: Trials = 20,
    minutes: Minutes = None,
    system: System = "sparcode",
    device: options.Device = "auto",
    threads: options.Threads = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    seed: options.Seed = None,
    columns: options.Columns = None,
    where: options.Where = None,
    min_rating: options.MinRating = None,
    k_core: options.KCore = None,
    split_by: options.SplitBy = None,
    time_cut: options.TimeCut = None,
) -> None:
    """Search a configuration by validation.

    Trials are compared by validation NDCG@10; the best configuration is written as TOML.

    To resume a search that was stopped, give the same command again: its trials are kept beside CONFIG, in
    .trials.db (optuna), and --trials counts them too. Remove that file to begin anew.
    """
    options.require_ending(out, (".toml",), "--out")
    with training_extra():
        from sparcode.train.tune import tune

    changes = options.data_changes(columns, where, min_rating, k_core, split_by, time_cut)
    settings = options.resolve_config(config, overrides, changes, seed)
    tune(
        data, out, settings, trials=trials, minutes=minutes, system=system, device=device, threads=threads,
        progress=note,
    )  # fmt: skip
    note(f"wrote {out}; next: sparcode train {data} --config {out} --out RUN")
