"""A search that was stopped goes on with the trials it would have tried; what cannot be used is one line."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparcode.config import Config
from sparcode.errors import RunError
from sparcode.locks import locked
from sparcode.train.tune import _Search, tune
from tests.worlds import planted_table, tiny_config

TRIALS = 11
"""So many that the sampler has begun to learn from earlier ones."""


def measured(config: Config) -> float:
    """Stand for a training: how near the configuration is to one that nobody knows."""
    return math.exp(-abs(math.log(config.train.learning_rate / 2e-3)) - abs((config.model.dropout or 0) - 0.35))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Trainings take no time, nor do disks; the configurations that were trained."""
    seen: list[Config] = []
    connect = sqlite3.connect

    def unsynced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", unsynced)

    def train(self: _Search, config: Config) -> float:
        seen.append(config)
        return measured(config)

    monkeypatch.setattr(_Search, "_train", train)
    return seen


def search(out: Path, trials: int = TRIALS, say: Callable[[str], None] | None = None, **changes: Any) -> Config:
    return tune(planted_table(), out, tiny_config(**changes), trials=trials, progress=say)


def log_of(out: Path) -> list[dict[str, Any]]:
    """Return the logged trials without the time they took."""
    lines = out.with_suffix(".trials.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("stop_at", [0, 1, 10])
def test_a_search_that_was_interrupted_goes_on(
    tmp_path: Path, trained: list[Config], monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    whole = search(tmp_path / "whole.toml")
    del trained[:]

    def interrupted(self: _Search, config: Config) -> float:
        if len(trained) == stop_at:
            raise KeyboardInterrupt
        trained.append(config)
        return measured(config)

    with monkeypatch.context() as patch:
        patch.setattr(_Search, "_train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "best.toml")
    assert not (tmp_path / "best.toml").exists()
    told: list[str] = []
    assert search(tmp_path / "best.toml", say=told.append) == whole
    assert log_of(tmp_path / "best.toml") == log_of(tmp_path / "whole.toml")
    assert len(trained) == TRIALS  # none of those that had a result once more
    assert told[0].startswith(f"going on after {stop_at} trials" if stop_at else "trial 0")


KILLED = """
import os, sys
from pathlib import Path
from sparcode.train.tune import _Search
from tests.train.test_trials import measured, search
seen = []
def train(self, config):
    if len(seen) == 3:
        os.kill(os.getpid(), 9)
    seen.append(config)
    return measured(config)
_Search._train = train
search(Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_search_that_was_killed_goes_on(tmp_path: Path, trained: list[Config]) -> None:
    out = tmp_path / "best.toml"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr[-2000:]
    assert len(log_of(out)) == 3
    best = search(out)
    assert len(trained) == TRIALS - 3
    assert search(tmp_path / "whole.toml") == best
    assert log_of(out) == log_of(tmp_path / "whole.toml")


def test_a_finished_search_trains_nothing_again_and_more_trials_go_on(tmp_path: Path, trained: list[Config]) -> None:
    first = search(tmp_path / "best.toml", 3)
    (tmp_path / "best.toml").unlink()
    (tmp_path / "best.trials.jsonl").unlink()
    assert search(tmp_path / "best.toml", 3, **{"train.threads": 2}).model.heads == first.model.heads
    assert len(trained) == len(log_of(tmp_path / "best.toml")) == 3
    search(tmp_path / "best.toml", 5)
    assert len(trained) == 5
    assert len({config.train.learning_rate for config in trained}) == 5


def test_another_configuration_is_another_search_beside_it(tmp_path: Path, trained: list[Config]) -> None:
    told: list[str] = []
    search(tmp_path / "best.toml", 3)
    search(tmp_path / "best.toml", 2, told.append, **{"model.heads": 1})
    assert len(log_of(tmp_path / "best.toml")) == 2
    assert told[0] == f"{tmp_path}/best.trials.db holds the trials of 1 other searches; this one begins"
    tune(planted_table(), tmp_path / "best.toml", tiny_config(), trials=1, system="two-tower")
    table = planted_table()
    tune(table.slice(0, table.num_rows - 1), tmp_path / "best.toml", tiny_config(), trials=1)
    assert len(trained) == 3 + 2 + 1 + 1
    search(tmp_path / "best.toml", 3)
    assert len(trained) == 7
    assert len(log_of(tmp_path / "best.toml")) == 3


def test_one_process_tunes_at_a_time(tmp_path: Path, trained: list[Config]) -> None:
    with locked(tmp_path / "best.trials.lock", "held"), pytest.raises(RunError, match="is being tuned by another"):
        search(tmp_path / "best.toml", 1)
    assert not trained


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(100)])
def test_a_damaged_file_is_one_line_and_stays(tmp_path: Path, trained: list[Config], content: bytes) -> None:
    search(tmp_path / "best.toml", 2)
    kept = log_of(tmp_path / "best.toml")
    (tmp_path / "best.trials.db").write_bytes(content)
    with pytest.raises(RunError, match=r"best.trials.db cannot be used .*move it away") as caught:
        search(tmp_path / "best.toml", 3)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "best.trials.db").read_bytes() == content
    assert log_of(tmp_path / "best.toml") == kept
    assert len(trained) == 2


def test_a_name_that_a_url_would_read_otherwise(tmp_path: Path, trained: list[Config]) -> None:
    folder = tmp_path / "a?b%20c#d"
    folder.mkdir()
    search(folder / "best.toml", 1)
    assert sorted(path.name for path in folder.iterdir()) == ["best.toml", "best.trials.db", "best.trials.jsonl"]
