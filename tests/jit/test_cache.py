"""The cache of compiled kernels: right when a called module changes, and no reason to fail."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparcode import folders
from sparcode.jit import cache as jit

CALLER = """
from sparcode.jit.decorators import njit
from sparcode.called import factor

@njit(cache=True)
def scaled(x):
    return factor(x) + 1
"""
PACKAGE = Path(jit.__file__).parent.parent
WRITABLE = jit._is_writable.__wrapped__
CALLED = "from numba import njit\n\n@njit\ndef factor(x):\n    return {} * x\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two modules, of which one calls the other, as far as digests go; memories of ``jit`` are its own."""
    package = tmp_path / "tree" / "sparcode"
    package.mkdir(parents=True)
    (package / "caller.py").write_text(CALLER)
    (package / "called.py").write_text(CALLED.format(2))
    monkeypatch.setattr(jit, "_ROOT", package.parent)
    monkeypatch.setattr(jit, "_told", [])
    monkeypatch.setattr(jit.SETTINGS, "CACHE_DIR", "")
    monkeypatch.setenv("SPARCODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    yield package
    forget()


def forget() -> None:
    """Let the next kernels be looked up as by a new process."""
    for memory in (jit.digest_of, jit._with_imported, jit._imported, jit._content, jit._places, jit._target,
                   jit._is_writable, jit._warn_once):  # fmt: skip
        memory.cache_clear()


def fresh(package: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Any:
    """Return the kernel as a new process would have it."""
    forget()
    for name in names or ("called", "caller"):
        source = package / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"sparcode.{name}", source)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, f"sparcode.{name}", module)
        # Not through a .pyc: two versions of one second have the same time.
        exec(compile(source.read_text(), str(source), "exec"), module.__dict__)
    return module.scaled


def hits(kernel: Any) -> int:
    """Return how many of its signatures came from the cache."""
    return sum(kernel.stats.cache_hits.values())


def hits_of(kernel: Any, value: int) -> tuple[int, int]:
    """Return an answer, and how many signatures of the kernel came from the cache."""
    return kernel(value), hits(kernel)


def entries(folder: Path, ending: str) -> list[Path]:
    """Return the files of the cache."""
    return sorted(folder.rglob(f"*.{ending}"))


def test_an_entry_serves_until_a_called_module_changes(tree: Path, monkeypatch: pytest.MonkeyPatch):
    assert fresh(tree, monkeypatch)(5) == 11
    kernel = fresh(tree, monkeypatch)
    assert (kernel(5), hits(kernel)) == (11, 1)
    (tree / "called.py").write_text(CALLED.format(3))
    kernel = fresh(tree, monkeypatch)
    assert (kernel(5), hits(kernel)) == (16, 0)
    assert len(entries(tree, "nbc")) == 1


def test_an_edit_behind_two_imports_is_seen(tree: Path, monkeypatch: pytest.MonkeyPatch):
    (tree / "deep.py").write_text("FACTOR = 2\n")
    (tree / "called.py").write_text("from sparcode.deep import FACTOR\n" + CALLED.format("FACTOR"))
    assert fresh(tree, monkeypatch, "deep", "called", "caller")(5) == 11
    assert hits_of(fresh(tree, monkeypatch, "deep", "called", "caller"), 5) == (11, 1)
    (tree / "deep.py").write_text("FACTOR = 3\n")
    assert hits_of(fresh(tree, monkeypatch, "deep", "called", "caller"), 5) == (16, 0)


def test_an_edit_of_the_package_itself_is_seen(tmp_path: Path):
    shutil.copytree(PACKAGE, tmp_path / "sparcode", ignore=shutil.ignore_patterns("*.nb[ic]"))
    script = (
        "import numpy as np; from sparcode.retrievers.ranking import sort_heap as kernel\n"
        "ids, scores = np.array([5, 3, 1], np.int32), np.array([1, 2, 3], np.float32)\n"
        "kernel(ids, scores, 3); print(ids.tolist(), sum(kernel.stats.cache_hits.values()), kernel.__module__)"
    )

    def answer() -> str:
        environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        command = [sys.executable, "-c", script]
        environment["PYTHONPATH"] = str(tmp_path)
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout.strip()

    assert [answer(), answer()] == [f"[1, 3, 5] {hit} sparcode.retrievers.ranking" for hit in (0, 1)]
    best = tmp_path / "sparcode" / "query" / "search" / "best.py"
    source = best.read_text()
    (changed,) = re.findall(r"def worse.*?(    return .*?\n)", source, re.DOTALL)
    best.write_text(source.replace(changed, "    return item > 1_000_000\n"))
    assert answer() == "[3, 1, 5] 0 sparcode.retrievers.ranking"


