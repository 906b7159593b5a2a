"""After a warm-up no query of any shape compiles anything."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from sparcode import SparCode
from sparcode.jit import cache
from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun


def test_queries_after_it_compile_nothing(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SparCode.load(tiny_run.folder)
    assert model.warmup() > 0
    missed: list[str] = []
    monkeypatch.setattr(cache, "_tell_of_compilation", missed.append)  # told of every kernel that no cache holds
    users = [f"u{number:03d}" for number in range(40)]
    for settings in ({}, {"k": 40}, {"rescore": 0}, {"include_seen": True}, {"allow": [100, 104]}, {"deny": [100]}):
        model.recommend(users=users[:1], **settings)
        model.recommend(users=users, **settings)
    model.recommend(histories=[[], [100, 104]], k=200)
    model.similar_items([100])
    assert not missed


def test_the_command_says_how_long_and_where(tiny_run: TinyRun) -> None:
    done = CliRunner().invoke(app, ["warmup", str(tiny_run.folder)])
    assert done.exit_code == 0
    assert re.fullmatch(r"ready in \d+\.\d s; compiled kernels are kept in .+\n", done.stdout)
    done = CliRunner().invoke(app, ["warmup", str(tiny_run.folder), "--json"])
    content = json.loads(done.stdout)
    assert content["kernels"] == cache.kept_in()
    assert content["seconds"] < 60


def test_answers_do_not_depend_on_it(tiny_run: TinyRun) -> None:
    model = SparCode.load(tiny_run.folder)
    before = model.recommend(users=["u000"])
    logging.getLogger(__name__).debug("warm-up took %.1f s", model.warmup())
    assert model.recommend(users=["u000"])[0].tolist() == before[0].tolist()
