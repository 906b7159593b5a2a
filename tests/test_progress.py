"""Bars on a terminal; whole lines without control characters everywhere else."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from sparcode.progress import Bars

WORK = """
from sparcode.build.job import reporter
from sparcode.progress import Bars
from sparcode.train.progress import Terminal
with reporter(True) as report:
    report(1, 2)
    report(2, 2)
terminal = Terminal()
terminal.step("model", 0, 1, 1, 1, 0.5)
terminal.epoch("model", 1, {"epoch": 0, "loss": 0.5, "seconds": 2.0, "ndcg@10": 0.25})
terminal.close()
"""


def console(**options: object) -> Console:
    return Console(file=io.StringIO(), width=100, color_system=None, **options)  # type: ignore[arg-type]


def shown(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def test_a_pipe_gets_whole_lines_only() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "model: epoch 1/1 loss 0.500 validation NDCG@10 0.2500 2 s\n"


def test_a_terminal_shows_a_bar_a_task() -> None:
    target = console(force_terminal=True)
    with Bars(console=target) as bars:
        bars.update("first", done=1, total=4, note="1/4 [good]")
        bars.update("second", text="resting [of a kind]")
        bars.line("no place for it")
        bars.rich.refresh()
        assert [(task.description, task.completed, task.total) for task in bars.rich.tasks] == [
            ("first", 1, 4), ("resting [of a kind]", 0, None),
        ]  # fmt: skip
        bars.finish("second", "done")
        bars.finish("first", "early")
        assert [(task.completed, task.total) for task in bars.rich.tasks] == [(4, 4), (1, 1)]
    assert "1/4 [good]" in shown(target)
    assert "resting [of a kind]" in shown(target)
    assert "no place" not in shown(target)
    assert shown(target).endswith("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "force_interactive": False}], ids=["pipe", "dumb"])
def test_elsewhere_only_lines_are_written(options: dict[str, bool]) -> None:
    target = console(**options)
    with Bars(console=target) as bars:
        bars.update("first", done=1, total=4, note="1/4")
        bars.line("epoch 1 [of 2]" + " more" * 40)
    assert shown(target) == "epoch 1 [of 2]" + " more" * 40 + "\n"


def test_what_is_not_wanted_is_not_shown() -> None:
    target = console(force_terminal=True)
    with Bars(False, target) as bars:
        bars.update("first", done=1)
        bars.line("text")
    assert shown(target) == ""
