"""Files are whole or absent, whatever fails."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sparcode import files
from sparcode.errors import CorruptIndexError, RunError
from sparcode.files import atomic_path, read_json, require_writable, sha256_of, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_write_and_replace(tmp_path: Path):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text(path, "älter")
    write_text(path, "neuer")
    assert path.read_text(encoding="utf-8") == "neuer"
    assert names(path.parent) == ["a.txt"]


def broken(*arguments: object) -> None:
    """Fail as a full disk does."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("operation", ["fsync", "replace", "open"])
def test_a_failing_operation_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, operation, broken)
        with pytest.raises(OSError, match="No space left"):
            write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_writer_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]):
    def interrupted() -> None:
        with atomic_path(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == []


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "a.bin"):
        for write in (lambda path: write_bytes(path, b"x"), require_writable):
            with pytest.raises(OSError, match=rf"'{path}(/file)?'$"):
                write(path)
    assert names(tmp_path) == ["file"]


def test_a_full_disk_told_by_text_is_an_error_of_the_system(tmp_path: Path):
    def full() -> None:
        with atomic_path(tmp_path / "a.bin"):
            raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"):
        full()
    assert names(tmp_path) == []


def test_asking_whether_a_file_can_be_written_leaves_nothing(tmp_path: Path):
    require_writable(tmp_path / "new" / "a.bin")
    assert names(tmp_path / "new") == []


def test_content_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(files.os, "replace", lambda *names: (calls.append("replace"), replace(*names))[1])
    write_bytes(tmp_path / "a.bin", b"x")
    assert calls == ["fsync", "replace", "fsync"]


def test_json_round_trip_keeps_order_and_letters(tmp_path: Path):
    content = {"b": [1, 2.5, None], "a": "é"}
    write_json(tmp_path / "a.json", content)
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]
    assert read_json(tmp_path / "a.json") == content
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == 1


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00"])
def test_damaged_json_is_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CorruptIndexError, match=r"a\.json is not valid JSON") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_missing_json_raises_the_error_asked_for(tmp_path: Path):
    with pytest.raises(RunError, match="does not exist"):
        read_json(tmp_path / "none.json", RunError)


def test_sha256_of_a_large_file(tmp_path: Path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a.bin").write_bytes(content)
    assert sha256_of(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()
