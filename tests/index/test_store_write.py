"""Publishing: exact bytes, order of syncs, and old-or-new whatever fails or dies at any operation."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from sparcode.errors import RunError
from sparcode.index.layout import Family, Index, make_index, pack
from sparcode.index.store import open_index, publish
from sparcode.index.store import write as store_write
from sparcode.index.store.operations import FileOps
from tests.index.faults import FaultingFileOps, RecordingFileOps, SimulatedCrash
from tests.index.powerloss import Disk


@pytest.fixture(autouse=True)
def no_real_sync(monkeypatch):
    """Power cuts are simulated here, so nothing has to reach a disk; real syncs made this file ten times slower."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


FAMILIES = [Family("learned", 0, 2), Family("item", 2, 1, 0.25)]


def small(stamp: int) -> Index:
    """An index whose content tells generations apart."""
    postings = pack(np.array([0, 2, 1]), np.array([stamp, 6, 7]))
    tables = {"code_table": [[0, 1], [1, stamp]], "code_rows": [0, 1, 1, 0]}
    return make_index([0, 2, 2, 3], postings, 3, 0.5, FAMILIES, **tables)


def put(folder: Path, stamp: int, **options) -> int:
    return publish(folder, small(stamp), model_hash="m", config_hash="c", info={"stamp": stamp}, **options)


def stamp_of(folder: Path) -> int:
    """Open with full verification and check that manifest and arrays are of one generation."""
    index, manifest = open_index(folder, verify="full")
    stamp = manifest["info"]["stamp"]
    for name, array in small(stamp).arrays().items():
        assert index.arrays()[name].tolist() == array.tolist()
    return stamp


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def files_of(*generations: int) -> set[str]:
    arrays = ("indptr", "postings", "code_table", "code_rows")
    names = {f"segs/s{g:016x}/{array}.bin" for g in generations for array in arrays}
    return names | {f"manifests/g{g:016x}.json" for g in generations} | {"CURRENT", "LOCK"}


