"""What goes wrong ends in one line on stderr and the right exit code, never in a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from sparcode.errors import RunError
from sparcode_cli import train as train_module
from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def assert_one_line_error(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert [word for word in words if word not in lines[0]] == [], lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "RUN", "--user", "1"],
        ["similar", "RUN", "--item", "1"],
        ["explain", "RUN", "--user", "1", "--item", "2"],
        ["info", "RUN"],
        ["evaluate", "RUN"],
        ["benchmark", "RUN"],
        ["build-index", "RUN"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_that_is_no_run(arguments: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    result = invoke(*(str(folder) if word == "RUN" else word for word in arguments))
    assert_one_line_error(result, str(folder), "sparcode train")


def test_data_that_do_not_exist(tmp_path: Path) -> None:
    assert_one_line_error(invoke("data", "validate", str(tmp_path / "absent.csv")), "absent.csv")


def test_unknown_set() -> None:
    assert_one_line_error(invoke("data", "fetch", "ml-100"), "ml-100k")


def test_unknown_configuration_key_suggests_the_right_one(tmp_path: Path) -> None:
    result = invoke("train", "x.csv", "--out", str(tmp_path / "run"), "--set", "model.head=4")
    assert_one_line_error(result, "model.head", "model.heads")
    assert not (tmp_path / "run").exists()


def test_malformed_override(tmp_path: Path) -> None:
    assert_one_line_error(invoke("train", "x.csv", "--out", str(tmp_path / "run"), "--set", "model.heads"), "KEY=VALUE")


def test_missing_configuration_file(tmp_path: Path) -> None:
    result = invoke("train", "x.csv", "--out", str(tmp_path / "run"), "--config", str(tmp_path / "no.toml"))
    assert_one_line_error(result, "no.toml")


def test_missing_file_of_users(tmp_path: Path) -> None:
    result = invoke("predict", str(tmp_path), "--users", str(tmp_path / "no.txt"), "--out", str(tmp_path / "o.parquet"))
    assert_one_line_error(result, "no.txt")


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "RUN"],
        ["query", "RUN", "--user", "1", "--items", "2"],
        ["query", "RUN", "--user", "1", "-k", "0"],
        ["query", "RUN", "--features", "{not json"],
        ["query", "RUN", "--features", "[1]"],
        ["train", "x.csv"],
        ["train", "x.csv", "--out", "RUN", "--resume", "--overwrite"],
        ["train", "x.csv", "--out", "RUN", "--like", "OTHER"],
        ["train", "x.csv", "--out", "RUN", "--columns", "usr=a"],
        ["train", "x.csv", "--out", "RUN", "--columns", "user"],
        ["train", "x.csv", "--out", "RUN", "--split-by", "random"],
        ["build-index", "RUN", "--policy", "budget"],
        ["build-index", "RUN", "--policy", "budget", "--bias", "1"],
        ["build-index", "RUN", "--bias", "1", "--density", "2"],
        ["build-index", "RUN", "--policy", "length"],
        ["build-index", "RUN", "--length", "8", "--bias", "1"],
        ["build-index", "RUN", "--length", "0"],
        ["build-index", "RUN", "--length", "8", "--item-floor", "1"],
        ["build-index", "RUN", "--budget-mb", "8", "--item-floor", "-1"],
        ["build-index", "RUN", "--runner", "cluster"],
        ["evaluate", "RUN", "--split", "train"],
        ["predict", "RUN", "--users", "x"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert "--help)" in result.stderr


def test_wrong_option_before_the_command() -> None:
    result = invoke("--fast", "info", "RUN")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def fail_with(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> Result:
    def train(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(train_module, "train", train)
    return invoke("train", "x.csv", "--out", "run")


def test_message_is_one_line_whatever_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_line_error(fail_with(monkeypatch, RunError("first\nsecond")), "error: first second")


def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_line_error(fail_with(monkeypatch, OSError(28, "No space left on device", "run/x")), "No space left")


def test_errors_of_the_system_name_the_file_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_line_error(fail_with(monkeypatch, OSError(28, "No space left", "run/x")), "run/x: No space", "free some")
    assert_one_line_error(fail_with(monkeypatch, OSError(13, "Permission denied", "x")), "x: Perm", "you may write to")


def test_unprintable_characters_stay_out_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_line_error(fail_with(monkeypatch, RunError("a\x1b[31mb\x00")), "a?[31mb?")


def test_unexpected_errors_name_their_type_and_the_way_to_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_line_error(fail_with(monkeypatch, ZeroDivisionError("oh")), "ZeroDivisionError", "SPARCODE_DEBUG=1")


def test_debug_lets_the_exception_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARCODE_DEBUG", "1")
    assert isinstance(fail_with(monkeypatch, RunError("no")).exception, RunError)


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fail_with(monkeypatch, KeyboardInterrupt())
    assert result.exit_code == 130
    assert len(result.stderr.splitlines()) == 1


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    # Only this module, which imports torch first: a package imported anew would stay behind in its parent.
    monkeypatch.delitem(sys.modules, "sparcode.train.run", raising=False)
    assert_one_line_error(invoke("train", "x.csv", "--out", "run"), "torch", "pip install 'sparcode[train]'")


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sparcode_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_real_process_prints_no_traceback(tmp_path: Path) -> None:
    done = run_process("info", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_real_process_prints_a_traceback_on_request(tmp_path: Path) -> None:
    done = run_process("info", str(tmp_path), SPARCODE_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


WAITING = """
import sys, time
import sparcode_cli.train
from sparcode_cli.main import run

def train(*arguments, **options):
    print("ready", flush=True)
    time.sleep(60)

sparcode_cli.train.train = train
sys.argv = ["sparcode", "train", "x", "--out", "y"]
run()
"""


def test_control_c_in_a_real_process() -> None:
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("config list seed >&-", 1, "error: a stream: Bad file descriptor; it is closed\n"),
        ("config list seed --json >&-", 1, "error: a stream: Bad file descriptor; it is closed\n"),
        ("--version >&-", 1, "error: a stream: Bad file descriptor; it is closed\n"),
        ("config list seed 2>&-", 0, ""),
        ("config list sed 2>&-", 1, ""),
        ("config list seed >/dev/full", 1, "error: a stream: No space left on device; free some space and repeat"),
        ("config list seed --json /dev/full", 1, "error: /dev/full is a device, expected a regular file or a new name"),
        ("config list sed 2>/dev/full", 1, ""),
        ("config list seed --json x.json 2>/dev/full", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(arguments: str, code: int, message: str, tmp_path: Path) -> None:
    if "/dev/full" in arguments and not Path("/dev/full").is_char_device():
        pytest.skip("no /dev/full")
    line = f"{sys.executable} -m sparcode_cli {arguments}"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == bool(message)
    assert bool(done.stdout) == (code == 0 and ">&-" not in arguments.replace("2>&-", ""))


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
def test_stdin_that_is_closed(tiny_run: TinyRun, tmp_path: Path) -> None:
    for command in (f"query {tiny_run.folder} --items -", f"predict {tiny_run.folder} --users - --out p.csv"):
        line = f"{sys.executable} -m sparcode_cli {command} <&-"
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "error: stdin: cannot be read as a list of ids: Bad file descriptor\n"