def test_modules_of_the_package_import_in_a_way_that_digests_see():
    for path in PACKAGE.rglob("*.py"):
        assert not re.findall(r"^(?:import sparcode|from \.)", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text", "folder", "end"])
def test_a_damaged_entry_is_compiled_again(tree: Path, monkeypatch: pytest.MonkeyPatch, ending: str, damage: str):
    assert fresh(tree, monkeypatch)(5) == 11
    (path,) = entries(tree, ending)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    changed = {"cut": content[: len(content) // 2], "empty": b"", "bit": content, "text": b"x" * 200,
               "end": path.read_bytes()[:-1]}  # fmt: skip
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(changed[damage])
    kernel = fresh(tree, monkeypatch)
    assert (kernel(5), hits(kernel)) == (11, 0)
    if damage != "folder":
        kernel = fresh(tree, monkeypatch)
        assert (kernel(5), hits(kernel)) == (11, 1)


def read_only(monkeypatch: pytest.MonkeyPatch, *roots: Path) -> None:
    """Let nothing be written below ``roots``; the superuser does not heed permissions, so they are not asked."""

    def writable(place: Path) -> bool:
        return not any(root in place.parents for root in roots) and WRITABLE(place)

    writable.cache_clear = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr(jit, "_is_writable", writable)


def test_places_in_their_order(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    read_only(monkeypatch, tree)
    assert fresh(tree, monkeypatch)(5) == 11
    assert len(entries(tmp_path / "cache" / "kernels", "nbc")) == 1
    assert not [record for record in caplog.records if "kept in" in record.message]
    read_only(monkeypatch, tree, tmp_path / "cache")
    (tree / "called.py").write_text(CALLED.format(3))
    with caplog.at_level(logging.WARNING):
        assert fresh(tree, monkeypatch)(5) == 16
    assert [record.message for record in caplog.records if "compiled kernels are kept in" in record.message]
    assert len(entries(tmp_path / "temporary", "nbc")) == 1
    kernel = fresh(tree, monkeypatch)
    assert (kernel(5), hits(kernel)) == (16, 1)


def test_without_any_place_kernels_are_compiled_and_it_is_said_once(tree, tmp_path, monkeypatch, caplog):
    read_only(monkeypatch, tmp_path)
    with caplog.at_level(logging.WARNING):
        kernel = fresh(tree, monkeypatch)
        assert (kernel(5), kernel(2.0)) == (11, 5.0)
    assert len([record for record in caplog.records if "kept nowhere" in record.message]) == 1
    assert entries(tmp_path, "nbc") == []


def test_what_an_image_was_built_with_is_read_where_nothing_can_be_written(tree, tmp_path, monkeypatch):
    assert fresh(tree, monkeypatch)(5) == 11
    read_only(monkeypatch, tmp_path)
    kernel = fresh(tree, monkeypatch)
    assert (kernel(5), hits(kernel)) == (11, 1)


def test_the_first_compilation_is_told_once(tree, monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        fresh(tree, monkeypatch)(5)
        jit._told.clear()
        fresh(tree, monkeypatch)(5.0)
    assert len([record for record in caplog.records if record.message.startswith("compiling kernels")]) == 1


def test_a_disk_that_is_full_costs_the_entry_alone(tree, monkeypatch):
    tried = []

    def full(*_: object) -> None:
        tried.append(1)
        raise OSError(28, "No space left on device")

    kernel = fresh(tree, monkeypatch)
    monkeypatch.setattr(jit._Entries, "save", full)
    assert kernel(5) == 11
    assert tried


def test_a_variable_that_numba_refuses_is_one_line():
    command = [sys.executable, "-c", "import sparcode.query.search.searcher"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NUMBA_NUM_THREADS": "0"})
    assert done.stderr.splitlines()[-1].startswith("sparcode.errors.SparcodeError: numba refuses to start (Number of")


def test_a_folder_of_the_users_that_cannot_be_written_is_named(tree, monkeypatch, caplog):
    monkeypatch.setattr(jit.SETTINGS, "CACHE_DIR", str(tree.parent / "given"))
    read_only(monkeypatch, tree.parent)
    with caplog.at_level(logging.WARNING):
        assert fresh(tree, monkeypatch)(5) == 11
    assert [record.message for record in caplog.records if f"NUMBA_CACHE_DIR={tree.parent}/given can" in record.message]


def test_without_compilation_there_is_one_line(tmp_path: Path):
    command = [sys.executable, "-m", "sparcode_cli", "sid", "fit", "--help"]
    assert subprocess.run(command, capture_output=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}).returncode == 0
    script = "import sparcode.query.search.searcher"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}
    )
    assert done.stderr.splitlines()[-1].startswith("sparcode.errors.SparcodeError: NUMBA_DISABLE_JIT is set")
