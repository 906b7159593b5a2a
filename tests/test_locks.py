"""Locks: one holder at a time, of this version or an earlier one; the locked file stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from sparcode.errors import RunError
from sparcode.locks import lock_file, locked

EARLIER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
print("held", flush=True)
sys.stdin.read()
"""
"""How versions before filelock took a lock; ends with 3 when it is held, else holds it until stdin is closed."""


def earlier(path: Path) -> subprocess.Popen[str]:
    pytest.importorskip("fcntl")
    command = [sys.executable, "-c", EARLIER, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_holds_a_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", "busy"), pytest.raises(RunError, match="busy"), locked(tmp_path / "lock", "busy"):
        pass
    with locked(tmp_path / "lock", "busy"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_an_earlier_version_counts(tmp_path: Path) -> None:
    path = tmp_path / "LOCK"
    with earlier(path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="held by another writer"):
            lock_file(path)
        with pytest.raises(RunError, match="busy"), locked(path, "busy"):
            pass
        holder.communicate("")
    os.close(lock_file(path))


def test_an_earlier_version_respects_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "LOCK"
    descriptor = lock_file(path)
    with earlier(path) as second:
        second.communicate("")
    assert second.returncode == 3
    os.close(descriptor)
    with earlier(path) as second:
        second.communicate("")
    assert second.returncode == 0


def test_a_failure_of_the_system_is_no_holder_and_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def refuse(descriptor: int, **options: object) -> bool:
        given.append(descriptor)
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    with pytest.raises(OSError, match="No locks available"):
        lock_file(tmp_path / "LOCK")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(given[0])


def test_patience_waits_for_the_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    held = [lock_file(path)]
    monkeypatch.setattr("sparcode.locks.time.sleep", lambda seconds: os.close(held.pop()))
    with locked(path, "busy", patience=600):
        assert path.exists()
    assert not held


def test_a_lock_whose_file_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removes the file when it ends; who had opened it just before would lock what nobody else sees."""
    path, taken = tmp_path / "lock", []

    def late(place: Path) -> int:
        descriptor = lock_file(place)
        if not taken:
            place.unlink()
            place.touch()  # the next process has made it anew
        taken.append(descriptor)
        return descriptor

    monkeypatch.setattr("sparcode.locks.lock_file", late)
    with locked(path, "busy"):
        assert len(taken) == 2
        with pytest.raises(BlockingIOError):
            lock_file(path)
