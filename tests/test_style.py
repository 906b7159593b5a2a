"""What CONTRIBUTING.md says of sizes and ruff does not count: lines of functions, arguments of kernels.

Lines of files are not counted: 500 are good advice, but where a file ends is decided by what it is about. A limit made
files that always changed together.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("sparcode", "cli", "benchmarks")
FUNCTION_LINES, MEDIAN_LINES = 60, 12

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
    """Return a line for every function in a file that is longer than it may be."""
    found = []
    for function, line, length in lengths_of(source):
        most = LONGER_FUNCTIONS.get(f"{name}:{function}", FUNCTION_LINES)
        if length > most:
            found.append(f"{name}:{line} {function} has {length} lines, expected at most {most}: divide it")
    return found


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_functions_are_short(path: Path) -> None:
    found = too_long(name_of(path), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_half_of_the_functions_are_very_short() -> None:
    lengths = [each[2] for path in source_files() for each in lengths_of(path.read_text(encoding="utf-8"))]
    assert median(lengths) <= MEDIAN_LINES


def test_exceptions_are_of_functions_that_need_them() -> None:
    sources = {name_of(path): path.read_text(encoding="utf-8") for path in source_files()}
    long_functions = {
        f"{name}:{function}"
        for name, source in sources.items()
        for function, _, length in lengths_of(source)
        if length > FUNCTION_LINES
    }
    assert LONGER_FUNCTIONS.keys() <= long_functions


def test_a_long_function_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def method(lines: int) -> str:
        return "class A:\n    @property\n    def f(self):\n" + "        pass\n" * (lines - 1)

    assert too_long("a.py", method(FUNCTION_LINES)) == []
    assert too_long("a.py", method(FUNCTION_LINES + 1)) == ["a.py:3 f has 61 lines, expected at most 60: divide it"]
    monkeypatch.setitem(LONGER_FUNCTIONS, "a.py:f", 61)
    assert too_long("a.py", method(61)) == []
    assert len(too_long("b.py", method(61))) == 1


KERNEL_ARGUMENTS = 8
MORE_ARGUMENTS: dict[str, int] = {
    "sparcode/quantize/beam.py:extend": 9,
    "sparcode/quantize/exact.py:settle": 10,
}
"""``file:kernel`` -> arguments it still has; an entry that is not needed any more has to go."""


def bound_names(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Yield (name, module, name there) of every name a module imports or, of module "", assigns a call's result of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, node.module, alias.name) for alias in node.names)
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]  # type: ignore[union-attr]
            yield from ((target.id, "", value.func.id) for target in targets if isinstance(target, ast.Name))


def compiling_names(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """Return (module, name) of whatever compiles what it decorates: from numba or sparcode.jit, made by or imported."""
    bound = [(module, *each) for module, tree in trees.items() for each in bound_names(tree)]
    seeds = {(module, name) for module, name, source, there in bound if (source, there) == ("numba", "njit")}
    found = seeds | {
        (module, name) for module, name, source, _ in bound if source == "sparcode.jit" or module == "sparcode.jit"
    } | {("sparcode.jit.cache", "njit")}  # fmt: skip
    while True:
        more = {(module, name) for module, name, source, there in bound if (source or module, there) in found}
        if more <= found:
            return found
        found |= more


def arguments_of_kernels(sources: dict[str, str]) -> dict[str, int]:
    """Return ``file:kernel`` -> number of its arguments, for files by their path."""
    paths = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in sources}
    trees = {module: ast.parse(sources[name]) for module, name in paths.items()}
    compiling, counts = compiling_names(trees), {}
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef):
                continue
            used = (each.func if isinstance(each, ast.Call) else each for each in node.decorator_list)
            if any(
                (module, each.id) in compiling and each.id != "overload" for each in used if isinstance(each, ast.Name)
            ):
                given = node.args
                every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
                counts[f"{paths[module]}:{node.name}"] = sum(each is not None for each in every)
    return counts


def test_kernels_take_few_arguments() -> None:
    library = [path for path in source_files() if name_of(path).startswith("sparcode/")]
    counts = arguments_of_kernels({name_of(path): path.read_text(encoding="utf-8") for path in library})
    assert len(counts) > 200
    above = {name: count for name, count in counts.items() if count > KERNEL_ARGUMENTS}
    new = {name: count for name, count in above.items() if count > MORE_ARGUMENTS.get(name, KERNEL_ARGUMENTS)}
    assert not new, f"group arguments by meaning in NamedTuples, expected at most {KERNEL_ARGUMENTS}: {new}"
    assert MORE_ARGUMENTS.keys() <= above.keys(), "take what is no longer needed out of MORE_ARGUMENTS"


def test_every_way_to_compile_a_function_is_seen() -> None:
    words = "from sparcode.jit import njit, overload\nkernel: Any = njit(cache=True)\n@njit\ndef one(a): ...\n"
    users = (
        "from sparcode.words import kernel as mine\n@mine\ndef two(a, b, *c, d=1): ...\n@property\ndef three(a): ...\n"
    )
    more = "@njit(cache=True)\ndef four(a, b): ...\n@overload(one)\ndef five(a): ...\n"
    sources = {"sparcode/words.py": words + more, "sparcode/use/__init__.py": users}
    expected = {"sparcode/words.py:one": 1, "sparcode/words.py:four": 2, "sparcode/use/__init__.py:two": 4}
    assert arguments_of_kernels(sources) == expected
