"""Everything docs/results.md states, from one commit: what is missing is measured, then the report is written.

Cells (see grid/cells.py) run in processes of their own, on one thread each, two side by side by default. A finished
cell is kept under WORK/cells by the digest of its configuration and never measured again unless ``--again`` says so; a
failed one is reported, does not stop the others, and is tried again by the next call.

    python benchmarks/results.py --data FOLDER                                  # measure what is missing, then report
    python benchmarks/results.py --list
    python benchmarks/results.py --only main --data-sets amazon14-beauty --seeds 0
    python benchmarks/results.py --only ablation --again train                  # measure the chosen cells anew
    python benchmarks/results.py --report                                       # from the finished cells alone
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from grid.cells import GRID, KINDS, Cell, Grid
from grid.measure import measure, record_of
from grid.report import write_report
from shared import ROOT, Row

from sparcode.errors import ConfigError, SparcodeError
from sparcode.eval.machine import git_commit
from sparcode.files import read_json, write_json
from sparcode.locks import locked

DONE, FAILED, MISSING, STALE = "done", "failed", "missing", "stale"
INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM: nothing is said about the cell, and its training goes on next time."""
Run = Callable[[Cell], Row]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the options ask for; returns the exit code: 1 when a chosen cell is not finished."""
    options = _parser().parse_args(arguments)
    try:
        return _main(options)
    except SparcodeError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1


def _main(options: argparse.Namespace) -> int:
    grid = load_grid(options.grid)
    cells = grid.cells()
    if options.cell:
        measure(_named(cells, options.cell), _data(options), options.work)
        return 0
    chosen = select(cells, options)
    if options.list:
        show(chosen, options.work)
        return 0
    if not options.report:
        with only_one(options.work):
            run_cells(chosen, options)
    write_report(grid, cells, options.work, json=options.out, markdown=options.docs, readme=options.readme)
    return 0 if options.report or all(state_of(cell, options.work) == DONE for cell in chosen) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = os.environ.get("SPARCODE_DATA")
    folder = Path(given) if given else None
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", default=folder, help="of the data; default SPARCODE_DATA"
    )
    parser.add_argument("--only", type=_names, metavar="KIND,...", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--data-sets", type=_names, metavar="NAME,...")
    parser.add_argument("--seeds", type=_names, metavar="S,...")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="cells side by side, one thread each")
    again = "measure the chosen cells anew; evaluate: their trained runs are kept"
    parser.add_argument("--again", choices=("train", "evaluate"), help=again)
    parser.add_argument("--list", action="store_true", help="list the chosen cells with their state, and stop")
    parser.add_argument("--report", action="store_true", help="write the report from finished cells, measure nothing")
    parser.add_argument("--cell", metavar="KEY", help="measure this one cell in this process, and stop")
    parser.add_argument("--grid", type=Path, metavar="FILE.py", help="a file that defines GRID; default grid/cells.py")
    parser.add_argument("--work", type=Path, metavar="FOLDER", default=ROOT / "runs" / "results")
    parser.add_argument("--out", type=Path, metavar="FILE", default=ROOT / "benchmarks" / "results" / "results.json")
    parser.add_argument("--docs", type=Path, metavar="FILE", default=ROOT / "docs" / "results.md")
    parser.add_argument("--readme", type=Path, metavar="FILE", default=ROOT / "README.md")
    return parser


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def load_grid(path: Path | None) -> Grid:
    """Return the grid of a Python file, or the one of grid/cells.py."""
    if path is None:
        return GRID
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"--grid {path}: expected a Python file that defines GRID")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    grid: Grid = module.GRID
    return grid


def select(cells: Sequence[Cell], options: argparse.Namespace) -> list[Cell]:
    """Return the cells the filters leave; ConfigError for a name that no cell has."""
    filters: list[tuple[str, list[str] | None, Callable[[Cell], str]]] = [
        ("--only", options.only, lambda cell: cell.kind),
        ("--data-sets", options.data_sets, lambda cell: cell.data.name),
        ("--seeds", options.seeds, lambda cell: str(cell.seed)),
    ]
    for option, wanted, value in filters:
        known = list(dict.fromkeys(map(value, cells)))
        if unknown := [name for name in wanted or [] if name not in known]:
            raise ConfigError(f"{option} {unknown[0]!r}: no such cell; known: {', '.join(known)}")
    return [cell for cell in cells if all(not wanted or value(cell) in wanted for _, wanted, value in filters)]


def _named(cells: Sequence[Cell], key: str) -> Cell:
    found = next((cell for cell in cells if cell.key == key), None)
    if found is None:
        raise ConfigError(f"--cell {key!r}: no such cell; --list shows them")
    return found


def _data(options: argparse.Namespace) -> Path:
    if options.data is None:
        raise ConfigError("where are the data sets? give --data FOLDER or set SPARCODE_DATA")
    folder: Path = options.data
    return folder


def state_of(cell: Cell, work: Path) -> str:
    """Return done, failed, missing, or stale: an ablation of a model that has since been trained again."""
    path = record_of(work, cell.digest)
    if not path.exists():
        return MISSING
    row = read_json(path)
    if row["state"] == DONE and cell.needs is not None and state_of(cell.needs, work) == DONE:
        return DONE if row["model_hash"] == read_json(record_of(work, cell.needs.digest))["model_hash"] else STALE
    return str(row["state"])


def show(cells: Sequence[Cell], work: Path) -> None:
    """Print a line a cell: state, digest, key, and why it failed."""
    for cell in cells:
        state = state_of(cell, work)
        reason = read_json(record_of(work, cell.digest))["error"] if state == FAILED else ""
        print(f"{state:8} {cell.digest} {cell.key}{reason and ': '}{reason}")


@contextmanager
def only_one(work: Path) -> Iterator[None]:
    """Hold the work folder for one call at a time."""
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / "LOCK", f"{work} is in use by another call; wait for it, or give another --work"):
        yield


def run_cells(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Measure the cells that are not finished, each in a process of its own."""
    if options.again:
        _forget(cells, options.work, runs=options.again == "train")
    todo = [cell for cell in cells if state_of(cell, options.work) != DONE]
    print(f"{len(todo)} of {len(cells)} cells to measure", flush=True)
    if todo:
        _data(options)
        processes = Processes(options)
        schedule(todo, options.work, options.workers, processes.run, processes.stop)


