"""A copy of the tree with one mutant in it at a time, and what its tests say.

The copy has an empty kernel cache of its own. A kernel's entry there belongs to a digest of its source and of all that
this imports, so that what a mutant touches, in whichever file, is compiled anew, and the rest only once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import ROOT, Mutant

CAUGHT, SURVIVED, INVALID, TIMEOUT = "caught", "survived", "invalid", "timeout"
_PYTEST_FAILED = 1
_FAILURES = ("FAILED ", "ERROR ")
_NO_FAULT = re.compile(r"\b(NameError|SyntaxError|IndentationError|ImportError|TypingError|LoweringError)\b")
"""Errors of a mutant that is no program: a test that meets one has noticed nothing."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant. ``told``: the first test that failed, or why it counts for nothing."""

    mutant: Mutant
    state: str
    seconds: float
    told: str = ""

    @property
    def test(self) -> str | None:
        """The pytest id of the test that failed, where one did."""
        return _test_of(self.told) if self.told.startswith(_FAILURES) else None


class Workshop:
    """A copied tree; close it with ``workshop``."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.tree, self._root = folder / "tree", root
        for name in _files(root):
            target = self.tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target, follow_symlinks=False)
        # The installed package of the command line is the folder cli.
        (folder / "packages").mkdir()
        (folder / "packages" / "sparcode_cli").symlink_to(self.tree / "cli", target_is_directory=True)
        path = os.pathsep.join([str(self.tree), str(folder / "packages")])
        self._environment = os.environ | {
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",  # bytecode is told apart by seconds and size: too coarse for mutants
            "PYTHONHASHSEED": "0",
            "COLUMNS": "200",
            "NUMBA_CACHE_DIR": str(folder / "kernels"),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def require_own_code(self) -> None:
        """Raise RuntimeError unless a program started here imports the copied packages."""
        program = "import sparcode, sparcode_cli; print(sparcode.__file__, sparcode_cli.__file__, sep='\\n')"
        done = self._run(["-c", program], 60)
        homes = [Path(line).resolve() for line in done.stdout.splitlines()]
        if [home.parent for home in homes] != [(self.tree / name).resolve() for name in ("sparcode", "cli")]:
            raise RuntimeError(f"the copy in {self.tree} would test other code: {done.stdout}{done.stderr}")

    def unfit(self, tests: Iterable[str], seconds: float) -> set[str]:
        """Return those of some tests, by their pytest ids, that fail without a mutant."""
        done = self._run([argument for argument in _pytest(tests) if argument != "-x"], seconds)
        return {_test_of(line) for line in done.stdout.splitlines() if line.startswith(_FAILURES)}

    def outcome(self, mutant: Mutant, seconds: float) -> Outcome:
        """Put a mutant in, run its tests until the first fails, and take it out again."""
        path, started = self.tree / mutant.file, time.perf_counter()
        source = path.read_bytes()
        try:
            text = mutant.mutated(self.tree)
            compile(text, mutant.file, "exec")
            path.write_text(text, encoding="utf-8")
            state, told = judged(self._run(_pytest(mutant.tests), seconds))
        except (ValueError, SyntaxError) as problem:
            state, told = INVALID, str(problem)
        except subprocess.TimeoutExpired:
            state, told = TIMEOUT, f"not done in {seconds:.0f} s"
        finally:
            path.write_bytes(source)
        return Outcome(mutant, state, time.perf_counter() - started, told)

    def _run(self, arguments: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.tree, env=self._environment, capture_output=True, text=True,
            errors="replace", timeout=seconds, check=False,
        )  # fmt: skip


@contextmanager
def workshop(root: Path = ROOT) -> Iterator[Workshop]:
    """Copy the tree for a block of work."""
    with tempfile.TemporaryDirectory(prefix="sparcode-mutants-") as folder:
        made = Workshop(Path(folder), root)
        made.require_own_code()
        yield made


def judged(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Return state and explanation of a run of pytest: a test that fails, or a process that dies, has caught it."""
    if done.returncode == 0:
        return SURVIVED, ""
    if done.returncode < 0:
        return CAUGHT, f"the process died of signal {-done.returncode}"
    failed = next((line for line in done.stdout.splitlines() if line.startswith(_FAILURES)), "")
    if done.returncode != _PYTEST_FAILED:  # nothing was collected, or wrong usage
        return INVALID, failed or f"pytest ended with {done.returncode}"
    if found := _NO_FAULT.search(failed):
        return INVALID, f"{found[0]}: {failed}"
    return CAUGHT, failed


def _test_of(line: str) -> str:
    return line.partition(" ")[2].partition(" - ")[0]


def _pytest(tests: Iterable[str]) -> list[str]:
    return ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=short", "-rfE", *tests]


def _files(root: Path) -> list[str]:
    """Return what git tracks and what is new and not ignored, as it lies there now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in dict.fromkeys(listed.split("\0")) if name and (root / name).is_file()]
