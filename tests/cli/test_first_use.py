"""The command ``benchmark`` compiles although other code of the process has started numba's threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import numba, numpy as np
import sparcode.retrievers.evaluation as run
from sparcode_cli.main import app

@numba.njit(parallel=True)
def of_another_library(values):
    total = 0.0
    for place in numba.prange(len(values)):
        total += values[place]
    return total

def benchmark_run(folder, json=None, progress=None):
    # In place of the measurement, which compiles some hundred kernels: one of ours and one of another library.
    from sparcode.query.search.best import insert_best
    with run.one_thread() as how:
        assert insert_best(np.empty(3, np.int32), np.empty(3, np.float32), 0, 1, 1.0) == 1
        assert of_another_library(np.ones(1000, np.float32)) == 1000
    print(how["numba"], folder)
    return {"rows": [], "machine": {}}

assert of_another_library(np.ones(1000)) == 1000
before, run.benchmark_run = numba.get_num_threads(), benchmark_run
assert not app(["benchmark", "RUN"], prog_name="sparcode", standalone_mode=False)
assert of_another_library(np.ones(1000, np.int64)) == 1000
assert numba.get_num_threads() == before
"""


def test_benchmark_compiles_while_threads_run(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False,
        env=clean | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 RUN")
    assert list((tmp_path / "cache").rglob("*.nbi")), "nothing was compiled"
