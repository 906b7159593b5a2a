"""``sparcode train``: from interactions to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .errors import training_extra
from .output import is_quiet, note

if TYPE_CHECKING:
    from sparcode.config import Config

OutFolder = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder to write.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace RUN if it exists.")]
NoBaselines = Annotated[
    bool,
    typer.Option("--no-baselines", help="Keep no two-tower to compare with; SparCode starts from one all the same."),
]
Like = Annotated[
    Path | None,
    typer.Option("--like", metavar="RUN", help="With --split-by none: epochs, sizes and weights of an evaluated RUN."),
]


def train_command(
    data: options.Data,
    out: OutFolder,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    no_baselines: NoBaselines = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = None,
    like: Like = None,
    columns: options.Columns = None,
    where: options.Where = None,
    min_rating: options.MinRating = None,
    k_core: options.KCore = None,
    split_by: options.SplitBy = None,
    time_cut: options.TimeCut = None,
) -> None:
    """Train SparCode and a two-tower beside it.

    Both get the same encoder and budget. --no-baselines keeps no two-tower to compare with; one is trained all the
    same, because SparCode starts from its weights, unless train.warm_start=false.
    """
    if resume and overwrite:
        raise typer.BadParameter("--resume goes on with RUN, --overwrite replaces it: give one of them")
    changes = options.data_changes(columns, where, min_rating, k_core, split_by, time_cut)
    resolved = options.resolve_config(config, overrides, changes, seed)
    if like is not None and resolved.data.split_by != "none":
        raise typer.BadParameter("--like trains on every event: give --split-by none too", param_hint="--like")
    train(
        data, out, resolved, resume=resume, overwrite=overwrite, baselines=not no_baselines, device=device, like=like,
        threads=threads,
    )  # fmt: skip


def train(
    data: str,
    out: Path,
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    baselines: bool = True,
    device: str = "auto",
    like: Path | None = None,
    threads: int | None = None,
) -> None:
    """Train into ``out`` and say what to do next."""
    with training_extra():
        from sparcode.train.run import train_run
    if not baselines and config.train.warm_start:
        note("no two-tower is kept to compare with; one is trained, because SparCode starts from its weights")
    before = _record(out)
    try:
        train_run(
            data, Path(out), config, resume=resume, overwrite=overwrite, baselines=baselines, device=device, like=like,
            threads=threads, progress=not is_quiet(),
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(interrupted(out, before)) from None
    note(f"trained {out}; next: sparcode build-index {out}")


def interrupted(out: Path, before: tuple[int, int] | None) -> str:
    """Return what a stopped training left behind; ``before``: the record of a run that stood there at the start."""
    if before is not None and _record(out) == before:
        return f"the earlier run {out} is untouched"
    lost = f"the earlier run {out} is replaced; " if before is not None else ""
    if (out / "config.toml").exists() and (out / "data").exists():
        return f"{lost}go on from the last finished epoch: give the same command with --resume (without --overwrite)"
    return f"{lost}nothing is kept of this training"


def _record(out: Path) -> tuple[int, int] | None:
    """Return what tells the record of a finished run from a later one, or None where there is none."""
    try:
        found = (Path(out) / "run.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
