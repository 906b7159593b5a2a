"""From a plan to two runs with an index: learned lists alone, and the default of `sparcode build-index`.

Every step leaves a file behind by which a later start skips it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sparcode.config import load_config, to_toml, updated
from sparcode.errors import RunError
from sparcode.files import read_json, write_json, write_text
from sparcode.run import Run
from sparcode.scale.content import Catalogue, sample_tables
from sparcode.scale.full_run import write_full_run
from sparcode.scale.plan import Plan
from sparcode.scale.world.world import ScaleWorld

Report = Callable[[str], None]


class Prepared(NamedTuple):
    """Runs of one size: ``learned`` reads 8 lists of 256 postings, ``default`` what building without options gives."""

    plan: Plan
    folder: Path
    learned: Run
    default: Run


def prepare(plan: Plan, out: Path, report: Report) -> Prepared:
    """Make what is missing of a size and return its runs. Raises RunError when a build fails."""
    folder = plan.folder(out)
    if not (folder / "default" / "run.json").exists():
        _make_runs(plan, folder, report)
    runs = [Run.open(folder / name) for name in ("learned", "default")]
    for run in runs:
        if not (run.folder / "built.json").exists():
            report(f"{plan.items:,} items: building the index of {run.folder.name}")
            _build(run)
    return Prepared(plan, folder, *runs)


def world_of(plan: Plan) -> ScaleWorld:
    """Return the world of a plan."""
    return ScaleWorld(plan.items, plan.users, interaction=plan.interaction, seed=plan.seed)


def _make_runs(plan: Plan, folder: Path, report: Report) -> None:
    report(f"{plan.items:,} items: drawing the world")
    catalogue = Catalogue(world_of(plan))
    sample = folder / "sample"
    if not (sample / "run.json").exists():
        report(f"{plan.items:,} items: training on {plan.sample:,} users")
        _train(plan, catalogue, sample)
    report(f"{plan.items:,} items: vectors, codebooks and codes of the whole catalogue")
    for name in ("full", "learned", "default"):
        shutil.rmtree(folder / name, ignore_errors=True)
    run = write_full_run(catalogue, Run.open(sample), plan.codes, folder / "full")
    lists = {
        "families.item.enabled": False, "families.learned.probes": plan.codes.probes,
        "index.policy": "length", "index.length": plan.codes.length,
    }  # fmt: skip
    _linked(run, folder / "learned", lists)
    (folder / "full").rename(folder / "default")


def _train(plan: Plan, catalogue: Catalogue, out: Path) -> None:
    from sparcode.train.run import train_run

    settings = {
        "seed": plan.seed, "model.item_ids": False, "model.dropout": 0.1, "additive.dropout": 0.1,
        "data.text_width": 0, "query.item_vectors": "int8", "train.epochs": plan.epochs, "additive.epochs": plan.epochs,
        "quantizer.codewords": 256, "train.evaluation_users": 1000,
    }  # fmt: skip
    train_run(
        sample_tables(catalogue, plan.sample), out, updated(load_config(), settings), overwrite=True, progress=False
    )


def _linked(run: Run, out: Path, changes: dict[str, Any]) -> None:
    """Write a run that shares the files of another under a changed configuration."""
    for name in ("data", "model"):
        shutil.copytree(run.folder / name, out / name, copy_function=os.link)
    write_text(out / "config.toml", to_toml(updated(run.config, changes)))
    write_json(out / "run.json", run.record)


def _build(run: Run) -> None:
    """Build an index in a process of its own, with one thread, and note seconds and peak memory."""
    started = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-m", "sparcode.scale.build_step", str(run.folder)], text=True, capture_output=True
    )
    if child.returncode:
        raise RunError(f"building {run.folder} failed: {child.stderr.strip().splitlines()[-1:]}")
    found = read_json(run.folder / "build.json", RunError)
    step = read_json(run.folder / "build_step.json", RunError)
    seconds = round(time.perf_counter() - started, 2)
    write_json(run.folder / "built.json", found | step | {"process_seconds": seconds})
