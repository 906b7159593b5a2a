"""The import arrows of ARCHITECTURE.md, read from the source, and what a fresh interpreter really loads."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "lark", "numpy", "scipy", "pyarrow", "numba", "faiss", "pydantic", "rich"}
PEERS = {"bm25s", "faiss", "hnswlib", "scann", "seismic", "usearch"}
TRAINING_ONLY = {*PEERS, "torch", "matplotlib", "onnx", "onnxruntime", "optuna", "pandas", "polars", "sklearn"}

GROUND = {"types", "errors", "wording", "config", "seeding", "spec_values"}
GROUND |= {"files", "folders", "locks", "progress", "threads"}
ARROWS = {
    **dict.fromkeys(GROUND, GROUND),
    "config_keys": {"config", "errors"},
    "data": GROUND,
    "jit": GROUND,
    "arithmetic": GROUND | {"jit"},
    "quantize": GROUND | {"jit", "arithmetic"},
    "run": GROUND | {"data"},
    "semantic_id": GROUND | {"jit", "data", "quantize", "index", "query", "run"},
    "model": GROUND | {"jit", "arithmetic", "data", "quantize"},
    "train": GROUND | {"data", "quantize", "model", "index", "query", "build", "run", "eval"},
    "build": GROUND | {"jit", "data", "quantize", "index", "query", "run"},
    "query": GROUND | {"jit", "arithmetic", "data", "quantize", "index", "run"},
    "index": GROUND | {"jit"},
    "retrievers": GROUND | {"jit", "data", "index", "query", "build", "quantize", "eval", "report", "run"},
    "eval": GROUND | {"jit", "data", "run"},
    "report": GROUND | {"data", "eval"},
    "scale": GROUND | {"jit", "data", "quantize", "index", "query", "build", "retrievers", "eval", "report", "run"},
    "api": GROUND | {"data", "index", "query", "build", "run"},
    "__init__": set(),
    "__main__": set(),
}
"""Package -> packages it may import."""

LAZY_ARROWS = {
    "sparcode/scale/prepare.py": {"train"},
    # Files that open things by name do it inside functions.
    "sparcode/__init__.py": {"api", "semantic_id"},
    "sparcode/index/__init__.py": {"query"},
    "sparcode/api/model.py": {"train"},
    "sparcode/semantic_id/codecs/autoencoder.py": {"train"},
}

FORMER_PLACES = {"sparcode/index/pipeline.py": {"query"}}
"""Files that only name what has moved."""

SERVED_MODEL = re.compile(r"sparcode\.model\.tokenizers(\.\w+)?(\.arrays)?(?<!\.layers)(?<!\.graph)(?<!\.onnx)")
"""All that queries take from the models: the list of tokenizer kinds and their arrays."""

# Third-party module -> files or folders that may import it; a trailing "()" means inside functions only.
OWNERS = {
    "torch": ["sparcode/model/", "sparcode/train/"],
    "scipy": [
        "sparcode/train/",
        "sparcode/index/layout.py()",
        "sparcode/retrievers/ease.py()",
        "sparcode/scale/()",
    ],
    "numba": ["sparcode/jit/"],
    "llvmlite": ["sparcode/jit/"],
    "faiss": ["sparcode/retrievers/hnsw.py()", "sparcode/scale/()"],
    "hnswlib": ["sparcode/retrievers/hnsw.py()", "sparcode/scale/()"],
    "bm25s": ["sparcode/scale/()"],
    "scann": ["sparcode/scale/()"],
    "seismic": ["sparcode/scale/()"],
    "usearch": ["sparcode/scale/()"],
    "lark": ["sparcode/data/where/grammar.py()"],
    "matplotlib": ["sparcode/report/()"],
    "onnx": ["sparcode/model/tokenizers/graph.py()"],
    "onnxruntime": ["sparcode/train/export_onnx.py()"],
    "optuna": ["sparcode/train/tune.py()", "sparcode/train/trials.py()"],
    "sqlalchemy": ["sparcode/train/trials.py()"],
    "pandas": ["sparcode/data/()"],
    "polars": ["sparcode/data/()"],
    "rich": ["sparcode/progress.py()", "sparcode/report/()"],
    "pickle": [],
    "typer": ["cli/"],
    "ir_measures": [],
    "sklearn": ["sparcode/data/text.py()"],
}


@dataclass(frozen=True)
class Import:
    """One import: the dotted module, whether it runs inside a function, whether only type checkers see it."""

    module: str
    lazy: bool
    typing_only: bool
    line: int


def imports_of(path: Path) -> Iterator[Import]:
    """Yield every import of a file, relative ones made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    yield from _walk(ast.parse(path.read_text(encoding="utf-8")), package, lazy=False, typing_only=False)


