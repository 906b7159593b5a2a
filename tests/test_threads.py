"""How many threads may run, and that they are told by interfaces, for a time, and never by a late variable."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np  # noqa: F401  (its BLAS is one of the pools)
import pytest

from sparcode import threads

ROOT = Path(__file__).resolve().parent.parent


def cgroup(root: Path, line: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": line, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/job", {"sys/fs/cgroup/job/cpu.max": "150000 100000"}, 1.5),
        ("0::/job", {"sys/fs/cgroup/job/cpu.max": "max 100000"}, None),
        ("0::/a/b", {"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "200000 100000"}, 2.0),
        ("0::/of/the/host", {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3.0),
        ("0::/job", {}, None),
        ("0::/job", {"sys/fs/cgroup/job/cpu.max": ""}, None),
        ("0::/job", {"sys/fs/cgroup/job/cpu.max": "100000 0"}, None),
        (
            "12:memory:/x\n4:cpu,cpuacct:/job\n0::/job",
            {
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            "4:cpu,cpuacct:/job",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("nonsense", {}, None),
    ],
)
def test_the_quota_of_control_groups(tmp_path: Path, line: str, files: dict[str, str], expected: float | None) -> None:
    assert threads.cgroup_cpus(cgroup(tmp_path, line, files)) == expected


def test_no_control_groups_no_limit(tmp_path: Path) -> None:
    assert threads.cgroup_cpus(tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (1.5, 2), (0.1, 1), (64.0, 4)])
def test_affinity_and_quota_limit_the_cpus(monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: quota)
    assert threads.available_cpus() == expected


def test_systems_without_affinity_count_their_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.available_cpus() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_cpus() == 1


def pools() -> dict[str, int]:
    import faiss
    import numba
    import threadpoolctl
    import torch

    found = {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return found | {
        "torch": torch.get_num_threads(), "numba": numba.get_num_threads(), "faiss": faiss.omp_get_max_threads()
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_all_pools_are_limited_for_a_time(count: int) -> None:
    if pools()["numba"] < count:  # asking loads the libraries
        pytest.skip("numba was told to take fewer threads")
    before = pools()
    with contextlib.suppress(KeyError), threads.limited(count, ["numba"]):
        assert set(pools().values()) == {count}
        raise KeyError
    assert pools() == before


def test_no_count_takes_no_more_than_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cpus", lambda: 1)
    with threads.limited(2), threads.limited():
        assert pools()["torch"] == 1
    monkeypatch.setattr(threads, "available_cpus", lambda: 64)
    with threads.limited(1), threads.limited():
        assert pools()["torch"] == 1  # a smaller number that somebody chose stays


def test_numba_gets_no_more_than_it_may() -> None:
    import numba

    with threads.limited(10_000, ["numba"]):
        assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS


def environment_after(code: str, **given: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if "THREADS" not in name and "OMP" not in name}
    program = f"{code}\nimport json, os\nprint(json.dumps(dict(os.environ)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=clean | given
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_command_waits_passively_unless_told_otherwise() -> None:
    code = "from sparcode.threads import set_environment_defaults as f; f()"
    assert environment_after(code)["OMP_WAIT_POLICY"] == "passive"
    assert environment_after(code, OMP_WAIT_POLICY="active")["OMP_WAIT_POLICY"] == "active"
    assert "OMP_WAIT_POLICY" not in environment_after(code, KMP_BLOCKTIME="7")
    limited = "import sparcode.threads as t; t.cgroup_cpus = lambda: 0.5; t.os.cpu_count = lambda: 8"
    found = environment_after(f"{limited}; t.set_environment_defaults()", OMP_NUM_THREADS="3")
    assert (found["OMP_NUM_THREADS"], found["NUMBA_NUM_THREADS"]) == ("3", "1")


def test_nothing_is_set_once_a_library_is_loaded() -> None:
    code = "import numpy; from sparcode.threads import set_environment_defaults as f; assert f() == {}"
    assert "OMP_WAIT_POLICY" not in environment_after(code)


def test_the_console_script_sets_them_first() -> None:
    code = "import sys; sys.argv = ['sparcode', '--version']\nfrom sparcode_cli.main import run\n"
    assert environment_after(code + "try: run()\nexcept SystemExit: pass")["OMP_WAIT_POLICY"] == "passive"


def late(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.unparse(node) if isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete, ast.Call)) else ""
        if text.startswith(("os.environ[", "os.environ |=", "del os.environ", "os.putenv(", *_CALLS)):
            found.append(f"{path.relative_to(ROOT)}: {text[:60]}")
    return found


_CALLS = tuple(f"os.environ.{name}(" for name in ("setdefault", "update", "pop", "clear"))


def test_no_variable_is_set_late() -> None:
    paths = [path for folder in ("sparcode", "cli", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert late(ROOT / "sparcode" / "threads.py")  # the one place, and proof that the search finds it
    assert [line for path in paths if path.name != "threads.py" for line in late(path)] == []
