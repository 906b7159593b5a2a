"""How long an index takes to open, warm, cold and from process start, and until its first answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.scale.dense_cells import DenseCells
from sparcode.scale.workload import Workload

EXACT = ("exact-numpy", "faiss-flat")
REPEATS = 5
_CHILD = """
import json, sys, time
started = time.perf_counter()
import numpy as np
from sparcode.query.pipeline import Pipeline
from sparcode.types import Queries
pipeline = Pipeline.open(sys.argv[1])
opened = time.perf_counter()
pipeline.retrieve(Queries.single(np.array(json.loads(sys.argv[2]), np.int32)), 10)
print(json.dumps({"open_s": opened - started, "answer_s": time.perf_counter() - started}))
"""


def measure_opening(workload: Workload, cells: DenseCells, found: dict[str, Any]) -> dict[str, Any]:
    """Return seconds, medians: ``open`` and ``answer`` (open and one search), warm and with pages dropped."""
    from sparcode.query.search.searcher import open as open_index

    run = cells.prepared.learned
    rows, weights = workload.lists("learned", workload.timed).one(0)
    query = np.ascontiguousarray(cells.queries("timed")[0])
    result = {"sparcode": _times(run.index_folder, lambda: open_index(run.index_folder), lambda index: index.search_one(
        rows, weights, 10))}  # fmt: skip
    for name, cell in found.items():
        if "missing" in cell or name in EXACT:
            continue
        folder = cells.folder(name)
        result[name] = _times(folder, lambda name=name: cells.opened(name, {}), lambda peer: peer.search(query, 10))  # type: ignore[misc]
    return result | {"sparcode_process": _process(run.folder, workload)}


def _times(folder: Path, open_it: Callable[[], Any], ask: Callable[[Any], Any]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for turn in range(2 * REPEATS):
        state = "warm" if turn < REPEATS else "cold"
        if state == "cold":
            drop_pages(folder)
        started = time.perf_counter()
        opened = open_it()
        found.setdefault(f"open_{state}_s", []).append(time.perf_counter() - started)
        ask(opened)
        found.setdefault(f"answer_{state}_s", []).append(time.perf_counter() - started)
        del opened
    return {name: round(float(np.median(values)), 6) for name, values in found.items()}


def drop_pages(folder: Path) -> None:
    """Ask the system to forget the cached pages of all files under ``folder``; where it cannot, nothing happens."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def _process(folder: Path, workload: Workload) -> dict[str, float]:
    """Return seconds of a new process, imports included: until the run is open, and until its first whole answer."""
    history = json.dumps(workload.timed.history(0).tolist())
    times = []
    for _ in range(3):
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(folder), history], capture_output=True, text=True, check=True
        )
        times.append(json.loads(child.stdout))
    return {name: round(float(np.median([each[name] for each in times])), 4) for name in times[0]}
