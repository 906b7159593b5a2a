"""Files are whole or absent, whatever fails."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from sparcode import files
from sparcode.errors import CorruptIndexError, RunError
from sparcode.files import (
    append_text,
    atomic_path,
    own_folder,
    read_json,
    require_writable,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from sparcode.locks import lock_file


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


def special(path: Path, kind: str, victim: Path) -> None:
    """Put something else than a file of its own at ``path``."""
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "link to nothing":
        path.symlink_to(victim.with_name("absent"))
    elif kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes with names here")
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder", "device"])
@pytest.mark.parametrize("write", [lambda path: append_text(path, "x"), lambda path: os.close(lock_file(path))])
def test_what_is_opened_for_writing_is_a_file_of_its_own(tmp_path: Path, kind: str, write):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    special(tmp_path / "metrics.jsonl", kind, victim)
    with pytest.raises(RunError, match=r"metrics.jsonl is .*expected a regular file of its own"):
        write(tmp_path / "metrics.jsonl")
    assert victim.read_text() == "precious"
    assert not victim.with_name("absent").exists()


def test_a_lock_changes_nothing_and_an_appended_file_has_one_name(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, tmp_path / "name")
    os.close(lock_file(tmp_path / "name"))
    with pytest.raises(RunError, match="name is one of 2 names of a file"):
        append_text(tmp_path / "name", "x")
    assert victim.read_text() == "precious"


def test_a_replaced_link_leaves_what_it_names(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "query.json").symlink_to(victim)
    write_json(tmp_path / "query.json", {"a": 1})
    assert victim.read_text() == "precious"
    assert not (tmp_path / "query.json").is_symlink()


def test_a_folder_of_ours_is_no_link(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "index").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="index is a symbolic link, expected a folder"):
        own_folder(tmp_path / "index")
    (tmp_path / "latest").symlink_to(tmp_path / "elsewhere")
    assert own_folder(tmp_path / "latest" / "index").is_dir()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_reading_never_waits_for_a_pipe(tmp_path: Path, kind: str):
    special(tmp_path / "run.json", kind, tmp_path)
    for read in (read_json, sha256_of):
        with pytest.raises(CorruptIndexError, match="run.json is .*expected a regular file"):
            read(tmp_path / "run.json")


@pytest.mark.parametrize(
    "content", ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, "9" * 5000, "\ufeff1"]
)
def test_json_that_json_lets_through_is_refused(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match="run.json is not valid JSON") as caught:
        read_json(tmp_path / "run.json", RunError)
    assert len(str(caught.value)) < 600


def test_temporaries_of_killed_processes_go_with_the_next_write(tmp_path: Path):
    old, young, other = (tmp_path / name for name in (".a.0123abcd.tmp", ".a.4567abcd.tmp", ".b.0123abcd.tmp"))
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == [".a.4567abcd.tmp", ".b.0123abcd.tmp", "a"]


def test_new_folders_are_synced_in_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    write_bytes(tmp_path / "b" / "c" / "a", b"x")
    assert synced == [tmp_path, tmp_path / "b", tmp_path / "b" / "c"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        for write in (lambda path: write_json(path, {}), require_writable):
            with pytest.raises(RunError, match="is a named pipe, expected a regular file or a new name"):
                write(path)
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "pipe"]
