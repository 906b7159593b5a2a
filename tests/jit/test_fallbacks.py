"""A numba that has moved what we rest on makes us slower and changes no bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import TinyRun

ROOT = Path(__file__).resolve().parents[2]
PARTS = ["addresses", "cache", "entries", "packing", "prefetch", "tiles"]
SCRIPT = """
import builtins, hashlib, json, sys
import numba
parts, run = sys.argv[1].split(","), sys.argv[2]
importing = builtins.__import__

def refuse(name, globals=None, locals=None, fromlist=(), level=0):
    here = (globals or {}).get("__name__", "").rpartition("sparcode.jit.")[2]
    if here in parts and name.startswith(("llvmlite", "numba.")):
        raise ImportError(name + " has moved")
    return importing(name, globals, locals, fromlist, level)

builtins.__import__ = refuse
import numpy as np
from sparcode import SparCode
from sparcode.jit import active
model = SparCode.load(run)
users = model._snapshot.dataset.user_ids.to_external(np.arange(12))
found = [model.recommend(users=[user], k=k) for user in users for k in (5, 30)]
found.append(model.recommend(users=list(users), k=10))
gone = sorted(name for name, state in active().items() if state != "active")
print(json.dumps([gone, hashlib.sha256(repr(found).encode()).hexdigest()]))
"""


def answers(without: list[str], run: Path, cache: Path) -> tuple[list[str], str]:
    """Return which parts are not active, and a digest of answers, in an own interpreter."""
    command = [sys.executable, "-c", SCRIPT, ",".join(without), str(run)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def wanted(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the digest with everything in place."""
    gone, digest = answers([], tiny_run.folder, tmp_path_factory.mktemp("kernels"))
    assert gone == []
    return digest


# Each costs a compilation of everything, so that all are taken away at once but ``entries``, without which compiling
# takes minutes. To try that: WITHOUT = PARTS.
WITHOUT = [part for part in PARTS if part != "entries"]


@pytest.mark.parametrize("without", [WITHOUT], ids=["all"])
def test_answers_stay_without(without: list[str], wanted: str, tiny_run: TinyRun, tmp_path: Path) -> None:
    gone, digest = answers(without, tiny_run.folder, tmp_path)
    assert gone == without
    assert digest == wanted
