"""Messages name arguments to Python and flags to the command line, all of them."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

from sparcode.errors import DataError, MissingExtraError, RunError, SparcodeError
from sparcode.wording import FLAGS, SWITCHES, in_flags, in_python, warn, worded

ROOT = Path(__file__).resolve().parents[1]
PIP = {"no-deps", "only-binary", "disable-pip-version-check", "quiet", "timeout", "retries", "dest"}
GIT = {"porcelain", "untracked-files"}


@pytest.mark.parametrize(
    ("flags", "python"),
    [
        ("continue it with --resume or replace it with --overwrite", "continue it with resume=True or replace it with "
         "overwrite=True"),
        ("write --columns time=NAME", "write columns={'time': 'NAME'}"),
        ("write --columns user=user_id (columns found: a)", "write columns={'user': 'user_id'} (columns found: a)"),
        ("name another column with --columns", "name another column with columns="),
        ("--where: no column 'a'", "where: no column 'a'"),
        ("--where 'a>b': cannot", "where='a>b': cannot"),
        ("no rows are left after --k-core 5", "no rows are left after k_core=5"),
        ("--time-cut 0.5: expected", "time_cut=0.5: expected"),
        ("use --split-by leave-last-out, time or column", "use split_by='leave-last-out', time or column"),
        ("with --set families.item.additive=true", "with config={'families.item.additive': True}"),
        ("--set a.b=3 or --set c=x", "config={'a.b': 3} or config={'c': x}"),
        ("trained with --no-baselines; again", "trained with baselines=False; again"),
        ("--device 'gpu': expected", "device='gpu': expected"),
        ("build it with: sparcode build-index runs/a", "build it with: sparcode build-index runs/a"),
        ("with: sparcode train ... --out a --resume", "with: SparCode.train(..., out='a', resume=True)"),
        ("with: sparcode train ... --out a", "with: SparCode.train(..., out='a')"),
        ("an id such as --strange or a--where-b stays", "an id such as --strange or a--where-b stays"),
        ("nothing to say - or -- to do", "nothing to say - or -- to do"),
    ],
)  # fmt: skip
def test_flags_become_arguments(flags: str, python: str) -> None:
    assert in_python(flags) == python
    assert str(DataError(flags)) == worded(flags) == python
    with in_flags():
        assert str(DataError(flags)) == worded(flags) == flags
    assert str(DataError(flags)) == python


def test_a_message_is_one_line_whatever_it_names() -> None:
    assert str(DataError("near ids: a\nb\u2028c")) == "near ids: a b c"


def test_errors_travel_between_processes() -> None:
    for error in (RunError("use --overwrite"), MissingExtraError("optuna", "tune", "sparcode tune")):
        other = pickle.loads(pickle.dumps(error))
        assert (type(other), str(other)) == (type(error), str(error))
        with in_flags():
            assert str(other) == str(error)
    assert isinstance(RunError("x"), SparcodeError)


def texts(path: Path) -> list[str]:
    """Return the texts of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


def test_every_flag_that_a_message_names_has_its_argument() -> None:
    known = FLAGS | SWITCHES.keys() | {"set"} | PIP | GIT
    found = {
        (path.relative_to(ROOT).as_posix(), flag)
        for path in sorted((ROOT / "sparcode").rglob("*.py"))
        if path.name != "wording.py"
        for text in texts(path)
        for flag in re.findall(r"(?<![\w-])--([a-z][a-z-]*[a-z])", text)
    }
    assert found
    missing = sorted((path, flag) for path, flag in found if flag not in known)
    assert not missing, f"add to sparcode/wording.py: {missing}"


def test_warnings_speak_to_their_reader() -> None:
    with pytest.warns(UserWarning, match=r"^give split_by='time'$") as caught:
        warn("give --split-by time", stacklevel=1)
    assert caught[0].filename == __file__
    with in_flags(), pytest.warns(UserWarning, match="^give --split-by time$"):
        warn("give --split-by time")


def test_no_warning_and_no_log_bypasses_the_wording() -> None:
    """Warnings go through ``wording.warn``; what is logged names no flag."""
    found, logged = [], 0
    for path in sorted((ROOT / "sparcode").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called == "warnings.warn" and path.name != "wording.py":
                found.append((path.relative_to(ROOT).as_posix(), node.lineno, called))
            logged += called.startswith("_log.")
            if called.startswith(("_log.", "logging.")) and "--" in ast.unparse(node):
                found.append((path.relative_to(ROOT).as_posix(), node.lineno, called))
    assert logged
    assert not found
