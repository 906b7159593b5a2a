"""What CONTRIBUTING.md says of sizes and ruff does not count: lines of files and of functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("sparcode", "cli", "benchmarks")
FILE_LINES, FUNCTION_LINES, MEDIAN_LINES = 500, 60, 12

LONGER_FILES: dict[str, int] = {}
"""File -> lines it may have, for a file whose idea cannot be divided. None is needed so far."""
LONGER_FUNCTIONS: dict[str, int] = {}
"""``file:function`` -> lines it may have, e.g. a kernel that must be compiled in one piece. None is needed so far."""


def source_files() -> list[Path]:
    """Return all Python files of the folders that are looked at."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the path relative to the repository, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def lengths_of(source: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, first line and number of lines of every function, methods and inner functions as well.

    Signature and docstring count, decorators do not.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def too_long(name: str, source: str) -> list[str]:
    """Return a line for everything in a file that is longer than it may be."""
    lines, most = len(source.splitlines()), LONGER_FILES.get(name, FILE_LINES)
    found = [f"{name} has {lines} lines, expected at most {most}: divide it by idea"] if lines > most else []
    for function, line, length in lengths_of(source):
        most = LONGER_FUNCTIONS.get(f"{name}:{function}", FUNCTION_LINES)
        if length > most:
            found.append(f"{name}:{line} {function} has {length} lines, expected at most {most}: divide it")
    return found


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    found = too_long(name_of(path), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_half_of_the_functions_are_very_short() -> None:
    lengths = [each[2] for path in source_files() for each in lengths_of(path.read_text(encoding="utf-8"))]
    assert median(lengths) <= MEDIAN_LINES


def test_exceptions_are_of_files_and_functions_that_need_them() -> None:
    sources = {name_of(path): path.read_text(encoding="utf-8") for path in source_files()}
    long_files = {name for name, source in sources.items() if len(source.splitlines()) > FILE_LINES}
    long_functions = {
        f"{name}:{function}"
        for name, source in sources.items()
        for function, _, length in lengths_of(source)
        if length > FUNCTION_LINES
    }
    assert LONGER_FILES.keys() <= long_files
    assert LONGER_FUNCTIONS.keys() <= long_functions


def test_a_long_file_and_a_long_function_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def method(lines: int) -> str:
        return "class A:\n    @property\n    def f(self):\n" + "        pass\n" * (lines - 1)

    assert too_long("a.py", method(FUNCTION_LINES)) == []
    assert too_long("a.py", method(FUNCTION_LINES + 1)) == ["a.py:3 f has 61 lines, expected at most 60: divide it"]
    assert too_long("a.py", "x = 1\n" * FILE_LINES) == []
    (line,) = too_long("a.py", "x = 1\n" * (FILE_LINES + 1))
    assert line.startswith("a.py has 501 lines, expected at most 500")
    monkeypatch.setitem(LONGER_FUNCTIONS, "a.py:f", 61)
    assert too_long("a.py", method(61)) == []
    assert len(too_long("b.py", method(61))) == 1
