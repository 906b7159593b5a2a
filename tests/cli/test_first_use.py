"""Commands on a machine whose kernel cache is empty, after other code of the process has started numba's threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import TinyRun

SCRIPT = """
import sys
import numba, numpy as np

@numba.njit(parallel=True)
def of_another_library(values):
    total = 0.0
    for place in numba.prange(len(values)):
        total += values[place]
    return total

assert of_another_library(np.ones(1000)) == 1000
before = numba.get_num_threads()
from sparcode_cli.main import app
assert not app(["benchmark", *sys.argv[1:]], prog_name="sparcode", standalone_mode=False)
assert of_another_library(np.ones(1000, np.float32)) == 1000  # compiles once more
assert numba.get_num_threads() == before
"""


def test_benchmark_compiles_while_threads_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_run.folder), "--json", str(tmp_path / "benchmark.json")],
        capture_output=True, text=True, check=False, env=clean | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cache").rglob("*.nbi")), "the kernels were compiled in this test"
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert document["machine"]["threads"]["numba"] == "1"
