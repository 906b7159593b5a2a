"""After a warm-up no query of any shape needs another kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from sparcode import SparCode
from sparcode.jit import cache
from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun


SCRIPT = """
import json, sys
from sparcode import SparCode
from sparcode.jit import cache
asked = []
load = cache.KernelCache.load_overload
model = SparCode.load(sys.argv[1])
if sys.argv[2] == "warm":
    model.warmup()
cache.KernelCache.load_overload = lambda own, *given: (asked.append(own._base), load(own, *given))[1]
users = [f"u{number:03d}" for number in range(40)]
for settings in ({}, {"k": 40}, {"rescore": 0}, {"include_seen": True}, {"allow": [100, 104]}, {"deny": [100]}):
    model.recommend(users=users[:1], **settings)
    model.recommend(users=users, **settings)
model.recommend(histories=[[], [100, 104]], k=200)
model.similar_items([100])
print(json.dumps(asked))
"""


def kernels_asked_for(run: Path, how: str) -> list[str]:
    """Return the kernels that queries of a fresh process look for, after a warm-up or without one."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(run), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_queries_after_it_look_for_no_kernel(tiny_run: TinyRun) -> None:
    assert kernels_asked_for(tiny_run.folder, "cold"), "without a warm-up some are looked for"
    assert kernels_asked_for(tiny_run.folder, "warm") == []


def test_the_command_says_how_long_and_where(tiny_run: TinyRun) -> None:
    done = CliRunner().invoke(app, ["warmup", str(tiny_run.folder)])
    assert done.exit_code == 0
    assert re.fullmatch(r"ready in \d+\.\d s; compiled kernels are kept in .+\n", done.stdout)
    done = CliRunner().invoke(app, ["warmup", str(tiny_run.folder), "--json"])
    content = json.loads(done.stdout)
    assert content["kernels"] == cache.kept_in()
    assert content["seconds"] >= 0


def test_answers_do_not_depend_on_it(tiny_run: TinyRun) -> None:
    model = SparCode.load(tiny_run.folder)
    before = model.recommend(users=["u000"])
    assert isinstance(model.warmup(), float)
    assert model.recommend(users=["u000"])[0].tolist() == before[0].tolist()
