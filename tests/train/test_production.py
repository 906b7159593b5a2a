"""A run trained like an evaluated one reads its data alike: options are taken over, contradictions refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparcode.config import Config, DataConfig, load_config, updated
from sparcode.data.dataset import load_dataset
from sparcode.errors import ConfigError
from sparcode.run import Run
from sparcode.train.production import inherited
from sparcode.train.run import train_run

SMALL = {"model.width": 8, "model.history": 5, "quantizer.codewords": 4, "train.epochs": 1, "additive.epochs": 1}
OPTIONS = {
    "data.columns": {"user": "who", "item": "what", "time": "when"},
    "data.where": "kind=a",
    "data.min_rating": 0.7,
    "data.k_core": 2,
    "data.text_width": 0,
}


def events() -> pa.Table:
    rng = np.random.default_rng(0)
    count = 400
    return pa.table(
        {
            "who": rng.integers(0, 20, count),
            "what": rng.integers(0, 15, count),
            "when": np.arange(count),
            "timestamp": np.arange(count)[::-1],
            "rating": pa.array(rng.choice([0.1, 0.7, 0.9], count), pa.float32()),
            "kind": rng.choice(["a", "b"], count, p=[0.9, 0.1]),
        }
    )


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("production") / "earlier"
    return train_run(events(), out, updated(Config(), SMALL | OPTIONS), baselines=False, progress=False)


def like(earlier: Run, out: Path, **changes: Any) -> Run:
    config = updated(Config(), {"data.split_by": "none"} | {key.replace("__", "."): v for key, v in changes.items()})
    return train_run(events(), out, config, like=earlier.folder, baselines=False, progress=False)


def test_data_options_are_taken_over_and_recorded(earlier: Run, tmp_path: Path) -> None:
    run = like(earlier, tmp_path / "run", seed=7, data__k_core=2)
    data = load_config(tmp_path / "run" / "config.toml").data
    assert data == earlier.config.data.model_copy(update={"split_by": "none"})
    assert run.config.seed == 7
    assert run.dataset.summary["dropped"] == earlier.dataset.summary["dropped"]
    assert run.dataset.summary["columns"] == earlier.dataset.summary["columns"]
    assert len(run.dataset.train.items) == len(earlier.dataset.serving.items)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.k_core", 0, "data.k_core: 0 contradicts the earlier run, where it was 2"),
        ("data.where", "kind=b", "data.where: 'kind=b' contradicts the earlier run, where it was 'kind=a'"),
        ("data.min_rating", 0.9, "data.min_rating: 0.9 contradicts .* 0.7"),
        ("data.text_width", 16, "data.text_width"),
        ("data.columns", {"time": "timestamp"}, "data.columns.time: 'timestamp' contradicts .* 'when'"),
        ("data.split_by", "time", "trains on every event, found data.split_by='time'"),
    ],
)
def test_contradictions_are_refused_before_anything_is_written(
    earlier: Run, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        like(earlier, tmp_path / "run", **{key: value})
    assert not (tmp_path / "run").exists()


def test_other_keys_that_are_ignored_are_named(earlier: Run, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"model\.width=32 is ignored: .* takes over its 8"):
        run = like(earlier, tmp_path / "run", model__width=32, train__threads=1)
    assert run.config.model.width == 8
    assert run.config.train.threads == 1


def test_inherited_options() -> None:
    had = DataConfig(columns={"user": "u", "split": "s", "rating": "r"}, where="a=1", split_by="column")
    found = inherited(DataConfig(split_by="none", columns={"item": "i", "user": "u"}), had)
    assert found == DataConfig(columns={"user": "u", "item": "i"}, where="a=1", split_by="none")
    assert inherited(DataConfig(split_by="none", catalogue_items=False), had).catalogue_items is False
    assert inherited(DataConfig(split_by="none"), DataConfig(catalogue_items=False)).catalogue_items is False
    with pytest.raises(ConfigError, match=r"min_rating: 3.0 contradicts .* not set"):
        inherited(DataConfig(split_by="none", min_rating=3), had)


def test_columns_that_the_earlier_run_guessed_are_read_again() -> None:
    table = pa.table({"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3, 1, 2, 3], "date": [1, 2, 3, 1, 2, 3]})
    first = load_dataset(table, DataConfig(), seed=0)
    more = table.append_column("timestamp", pa.array([3, 2, 1, 3, 2, 1]))
    again = load_dataset(more, DataConfig(split_by="none"), seed=0, like=first)
    assert again.summary["columns"]["time"] == "date"
    other = load_dataset(table.rename_columns(["user", "item", "ts"]), DataConfig(), seed=0, like=first)
    assert other.summary["columns"]["time"] == "ts"


def test_what_is_left_to_its_default_counts_as_not_set() -> None:
    config = updated(Config(), {"data.k_core": 0})
    assert config.data.model_fields_set == {"k_core"}
    assert updated(config, {"model.heads": 2}).data.model_fields_set == {"k_core"}
    assert updated(config, {"model.heads": 2}) == Config.model_validate({"model": {"heads": 2}})
