from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparcode.eval import machine


def test_machine_is_described() -> None:
    info = machine.machine_info()
    json.dumps(info, allow_nan=False)
    assert info["cores"] >= 1
    assert info["python"].count(".") == 2
    assert "numpy" in info["libraries"]
    assert info["cpu"]


def test_threads_are_pinned_and_restored() -> None:
    import faiss
    import numba

    before = numba.get_num_threads(), faiss.omp_get_max_threads()
    with machine.one_thread() as how:
        assert numba.get_num_threads() == 1
        assert faiss.omp_get_max_threads() == 1
    assert (numba.get_num_threads(), faiss.omp_get_max_threads()) == before
    assert how["numba"] == how["faiss"] == "1"
    assert how["blas"].startswith(("1 (", "not pinned"))


def test_what_cannot_be_pinned_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with machine.one_thread() as how:
        pass
    assert how == {"blas": "not pinned; environment says nothing", "numba": "1", "faiss": "not loaded"}


def test_commit_of_a_repository_and_of_none(tmp_path: Path) -> None:
    assert machine.git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    commit = machine.git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert machine.git_commit(tmp_path) == commit + "+"
