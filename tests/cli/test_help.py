"""Commands and options that scripts rely on exist under exactly these names."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from sparcode import __version__
from sparcode_cli.main import app

DATA_OPTIONS = ["--columns", "--where", "--min-rating", "--k-core", "--split-by", "--time-cut"]
FILTERS = ["--where", "--allow", "--deny", "--unknown"]
COMMANDS = {
    "data fetch": ["NAME"],
    "data validate": ["DATA", *DATA_OPTIONS],
    "data generate": [
        "--items",
        "--users",
        "--interaction",
        "--events",
        "--exponent",
        "--interests",
        "--seed",
        "--out",
    ],
    "data convert": ["KIND", "RAW", "--out", "--cuts"],
    "embed": [
        *["ITEMS", "--out", "--text-columns", "--text-model", "--features", "--behaviour", "--run", "--run-vectors"],
        *["--fuse", "--width", "--columns", "--seed", "--json"],
    ],
    "sid fit": ["EMBEDDINGS", "--method", "--out", "--set", "--column", "--items", "--category-column", "--histories"],
    "sid encode": ["SID", "EMBEDDINGS", "--out", "--column", "--append"],
    "sid decode": ["SID", "CODES", "--out"],
    "sid info": ["SID", "--item", "--sid", "--embeddings", "--json"],
    "sid export": ["SID", "--format", "--out", "--histories"],
    "train": [
        *["DATA", "--out", "--config", "--set", "--resume", "--overwrite", "--no-baselines", "--device", "--seed"],
        *["--like", *DATA_OPTIONS],
    ],
    "tune": ["DATA", "--out", "--trials", "--minutes"],
    "build-index": [
        *["RUN", "--policy", "--bias", "--density", "--budget-mb", "--postings-per-query", "--length"],
        *["--item-floor", "--runner", "--workers"],
    ],
    "query": [
        *["RUN", "--user", "--items", "--features", "-k", "--rescore", "--include-seen", "--json", *FILTERS],
    ],
    "predict": ["RUN", "--users", "--out", "-k", *FILTERS],
    "similar": ["RUN", "--item", "-k", *FILTERS],
    "explain": ["RUN", "--user", "--items", "--item", "--include-seen", "--json", *FILTERS],
    "info": ["RUN", "--verify"],
    "config list": ["SECTION", "--json"],
    "config show": ["RUN|FILE", "--changes", "--json"],
    "export": ["RUN", "--format", "--out", "--json"],
    "evaluate": ["RUN", "--split", "--retriever", "--json", "--per-query"],
    "benchmark": ["RUN", "--json"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_its_options(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    words = result.output.replace("[", " ").replace("]", " ").replace("{", " ").replace("}", " ").split()
    missing = [option for option in [*COMMANDS[command], "--quiet"] if option.rstrip(",") not in words]
    assert not missing, f"sparcode {command} --help does not name {missing}"


def test_root_help_lists_every_command() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    assert [name for name in {command.split()[0] for command in COMMANDS} if f"  {name} " not in output] == []


def test_every_command_says_what_it_does() -> None:
    for line in CliRunner().invoke(app, ["--help"]).output.partition("Commands:")[2].strip().splitlines():
        assert len(line.split()) > 2, line
        assert not line.rstrip().endswith("..."), f"the summary of {line.split()[0]} is cut off: shorten it"


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output.strip() == f"sparcode {__version__}"
    assert result.exit_code == 0
