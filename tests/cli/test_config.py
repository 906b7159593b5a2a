"""``sparcode config``: every key is described, the page of keys is up to date, a run's configuration can be read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from sparcode.config import Config, config_from_dict, known_keys
from sparcode.config_keys import described_keys
from sparcode.errors import ConfigError
from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def output_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["config", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_key_has_a_meaning_and_its_own_default() -> None:
    keys = described_keys()
    assert [key.name for key in keys] == known_keys()
    assert [key.name for key in keys if not key.meaning] == []
    for key in keys:
        value = Config().model_dump()
        for part in key.name.split("."):
            value = value[part]
        assert value == key.default, key.name


def test_values_and_bounds_are_named() -> None:
    keys = {key.name: key.values for key in described_keys()}
    assert keys["model.heads"] == "integer, >= 1, <= 32"
    assert keys["model.dropout"] == "number, >= 0, < 1"
    assert keys["scorer.kind"] == "hadamard | concatenation | mixture | dot | counts"
    assert keys["families.item.enabled"] == "true | false"


@pytest.mark.parametrize("prefix", ["families.item", "families.item.", "families.item.length"])
def test_a_section_or_a_key_can_be_listed(prefix: str) -> None:
    names = [key.name for key in described_keys(prefix)]
    assert "families.item.length" in names
    assert all(name.startswith("families.item.") for name in names)


def test_a_misspelt_section_is_told_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match=r"'modle'; did you mean 'model'\?"):
        described_keys("modle")


def test_the_page_of_keys_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == output_of("list", "--markdown"), (
        "write it again: sparcode config list --markdown > docs/configuration.md"
    )


def test_the_list_as_json() -> None:
    rows = json.loads(output_of("list", "query", "--json"))
    assert {key: rows[0][key] for key in ("name", "default")} == {"name": "query.rescore", "default": 100}


def test_the_configuration_of_a_run(tiny_run: TinyRun) -> None:
    shown = config_from_dict(tomllib.loads(output_of("show", str(tiny_run.folder))))
    changes = config_from_dict(tomllib.loads(output_of("show", str(tiny_run.folder), "--changes")))
    assert shown == changes
    assert shown.model.width == 16


def test_the_configuration_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[model]\nheads = 4\n", encoding="utf-8")
    assert tomllib.loads(output_of("show", str(tmp_path / "mine.toml"), "--changes")) == {"model": {"heads": 4}}


def test_what_is_neither_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["config", "show", str(tmp_path)])
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1
