"""The benchmark scripts as modules, and a tiny planted world to run them on."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from sparcode.config import to_toml
from sparcode.data.synthetic import planted_groups, write_world
from tests.worlds import tiny_config

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Callable[[str], ModuleType]:
    """Import a script by name; the folder of scripts comes first, as when Python runs one of them."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(SCRIPTS))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(SCRIPTS))

    return load


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that choose a tiny world, a configuration of two epochs, and temporary folders."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_world(planted_groups(60, 40, 4, 10), folder / "world")
    (folder / "tiny.toml").write_text(to_toml(tiny_config(**{"train.epochs": 2, "quantizer.warmup": 0.5})))
    return [
        str(folder / "world"), "--config", str(folder / "tiny.toml"), "--work", str(folder / "runs"),
        "--out", str(folder / "results.json"),
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny codebooks may be warned about
        yield
