"""``python -m sparcode_cli.demo``: the whole path on ml-100k, command by command, into runs/demo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from .main import app
from .output import say
from .query import print_answers, query

NAME = "ml-100k"
RUN = Path("runs/demo")
CONFIG = Path("configs/demo.toml")
USER = "1"


def main() -> None:
    """Fetch, train, build the index, recommend, explain, benchmark."""
    from sparcode.threads import set_environment_defaults

    set_environment_defaults()
    command("data", "fetch", NAME)
    command("data", "validate", NAME)
    chosen = ("--config", str(CONFIG)) if CONFIG.is_file() else ()
    command("train", NAME, "--out", str(RUN), "--overwrite", *chosen)
    command("build-index", str(RUN))
    show("query", str(RUN), "--user", USER, "-k", "10")
    answers = query(RUN, {"users": [USER]}, k=10)
    print_answers(answers)
    command("explain", str(RUN), "--user", USER, "--item", str(answers[0]["item_id"]))
    command("benchmark", str(RUN))


def show(*arguments: str) -> None:
    """Write the command line a person would type."""
    say("")
    say(f"$ sparcode {shlex.join(arguments)}")


def command(*arguments: str) -> None:
    """Show and run one command; a command that fails ends the demo with its exit code."""
    show(*arguments)
    sys.stdout.flush()
    code = app(list(arguments), prog_name="sparcode", standalone_mode=False)
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
