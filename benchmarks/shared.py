"""What the benchmark scripts share: options, runs that are trained once, results that survive an interruption."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparcode.config import Config, load_config, updated
from sparcode.eval.machine import git_commit, machine_info
from sparcode.files import read_json, write_json, write_text
from sparcode.report.tables import markdown
from sparcode.run import Run

ROOT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

HELD = ("run.json", "config.toml", "data", "model")
"""What a build reads of a run; the index, the fitted weights and the summary belong to the build."""

Row = dict[str, Any]


def parser_of(question: str) -> argparse.ArgumentParser:
    """Return a parser with the options that choose data, configuration and folders."""
    parser = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", nargs="?", default="ml-100k", help="file, folder or fetched name")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML; absent: configs/<DATA>.toml if it exists")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key; repeatable")
    parser.add_argument("--columns", type=_columns, metavar="ROLE=NAME,...", help="as in sparcode train")
    parser.add_argument("--where", metavar="CONDITION", help="as in sparcode train")
    parser.add_argument("--min-rating", type=float, metavar="X", help="as in sparcode train")
    parser.add_argument("--k-core", type=int, metavar="N", help="as in sparcode train")
    parser.add_argument("--epochs", type=int, help="train.epochs, the length of the schedule")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where runs are kept; default runs/<script>/<DATA>")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default benchmarks/results/<script>-<DATA>.json")
    return parser


def config_of(arguments: argparse.Namespace) -> Config:
    """Return the configuration the options ask for."""
    default = ROOT / "configs" / f"{label(arguments.data)}.toml"
    file = arguments.config or (default if default.is_file() else None)
    config = load_config(file, arguments.set)
    columns = arguments.columns and {**config.data.columns, **arguments.columns}
    given = {
        "data.columns": columns, "data.where": arguments.where, "data.min_rating": arguments.min_rating,
        "data.k_core": arguments.k_core, "train.epochs": arguments.epochs,
    }  # fmt: skip
    return updated(config, {key: value for key, value in given.items() if value is not None})


def label(data: str) -> str:
    """Return the name of a data set: the last part of its path, without suffix."""
    return Path(data).stem if Path(data).is_file() else Path(data).name


def folders(arguments: argparse.Namespace, script: str) -> tuple[Path, Path]:
    """Return the folder of the runs and the file of the results."""
    name = label(arguments.data)
    work = arguments.work or ROOT / "runs" / script / name
    return work, arguments.out or ROOT / "benchmarks" / "results" / f"{script}-{name}.json"


def trained(data: str, work: Path, name: str, config: Config, *, baselines: bool) -> Run:
    """Train ``work/name-<digest of the configuration>``, go on with it, or open it when it is finished.

    A data set is known by its name: give another ``work`` for other data of the same name.
    """
    digest = hashlib.sha256(json.dumps([label(data), config.model_dump()], sort_keys=True).encode()).hexdigest()[:8]
    folder = work / f"{name}-{digest}"
    if (folder / "run.json").exists():
        return Run.open(folder)
    from sparcode.train.run import train_run

    print(f"training {folder}", flush=True)
    return train_run(data, folder, config, resume=True, baselines=baselines)


def hold_run(run: Path, copy: Path) -> None:
    """Make ``copy`` a run with the same model and no index.

    Files are hard links: sparcode replaces files and never writes into them, so the original stays what it is.
    """
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in HELD:
        source = run / name
        if source.is_dir():
            shutil.copytree(source, copy / name, copy_function=_link)
        else:
            shutil.copy2(source, copy / name)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


class Results:
    """A JSON file of finished cells and its Markdown beside it, written anew after each cell.

    A cell is a dictionary whose ``config`` (JSON-able) says what was measured; equal ``config``: not measured again.
    """

    def __init__(self, path: Path, question: str, render: Callable[[list[Row]], str]) -> None:
        self.path, self.question, self.render = path, question, render
        self.rows: list[Row] = read_json(path)["rows"] if path.exists() else []
        self.asked: list[Row] = []

    def cell(self, config: Row, measure: Callable[[], Row]) -> Row:
        """Return the finished cell of ``config``, measured now unless the file holds it."""
        config = json.loads(json.dumps(config))
        row = next((row for row in self.rows if row["config"] == config), None)
        if row is None:
            when = datetime.now(UTC).isoformat(timespec="seconds")
            row = {"config": config, **measure(), "commit": git_commit(), "created": when, "machine": _machine()}
            self.rows.append(row)
        self.asked.append(row)
        self.save()
        return row

    def save(self) -> None:
        """Write all cells as JSON, and those asked for in this call as Markdown."""
        document = {"question": self.question, "commit": git_commit(), "machine": _machine(), "rows": self.rows}
        write_json(self.path, document)
        text = f"{self.question}\n\n{self.render(self.asked)}{notes(_where(self.asked))}"
        write_text(self.path.with_suffix(".md"), text)

    def show(self) -> None:
        """Print the Markdown."""
        print(self.path.with_suffix(".md").read_text(encoding="utf-8"))
        print(f"wrote {self.path} and {self.path.with_suffix('.md')}")


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return markdown((list(header), [list(cells) for cells in body]))


def notes(lines: Sequence[str]) -> str:
    """Return a Markdown list."""
    return "\n" + "".join(f"- {line}\n" for line in lines)


def _where(rows: list[Row]) -> list[str]:
    """Say on what, with how many threads and at which commit the cells were measured; once where they agree."""
    lines = []
    for row in rows:
        machine, threads = row["machine"], row["machine"]["threads"]
        place = f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}"
        used = f"threads: training {threads['torch']}, evaluation {threads['evaluation']}"
        lines.append(f"{place}; {used}; commit {row['commit'] or 'unknown'}")
    return list(dict.fromkeys(lines))


def _machine() -> Row:
    threads: Row = {name: os.environ.get(name, "unset") for name in THREAD_VARIABLES}
    import torch

    return machine_info() | {"threads": {"evaluation": 1, "torch": torch.get_num_threads()} | threads}


def _columns(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(separator and name for _, separator, name in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}: expected ROLE=NAME,..., e.g. user=user_id,item=item_id")
    return {role.strip(): name.strip() for role, _, name in pairs}