def _forget(cells: Sequence[Cell], work: Path, *, runs: bool) -> None:
    for cell in cells:
        record_of(work, cell.digest).unlink(missing_ok=True)
        if runs:
            shutil.rmtree(work / cell.digest, ignore_errors=True)


def schedule(todo: Sequence[Cell], work: Path, workers: int, run: Run, stop: Callable[[], None]) -> None:
    """Run the cells, an ablation once its main cell is done; ``stop`` ends those running when this is interrupted."""
    waiting, running, finished = list(todo), dict[Future[Row], Cell](), 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while True:
                for cell in [cell for cell in waiting if _ready(cell, waiting, list(running.values()))]:
                    waiting.remove(cell)
                    if cell.needs is not None and state_of(cell.needs, work) != DONE:
                        finished += 1
                        print(
                            f"[{finished}/{len(todo)}] {cell.key}: left out, {cell.needs.key} is not done", flush=True
                        )
                    else:
                        running[pool.submit(run, cell)] = cell
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    finished += 1
                    _tell(f"[{finished}/{len(todo)}] {running.pop(future).key}", future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()  # leaving the block waits for what is running
            raise


def _ready(cell: Cell, waiting: Sequence[Cell], running: Sequence[Cell]) -> bool:
    if cell.needs is None:
        return True
    # By digest: the main cell of another call of ``Grid.cells`` is the same cell.
    return cell.needs.digest not in {other.digest for other in (*waiting, *running)}


def _tell(cell: str, row: Row) -> None:
    outcome = f"failed: {row['error']}" if row["state"] == FAILED else "done"
    print(f"{cell}: {outcome} after {row['wall_seconds']:.0f} s", flush=True)


class Processes:
    """Runs cells as processes and knows which are alive."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.alive: set[subprocess.Popen[bytes]] = set()

    def stop(self) -> None:
        """End the processes that are alive."""
        for process in list(self.alive):
            process.terminate()

    def run(self, cell: Cell) -> Row:
        """Measure one cell and return its record, or what is known about its failure."""
        folder, began = self.options.work / cell.digest, time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        path, log = record_of(self.options.work, cell.digest), folder / "log.txt"
        path.unlink(missing_ok=True)
        with open(log, "wb") as stream:
            command, env = self._command(cell), one_thread_env()
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=env)
            self.alive.add(process)
            code = process.wait()
            self.alive.discard(process)
        if code == INTERRUPTED:
            return {"state": FAILED, "error": "interrupted", "wall_seconds": time.perf_counter() - began}
        row = read_json(path) if code == 0 else _failure(cell, self._public(reason_of(log, code)))
        write_json(path, row | {"wall_seconds": round(time.perf_counter() - began, 1)})
        return row | {"wall_seconds": time.perf_counter() - began}

    def _command(self, cell: Cell) -> list[str]:
        options = self.options
        command = [sys.executable, str(Path(__file__).resolve()), "--cell", cell.key, "--work", str(options.work)]
        command += ["--data", str(options.data)]
        return command if options.grid is None else [*command, "--grid", str(options.grid)]

    def _public(self, text: str) -> str:
        # Reports are published: they say nothing of the folders of this machine.
        folders = {self.options.work: "WORK", self.options.data: "DATA", ROOT: "."}
        for folder, name in folders.items():
            for spelling in (str(Path(folder).resolve()), str(folder)):
                text = text.replace(spelling, name)
        return text


def one_thread_env() -> dict[str, str]:
    """Return the environment of a cell: one thread in every numeric library."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, "1")}


def _failure(cell: Cell, error: str) -> Row:
    return {
        "state": FAILED, "key": cell.key, "kind": cell.kind, "data": cell.data.name, "seed": cell.seed,
        "label": cell.label, "config": cell.identity, "error": error, "commits": [git_commit() or "unknown"],
    }  # fmt: skip


def reason_of(log: Path, code: int) -> str:
    """Return why a process failed: its signal, if one ended it, and the last line it wrote."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else "nothing was written"
    return f"ended by signal {-code}; last line: {last}" if code < 0 else last


def _stop(signal: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, _stop)
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(INTERRUPTED)