def _walk(node: ast.AST, package: tuple[str, ...], lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, lazy, typing_only, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            base = ".".join(package[: len(package) - child.level + 1]) if child.level else ""
            module = ".".join(part for part in (base, child.module) if part)
            # `from sparcode import run` imports a module, `from sparcode.run import Run` a name: both count as run.
            for name in [alias.name for alias in child.names] if module == "sparcode" else [None]:
                yield Import(f"{module}.{name}" if name else module, lazy, typing_only, child.lineno)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _walk(child, package, lazy or inside, typing_only or guarded)


def source_files(*folders: str) -> list[Path]:
    """Return all Python files under the folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the path relative to the repository, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def top(path: Path) -> str:
    """Return the part of sparcode a file belongs to: a package, or a module at the top."""
    return path.relative_to(ROOT / "sparcode").with_suffix("").parts[0]


def owned(path: str, owners: list[str], lazy: bool) -> bool:
    """Tell whether one of the owners covers this file."""
    return any(path.startswith(owner.removesuffix("()")) and (lazy or not owner.endswith("()")) for owner in owners)


@pytest.mark.parametrize("path", source_files("sparcode"), ids=name_of)
def test_arrows_inside_the_library(path: Path) -> None:
    part = top(path)
    assert part in ARROWS, f"{name_of(path)}: add {part!r} to ARROWS and to ARCHITECTURE.md"
    for found in imports_of(path):
        if found.typing_only or not found.module.startswith("sparcode."):
            continue
        if part == "query" and SERVED_MODEL.fullmatch(found.module):
            continue
        target = found.module.split(".")[1]
        lazy_allowed = LAZY_ARROWS.get(name_of(path), set()) if found.lazy else FORMER_PLACES.get(name_of(path), set())
        allowed = ARROWS[part] | lazy_allowed | {part, "__version__"}
        assert target in allowed, f"{name_of(path)}:{found.line} imports {found.module}: {part} may not import {target}"


def circles_of(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other: strongly connected parts of two and more (Tarjan 1972)."""
    order: dict[str, int] = {}
    least: dict[str, int] = {}
    waiting: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        order[module] = least[module] = len(order)
        waiting.append(module)
        for target in sorted(arrows[module]):
            if target not in order:
                visit(target)
                least[module] = min(least[module], least[target])
            elif target in waiting:
                least[module] = min(least[module], order[target])
        if least[module] == order[module]:
            place = waiting.index(module)
            found.append(set(waiting[place:]))
            del waiting[place:]

    for module in sorted(arrows):
        if module not in order:
            visit(module)
    return [group for group in found if len(group) > 1]


def arrows_between(paths: list[Path]) -> dict[str, set[str]]:
    """Return module -> modules it names in imports of any kind, those in functions and for type checkers as well."""
    names = {path: name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in paths}
    arrows: dict[str, set[str]] = {name: set() for name in names.values()}
    for path, name in names.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                own = parts & arrows.keys()
                arrows[name] |= own or ({node.module} & arrows.keys())
            elif isinstance(node, ast.Import):
                arrows[name] |= {alias.name for alias in node.names} & arrows.keys()
    return arrows


def test_no_file_reaches_itself_through_imports() -> None:
    doors = {"sparcode", "sparcode.index", "sparcode.index.pipeline"}  # they name what stands above them, lazily
    arrows = arrows_between(source_files("sparcode", "cli"))
    circles = circles_of({name: targets - doors for name, targets in arrows.items() if name not in doors})
    assert not circles, f"modules that import each other, by whatever way: {circles}"


def test_circles_are_found() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert sorted(map(sorted, circles_of(arrows))) == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize("path", source_files("sparcode", "cli"), ids=name_of)
def test_third_party_modules_stay_with_their_owners(path: Path) -> None:
    for found in imports_of(path):
        root = found.module.split(".")[0]
        if root in OWNERS and not found.typing_only:
            where = "inside a function" if found.lazy else "at module level"
            message = f"{name_of(path)}:{found.line} imports {found.module} {where}"
            assert owned(name_of(path), OWNERS[root], found.lazy), message


@pytest.mark.parametrize("path", source_files("sparcode/model/tokenizers"), ids=name_of)
def test_tokenizers_import_torch_in_layers_alone(path: Path) -> None:
    if path.name != "layers.py":
        reached = {found.module for found in imports_of(path) if not found.typing_only}
        assert not {name for name in reached if name.split(".")[0] == "torch" or name.endswith(".layers")}


@pytest.mark.parametrize("path", source_files("cli"), ids=name_of)
def test_the_command_line_imports_lazily(path: Path) -> None:
    for found in imports_of(path):
        eager_library = found.module.startswith("sparcode.") and found.module not in (
            "sparcode.errors",
            "sparcode.wording",
        )
        heavy = found.module.split(".")[0] in HEAVY
        message = f"{name_of(path)}:{found.line} imports {found.module} at module level"
        assert found.lazy or found.typing_only or not (eager_library or heavy), message


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules a fresh interpreter holds after running ``code``."""
    program = f"{code}\nimport json, sys\nsys.__stdout__.write('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_import_sparcode_is_light() -> None:
    assert not loaded_by("import sparcode; sparcode.__version__") & HEAVY


LIGHT = [["--help"], ["--version"], ["data", "--help"], ["sid", "--help"], ["train", "--help"], ["embed", "--help"]]


@pytest.mark.parametrize("arguments", LIGHT)
def test_help_is_light(arguments: list[str]) -> None:
    # typer itself checks the defaults of a command with pydantic when the help of that command is asked for.
    tolerated = set() if arguments[0].startswith("--") else {"pydantic"}
    lines = ["from sparcode_cli.main import app", "try:", f"    app({arguments!r})"]
    code = "\n".join([*lines, "except SystemExit as end:", "    assert not end.code"])
    assert not (loaded_by(code) & HEAVY) - tolerated


def test_the_serving_side_never_loads_the_training_side() -> None:
    # scipy is not asked for here: numba loads it by itself where it is installed. Running without it has its own test.
    folders = ("index", "query", "build", "retrievers", "eval", "data", "quantize", "scale", "semantic_id")
    parts = [f"sparcode/{folder}" for folder in folders]
    names = [name_of(path).removesuffix(".py").replace("/", ".") for path in source_files(*parts)]
    modules = sorted({name.removesuffix(".__init__") for name in names} | {"sparcode.api", "sparcode.run"})
    loaded = loaded_by("import " + ", ".join(modules))
    assert not loaded & TRAINING_ONLY, sorted(loaded & TRAINING_ONLY)


def test_installed_packages_cover_every_folder() -> None:
    folders = {path.parent for path in source_files("sparcode")}
    missing = [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()]
    assert not missing, f"no __init__.py in {missing}: an installed sparcode would lack them"
