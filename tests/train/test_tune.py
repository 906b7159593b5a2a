"""`sparcode tune`: the best trial is written, every trial is logged, the test split is never read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from sparcode.config import config_from_dict
from sparcode.errors import ConfigError, DataError
from sparcode.train.tune import tune
from tests.worlds import planted_table, tiny_config

QUICK = {"train.epochs": 1, "model.heads": 1, "quantizer.warmup": 1.0, "scorer.kind": "dot"}


@pytest.mark.parametrize("system", ["sparcode", "two-tower"])
def test_the_best_of_the_logged_trials_is_written(tmp_path: Path, system: str) -> None:
    lines: list[str] = []
    out = tmp_path / "best.toml"
    best = tune(planted_table(), out, tiny_config(**QUICK), trials=3, system=system, progress=lines.append)
    trials = [json.loads(line) for line in (tmp_path / "best.trials.jsonl").read_text().splitlines()]
    assert [trial["trial"] for trial in trials] == [0, 1, 2]
    assert len(lines) == 3
    winner = max(trials, key=lambda trial: trial["validation_ndcg@10"])
    for key, value in winner["changes"].items():
        section, name = key.split(".")
        assert getattr(getattr(best, section), name) == value
    assert config_from_dict(tomllib.loads(out.read_text())) == best


@pytest.fixture
def debugging() -> Iterator[None]:
    """optuna as somebody set it who looks for a fault."""
    earlier = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    yield
    optuna.logging.set_verbosity(earlier)


@pytest.mark.usefixtures("debugging")
def test_the_given_configuration_is_the_first_trial(tmp_path: Path) -> None:
    given = tiny_config(**QUICK)
    assert tune(planted_table(), tmp_path / "best.toml", given, trials=1, system="two-tower") == given
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG  # the caller's, given back
    assert json.loads((tmp_path / "best.trials.jsonl").read_text())["changes"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"trials": 0}, "trial"), ({"minutes": 0.0}, "minutes"), ({"system": "gnn"}, "sparcode, two-tower")],
)
def test_bad_arguments_are_one_line(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(planted_table(), tmp_path / "best.toml", tiny_config(**QUICK), **options)


def test_data_without_validation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="validation"):
        tune(planted_table(), tmp_path / "best.toml", tiny_config(**{"data.split_by": "none"}))
    assert not (tmp_path / "best.toml").exists()
