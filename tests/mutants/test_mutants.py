"""The list of mutants fits the tree, and what runs it tells caught from survived. The list itself: ``make mutants``."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.__main__ import caught_share, confirmed, is_enough, main, summary
from tests.mutants.catalogue import ROOT, Mutant, read_mutants
from tests.mutants.workshop import CAUGHT, INVALID, SURVIVED, TIMEOUT, Outcome, judged, workshop

MUTANTS = read_mutants()
FAULT = Mutant("half", "sparcode/half.py", "// 2", "// 3", "halves are thirds", ("tests/test_half.py",))
PACKAGES = (
    "sparcode/data", "sparcode/quantize", "sparcode/model", "sparcode/train", "sparcode/build", "sparcode/query",
    "sparcode/index", "sparcode/retrievers", "sparcode/eval", "sparcode/semantic_id", "sparcode/report",
    "sparcode/scale", "sparcode/api", "cli",
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_tree_and_is_a_program(mutant: Mutant) -> None:
    compile(mutant.mutated(), mutant.file, "exec")
    assert mutant.old != mutant.new
    assert mutant.tests
    assert all((ROOT / test).is_file() for test in mutant.tests), mutant.tests


def test_the_list_is_long_enough_and_reaches_every_package() -> None:
    assert len(MUTANTS) >= 60
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
    for package in PACKAGES:
        assert any(mutant.file.startswith(package + "/") for mutant in MUTANTS), package


def test_a_list_that_went_stale_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sparcode").mkdir()
    (tmp_path / "sparcode" / "moved.py").write_text("x = 4 // 2")
    with pytest.raises(ValueError, match=r"half: .* sparcode/half.py, which is gone, .* found in sparcode/moved.py"):
        FAULT.mutated(tmp_path)
    for content, times in (("x = 4 / 2", 0), ("x = 4 // 2 // 2", 2)):
        (tmp_path / FAULT.file).write_text(content)
        with pytest.raises(ValueError, match=f"the old text stands {times} times in sparcode/half.py, expected once"):
            FAULT.mutated(tmp_path)
    (tmp_path / FAULT.file).write_text("x = 4 // 2")
    assert FAULT.mutated(tmp_path) == "x = 4 // 3"


def test_an_odd_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text('[[mutant]]\nname = "a"\nfile = "b"\nolder = "c"\n')
    with pytest.raises(ValueError, match=r"data\.toml: a: keys that lack or are odd: breaks, new, old, older, tests"):
        read_mutants(tmp_path)


@pytest.mark.parametrize(
    ("code", "output", "state"),
    [
        (0, "3 passed", SURVIVED),
        (1, "FAILED tests/test_a.py::test_b - assert 1 == 2", CAUGHT),
        (1, "ERROR tests/test_a.py::test_b - ValueError: fixture", CAUGHT),
        (1, "FAILED tests/test_a.py::test_b - NameError: name 'x' is not defined", INVALID),
        (1, "FAILED tests/test_a.py::test_b - numba.core.errors.TypingError: Failed", INVALID),
        (2, "ERROR tests/test_a.py - collection", INVALID),
        (5, "no tests ran", INVALID),
        (-11, "", CAUGHT),
    ],
)
def test_what_pytest_says_is_judged(code: int, output: str, state: str) -> None:
    done = subprocess.CompletedProcess([], code, stdout=f"..\n{output}\n", stderr="")
    assert judged(done)[0] == state


def test_enough_is_95_percent_of_what_could_be_judged_and_no_invalid_one() -> None:
    def outcomes(*states: str) -> list[Outcome]:
        return [Outcome(FAULT, state, 1.0) for state in states]

    nineteen = [CAUGHT] * 19
    assert is_enough(outcomes(*nineteen, SURVIVED))
    assert not is_enough(outcomes(*nineteen[1:], SURVIVED))
    assert is_enough(outcomes(*nineteen, TIMEOUT))
    assert not is_enough(outcomes(*nineteen, INVALID))
    assert not is_enough([])
    assert caught_share(outcomes(CAUGHT, SURVIVED, TIMEOUT)) == 0.5
    assert "survived: half (sparcode/half.py): halves are thirds" in summary(outcomes(CAUGHT, SURVIVED))


@pytest.mark.skipif(shutil.which("git") is None, reason="the copy is what git lists")
def test_mutants_are_run_in_a_copy(tmp_path: Path) -> None:
    files = {
        "sparcode/__init__.py": "", "cli/__init__.py": "", "tests/__init__.py": "", ".gitignore": "left_out.py\n",
        "sparcode/half.py": "def half(x):\n    return x // 2\n", "left_out.py": "",
        "tests/test_half.py": "from sparcode.half import half\n\n\ndef test_half():\n    assert half(8) == 4\n",
        "tests/test_nothing.py": "def test_nothing():\n    pass\n",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with workshop(tmp_path) as shop:
        assert not (shop.tree / "left_out.py").exists()
        caught = shop.outcome(FAULT, 60)
        assert (caught.state, caught.test) == (CAUGHT, "tests/test_half.py::test_half")
        assert confirmed([caught], shop) == [caught]
        unnoticed = Mutant(*[*vars(FAULT).values()][:5], tests=("tests/test_nothing.py",))
        assert shop.outcome(unnoticed, 60).state == SURVIVED
        tree = shop.tree
        (tree / FAULT.file).write_text("def half(x):\n    return 0\n")
        assert confirmed([caught], shop)[0].state == INVALID  # it fails whatever is changed
    assert not tree.exists()
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_commands_that_run_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "data-split-*"]) == 0
    assert "data-split-swapped" in capsys.readouterr().out
    assert main(["--only", "no-such-mutant"]) == 2
    assert "no mutant is named no-such-mutant" in capsys.readouterr().err
