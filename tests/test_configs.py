"""Configuration files in the repository load and hold differences from the defaults only."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparcode.config import Config, load_config

FILES = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.toml"))


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and prefix + key != "data.columns":
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_config_loads_and_repeats_no_default(path: Path) -> None:
    load_config(path)
    defaults = dict(leaves(Config().model_dump()))
    same = [key for key, value in leaves(tomllib.loads(path.read_text(encoding="utf-8"))) if defaults[key] == value]
    assert not same, f"{path.name} repeats defaults: {same}"
