"""Where caches lie: as the user says, else as the system does; a shared folder is trusted only when it is ours."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs
import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix

from sparcode import folders


@pytest.mark.skipif(os.name == "nt", reason="Windows knows neither owners nor modes of this kind")
def test_a_temporary_folder_of_somebody_else_is_not_used(tmp_path: Path):
    ours = tmp_path / "ours"
    assert folders.private_folder(ours)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    ours.chmod(0o777)
    assert not folders.private_folder(ours)
    (tmp_path / "link").symlink_to(tmp_path)
    assert not folders.private_folder(tmp_path / "link")
    (tmp_path / "file").touch()
    assert not folders.private_folder(tmp_path / "file")
    assert not folders.private_folder(tmp_path / "file" / "deeper")


@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
@pytest.mark.parametrize(("variables", "platform", "expected"), [
    ({"SPARCODE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "linux", "/a"),
    ({"XDG_CACHE_HOME": "/b"}, "linux", "/b/sparcode"),
    ({"XDG_CACHE_HOME": "relative"}, "linux", "/home/me/.cache/sparcode"),
    ({}, "linux", "/home/me/.cache/sparcode"),
    ({}, "darwin", "/home/me/Library/Caches/sparcode"),
])  # fmt: skip
def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, variables: dict, platform: str, expected: str):
    for name in ("SPARCODE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platformdirs, "PlatformDirs", Unix if platform == "linux" else MacOS)
    assert folders.cache_root() == Path(expected)


@pytest.mark.skipif(os.name == "nt", reason="Windows asks its registry")
def test_without_a_home_caches_are_temporary(monkeypatch: pytest.MonkeyPatch):
    for name in ("SPARCODE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a container's user that no file knows
    assert folders.cache_root() == folders.temporary_root()