def test_golden_bytes(tmp_path):
    assert put(tmp_path / "index", 5) == 1
    segment = tmp_path / "index" / "segs" / "s0000000000000001"
    assert tree(tmp_path / "index") == files_of(1)
    assert (segment / "indptr.bin").read_bytes().hex() == "".join(f"{n:02x}" + "00" * 7 for n in (0, 2, 2, 3))
    assert (segment / "postings.bin").read_bytes() == bytes([5, 0, 0, 0, 6, 2, 0, 0, 7, 1, 0, 0])
    assert (segment / "code_table.bin").read_bytes() == bytes([0, 0, 1, 0, 1, 0, 5, 0])
    assert (segment / "code_rows.bin").read_bytes() == bytes([0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    manifest = json.loads((tmp_path / "index" / "manifests" / "g0000000000000001.json").read_text())
    assert list(manifest) == [
        "format", "format_version", "generation", "model_hash", "config_hash", "item_count", "rows", "postings",
        "scale", "families", "segment", "arrays", "info",
    ]  # fmt: skip
    assert manifest["arrays"]["postings"] == {
        "file": "postings.bin",
        "dtype": "<u4",
        "shape": [3],
        "bytes": 12,
        "sha256": "6f65f62aa4799d562fa8d8065e426b68e009b42107693be58bd3dcb121eeb6bf",
    }
    assert (tmp_path / "index" / "CURRENT").read_text() == (
        '{"generation": 1, "manifest": "g0000000000000001.json", "size": 1201, '
        '"sha256": "d18e1a63b4c17f39613cf61062a7a80f989e6333e0770916b84e80183acb78b2"}\n'
        "87e370f9b48b0fbdc3f4487331e0bbd1e2f7a2883a5cfe260482e9bdbfd7482a\n"
    )


def test_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / name, 9)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    for file in tree(tmp_path / "a"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_generations_advance_and_two_are_kept(tmp_path):
    for stamp in (1, 2, 3, 4):
        assert put(tmp_path, stamp) == stamp
        assert stamp_of(tmp_path) == stamp
    assert tree(tmp_path) == files_of(3, 4)


def test_a_snapshot_outlives_its_files(tmp_path):
    put(tmp_path, 1)
    index, _ = open_index(tmp_path)
    for stamp in (2, 3, 4):
        put(tmp_path, stamp)
    assert index.postings.tolist() == small(1).postings.tolist()


def test_everything_a_generation_names_is_synced_before_it_is_visible(tmp_path):
    ops = RecordingFileOps()
    put(tmp_path / "index", 1, ops=ops)
    names = [name for name, _, _ in ops.log]
    switch = names.index("replace")
    synced, opened = set(), {}
    for name, arguments, result in ops.log[:switch]:
        if name == "create":
            opened[result] = arguments[0]
        if name == "sync":
            synced.add(opened[arguments[0]].name.replace(".tmp", ".json"))
    assert synced == {Path(name).name for name in tree(tmp_path / "index")} - {"CURRENT", "LOCK"} | {"CURRENT.json"}
    folders = [arguments[0].name for name, arguments, _ in ops.log[:switch] if name == "sync_directory"]
    assert folders[-3:] == ["s0000000000000001", "segs", "manifests"]
    assert (names[switch + 1], ops.log[switch + 1][1][0]) == ("sync_directory", tmp_path / "index")


def operations(tmp_path: Path) -> int:
    """Number of operations of a publish that also collects garbage."""
    folder = tmp_path / "count"
    for stamp in (1, 2):
        put(folder, stamp)
    ops = RecordingFileOps()
    put(folder, 3, ops=ops)
    return len(ops.log)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_crash_at_any_operation_leaves_old_or_new_and_the_next_writer_cleans(tmp_path):
    seen = set()
    for at in range(operations(tmp_path)):
        folder = tmp_path / str(at)
        put(folder, 1)
        put(folder, 2)
        ops = FaultingFileOps(at, "crash")
        with pytest.raises(SimulatedCrash):
            put(folder, 3, ops=ops)
        ops.abandon()
        seen.add(stamp_of(folder))
        generation = put(folder, 4)
        assert stamp_of(folder) == 4
        assert tree(folder) == files_of(generation - 1, generation)
    assert seen == {2, 3}


def test_a_crash_during_the_first_publish_is_no_index_or_the_new_one(tmp_path):
    ops = RecordingFileOps()
    put(tmp_path / "count", 1, ops=ops)
    for at in range(len(ops.log)):
        faulting = FaultingFileOps(at, "crash")
        with pytest.raises(SimulatedCrash):
            put(tmp_path / str(at), 1, ops=faulting)
        faulting.abandon()
        if (tmp_path / str(at) / "CURRENT").exists():
            assert stamp_of(tmp_path / str(at)) == 1
        generation = put(tmp_path / str(at), 2)
        assert stamp_of(tmp_path / str(at)) == 2
        assert generation in (1, 2)


def test_a_crash_while_cleaning_up_after_a_crash(tmp_path):
    middle = operations(tmp_path) // 2
    for at in range(operations(tmp_path / "again")):
        folder = tmp_path / f"x{at}"
        put(folder, 1)
        for position, stamp in ((middle, 2), (at, 3)):
            ops = FaultingFileOps(position, "crash")
            with contextlib.suppress(SimulatedCrash):
                put(folder, stamp, ops=ops)
            ops.abandon()
        assert stamp_of(folder) in (1, 2, 3)
        put(folder, 4)
        assert stamp_of(folder) == 4


def failure_of(folder: Path, ops: FileOps) -> str:
    """Publish stamp 3; return the message of its error or nothing. Garbage that stays is only a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            put(folder, 3, ops=ops)
        except RunError as problem:
            return str(problem)
    return ""


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize("persistent", [False, True])
def test_an_error_at_any_operation_is_named_and_leaves_old_or_new(tmp_path, fault, persistent):
    before = open_descriptors()
    for at in range(operations(tmp_path)):
        folder = tmp_path / str(at)
        put(folder, 1)
        put(folder, 2)
        ops = FaultingFileOps(at, fault, persistent=persistent)
        problem = failure_of(folder, ops)
        expected = 2 if "earlier one stays" in problem else 3
        assert problem == "" or (str(folder) in problem and "\n" not in problem)
        assert stamp_of(folder) == expected
        if not persistent and expected == 2:
            assert tree(folder) <= files_of(1, 2), "an unfinished generation is removed at once"
        put(folder, 4)
        assert stamp_of(folder) == 4
    assert open_descriptors() == before


def test_short_writes_are_completed(tmp_path):
    for at in range(operations(tmp_path)):
        put(tmp_path / str(at), 1, ops=FaultingFileOps(at, "short"))
        assert stamp_of(tmp_path / str(at)) == 1


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_real_kill_at_any_operation(tmp_path, step):
    for at in range(step, operations(tmp_path), 3):
        folder = tmp_path / str(at)
        put(folder, 1)
        put(folder, 2)
        child = os.fork()
        if child == 0:
            try:
                put(folder, 3, ops=FaultingFileOps(at, "kill"))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == 9
        assert stamp_of(folder) in (2, 3)
        put(folder, 4)
        assert stamp_of(folder) == 4


def cut_power(log, root: Path, target: Path, random, keep: float, length: int) -> None:
    disk = Disk(root)
    for name, arguments, result in log[:length]:
        made_root = name == "make_directory" and arguments[0] == root
        if name not in ("close", "lock") and not made_root:
            disk.apply(name, arguments, result)
    disk.after_power_cut(target, random, keep)


def test_a_power_cut_at_any_operation_leaves_acknowledged_generations_whole(tmp_path):
    random = np.random.default_rng(0)
    root, ops = tmp_path / "index", RecordingFileOps()
    acknowledged = [0]
    for stamp in (1, 2, 3):
        put(root, stamp, ops=ops)  # the third also removes the first
        acknowledged.append(len(ops.log))
    tried = 0
    for length in range(len(ops.log) + 1):
        done = max(stamp for stamp, end in enumerate(acknowledged) if end <= length)
        for keep in (0.0, 0.5, 1.0):
            target = tmp_path / f"{length}-{tried}"
            cut_power(ops.log, root, target, random, keep, length)
            tried += 1
            if done or (target / "CURRENT").exists():
                assert stamp_of(target) in (done, done + 1)
            if tried % 5 == 0:
                put(target, 9)
                assert stamp_of(target) == 9
    assert tried > 300


def drop(name: str, position: int):
    """A broken protocol: the n-th operation of that name is left out."""

    class Broken(RecordingFileOps):
        seen = 0

        def _call(self, operation_name, operation, *arguments):
            if operation_name == name:
                self.seen += 1
                if self.seen - 1 == position:
                    return None
            return super()._call(operation_name, operation, *arguments)

    return Broken()


@pytest.mark.parametrize(
    ("name", "position"),
    [("sync", 0), ("sync", 1), ("sync", 4), ("sync", 5),
     ("sync_directory", 3), ("sync_directory", 4), ("sync_directory", 5), ("sync_directory", 6)],
)  # fmt: skip
def test_the_power_cut_test_catches_a_forgotten_sync(tmp_path, name, position):
    root, ops = tmp_path / "index", drop(name, position)
    put(root, 1, ops=ops)
    random = np.random.default_rng(0)
    failures = 0
    for attempt in range(12):
        target = tmp_path / str(attempt)
        cut_power(ops.log, root, target, random, 0.0 if attempt < 4 else 0.5, len(ops.log))
        try:
            failures += stamp_of(target) != 1
        except Exception:
            failures += 1
    assert failures


def test_only_one_writer_at_a_time(tmp_path):
    put(tmp_path, 1)
    descriptor = FileOps().lock(tmp_path / "LOCK")
    with pytest.raises(RunError, match="another process is writing"):
        put(tmp_path, 2)
    os.close(descriptor)
    assert put(tmp_path, 2) == 2


def test_a_second_writer_past_the_lock_is_stopped_by_the_manifest_and_not_harmed(tmp_path):
    put(tmp_path, 1)

    class Late(FileOps):
        def link(self, source, target):
            target.write_text("another writer was here")
            super().link(source, target)

    with pytest.raises(RunError, match="File exists"):
        put(tmp_path, 2, ops=Late())
    assert (tmp_path / "manifests" / "g0000000000000002.json").read_text() == "another writer was here"
    assert stamp_of(tmp_path) == 1


def test_the_expected_generation_is_checked(tmp_path):
    put(tmp_path, 1, expected_generation=0)
    with pytest.raises(RunError, match="generation 1 found, 0 expected"):
        put(tmp_path, 2, expected_generation=0)
    assert stamp_of(tmp_path) == 1


def test_a_full_disk_is_named_before_anything_is_written(tmp_path, monkeypatch):
    put(tmp_path, 1)
    usage = store_write.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(store_write.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(RunError, match="free some space"):
        put(tmp_path, 2)
    assert tree(tmp_path) == files_of(1)


def test_a_broken_index_is_not_published(tmp_path):
    broken = make_index([0], [], 0, 1.0, [])
    broken.__dict__["scale"] = float("nan")
    with pytest.raises(ValueError, match="scale"):
        publish(tmp_path / "index", broken, model_hash="", config_hash="")
    assert not (tmp_path / "index").exists()


def test_publishing_repairs_a_damaged_store(tmp_path):
    put(tmp_path, 1)
    put(tmp_path, 2)
    (tmp_path / "CURRENT").write_text("nonsense")
    assert put(tmp_path, 3) == 3
    assert stamp_of(tmp_path) == 3


def test_strangers_and_links_in_the_folder_are_left_alone(tmp_path):
    put(tmp_path / "index", 1)
    elsewhere = tmp_path / "precious"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("keep")
    (tmp_path / "index" / "segs" / "s00000000000000ff").symlink_to(elsewhere)
    (tmp_path / "index" / "segs" / "notes.txt").write_text("keep")
    put(tmp_path / "index", 2)
    assert (elsewhere / "file").read_text() == "keep"
    assert (tmp_path / "index" / "segs" / "notes.txt").exists()
