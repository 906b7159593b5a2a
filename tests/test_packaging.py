"""What is shipped: the source distribution holds what git holds, and the metadata agree with each other."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def tracked() -> list[str]:
    """Return the files of the repository; skip outside of one."""
    try:
        done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git repository")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def copied(target: Path, names: list[str]) -> Path:
    """Copy the tracked files, so that building leaves nothing in the clone."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((ROOT / name).read_bytes())
    return target


def run(*command: str, cwd: Path) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def require_setuptools() -> None:
    """Skip without the setuptools that pyproject.toml asks for, which processes of their own import."""
    try:
        found = version("setuptools")
    except PackageNotFoundError:
        pytest.skip("no setuptools")
    if int(found.partition(".")[0]) < 77:
        pytest.skip(f"setuptools {found}, expected 77 or later")


def test_a_source_distribution_holds_what_git_holds(tmp_path: Path):
    require_setuptools()
    names = tracked()
    clone = copied(tmp_path / "clone", names)
    run(sys.executable, "setup.py", "-q", "sdist", "-d", str(tmp_path / "dist"), cwd=clone)
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as tar:
        found = {member.name.partition("/")[2] for member in tar if member.isfile()}
    assert set(names) - found == set()
    generated = {"PKG-INFO", "setup.cfg"}
    assert {name for name in found - set(names) - generated if not name.startswith("sparcode.egg-info/")} == set()


def test_a_clone_named_sparcode_does_not_shadow_the_package(tmp_path: Path):
    require_setuptools()
    script = (
        "from setuptools.build_meta import build_editable\n"
        "import zipfile, sys\n"
        "wheels, site = sys.argv[1:]\n"
        "zipfile.ZipFile(wheels + '/' + build_editable(wheels)).extractall(site)\n"
    )
    clone = copied(tmp_path / "sparcode", [*(name for name in tracked() if not name.startswith("tests/"))])
    (tmp_path / "site").mkdir()
    (tmp_path / "wheel").mkdir()
    run(sys.executable, "-c", script, str(tmp_path / "wheel"), str(tmp_path / "site"), cwd=clone)
    (tmp_path / "script.py").write_text(
        f"import site; site.addsitedir({str(tmp_path / 'site')!r})\n"
        "import sparcode; print(sparcode.__file__); from sparcode import errors; print(errors.__file__)\n"
    )
    # Without this environment's own editable install.
    found = run(sys.executable, "-S", str(tmp_path / "script.py"), cwd=tmp_path).splitlines()
    assert found == [str(clone / "sparcode" / "__init__.py"), str(clone / "sparcode" / "errors.py")]


def test_the_group_dev_and_the_extra_dev_are_the_same():
    # A group cannot take in an extra, nor an extra a group, so what tests need is written twice.
    assert PROJECT["dependency-groups"] == {"dev": PROJECT["project"]["optional-dependencies"]["dev"]}


def test_every_pin_lies_in_its_range_and_every_range_has_a_pin():
    packaging = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["project"]["optional-dependencies"]
    taken = [name for name in extras if name not in ("embed", "all")]  # what `all` installs; embed is tried by hand
    wanted = [*PROJECT["project"]["dependencies"], *(line for name in taken for line in extras[name])]
    assert extras["all"] == [f"sparcode[{','.join(taken)}]"]
    for line in wanted:
        requirement = packaging.Requirement(line)
        pin = pins.get(requirement.name.lower().replace("_", "-"))
        assert pin is not None, f"constraints.txt has no {requirement.name}"
        assert pin in requirement.specifier, f"constraints.txt has {requirement.name}=={pin}; pyproject.toml: {line}"


def test_metadata_agree():
    project = PROJECT["project"]
    assert project["urls"]
    versions = {name.rpartition(" ")[2] for name in project["classifiers"] if name.startswith("Programming Language")}
    assert {"3.11", "3.12", "3.13", "3.14"} <= versions
    from sparcode import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_workflow_names_files_that_exist():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    named = [word for word in text.split() if word.startswith(("tests/", ".ci/")) or word == "constraints.txt"]
    assert len(named) > 3
    assert [word for word in named if not (ROOT / word).exists()] == []
