"""Systems that lack what Linux has: names are taken away in a process of its own, and a run is built and queried."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TinyRun

BEFORE = """
import sys
import numpy, numba, pyarrow, pydantic, safetensors, filelock, platformdirs  # they bring their own guards
import logging.handlers, tempfile, subprocess, multiprocessing
import os, mmap
for name in {modules!r}:
    sys.modules[name] = None
for name in {attributes!r}:
    if hasattr(os, name):
        delattr(os, name)
for name in {constants!r}:
    if hasattr(mmap, name):
        delattr(mmap, name)
"""
USE = """
from sparcode.api import SparCode
from sparcode.build.job import build_index
from sparcode.build.runners import build_runner
build_index({run!r})
build_runner("threads")
model = SparCode.load({run!r})
items = model.run.dataset.item_ids.external.to_pylist()[:3]
print(model.recommend(histories=[items], k=5)[0].tolist())
"""
ALL = """
import importlib, pkgutil, sparcode, sparcode_cli
for package in (sparcode, sparcode_cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
LACKING = {
    "macOS": ([], ["sched_getaffinity", "sched_setaffinity", "posix_fadvise", "memfd_create"], ["MADV_POPULATE_READ"]),
    "Windows": (
        ["fcntl", "resource", "pwd", "grp", "termios"],
        ["sched_getaffinity", "sched_setaffinity", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "getuid",
         "geteuid", "sysconf", "fork", "posix_fadvise", "getloadavg", "killpg", "mkfifo", "uname"],
        ["PROT_READ", "PROT_WRITE", "MAP_SHARED", "MAP_PRIVATE"],
    ),
}  # fmt: skip


def lacking(system: str, script: str) -> str:
    """Run a script as on ``system`` and return what it printed."""
    modules, attributes, constants = LACKING[system]
    before = BEFORE.format(modules=modules, attributes=attributes, constants=constants)
    done = subprocess.run([sys.executable, "-c", before + script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("system", LACKING)
def test_a_run_is_built_and_queried(tiny_run: TinyRun, tmp_path: Path, system: str):
    run = str(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    assert lacking(system, USE.format(run=run)).count(",") == 4


@pytest.mark.parametrize("system", LACKING)
def test_every_module_can_be_imported(system: str):
    pytest.importorskip("torch")
    # torch needs what is taken away, so it comes first; it brings its own guards.
    modules, attributes, constants = LACKING[system]
    before = BEFORE.format(modules=modules, attributes=attributes, constants=constants)
    script = "import torch, scipy.sparse, sklearn.cluster\n" + before + ALL
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
