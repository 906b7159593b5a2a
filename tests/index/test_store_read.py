"""Opening: damage of any kind is refused by name, receipts skip only what was verified, readers follow the writer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparcode.errors import CorruptIndexError, IndexMismatchError, RunError
from sparcode.index.layout import Family, Index, make_index
from sparcode.index.store import format as store_format
from sparcode.index.store import open_index, publish
from sparcode.index.store import read as store_read
from sparcode.index.store import receipts as store_receipts
from sparcode.query.search.searcher import Searcher
from tests.query import reference

GENERATION = 1


def sample() -> Index:
    lists = reference.random_lists(2, 6, 50, 40)
    index = reference.lists_to_index(lists, 50, [Family("learned", 0, 4), Family("item", 4, 2)])
    tables = {"code_table": [[0, 1], [1, 1], [2, 0], [2, 2]], "code_rows": np.arange(9) % 4}
    scores = np.linspace(0.1, 1.0, len(index.postings))
    return make_index(index.indptr, index.postings, 50, 0.5, index.families, **tables, scores=scores)


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "run" / "index"
    publish(place, sample(), model_hash="a" * 64, config_hash="c", info={"policy": "global-bias"})
    return place


def segment(folder: Path) -> Path:
    return folder / "segs" / store_format.segment_name(GENERATION)


def manifest_path(folder: Path) -> Path:
    return folder / "manifests" / store_format.manifest_name(GENERATION)


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def sign(folder: Path, change=lambda manifest: None) -> None:
    """Change the manifest and sign everything anew, as an attacker or a buggy writer would."""
    manifest = json.loads(manifest_path(folder).read_text())
    for entry in manifest["arrays"].values():
        entry["sha256"] = store_format.digest((segment(folder) / entry["file"]).read_bytes())
    change(manifest)
    sign_raw(folder, json.dumps(manifest).encode())


def sign_raw(folder: Path, content: bytes) -> None:
    overwrite(manifest_path(folder), content)
    overwrite(folder / "CURRENT", store_format.encode_current(GENERATION, content))


def assert_refused(folder: Path, verify: str = "auto", words: str = "") -> None:
    with pytest.raises(CorruptIndexError) as caught:
        open_index(folder, verify=verify)
    message = str(caught.value)
    assert words in message
    assert "sparcode build-index" in message
    assert str(folder) in message
    assert "\n" not in message


@pytest.mark.parametrize("load", ["mmap", "copy"])
@pytest.mark.parametrize("verify", ["auto", "full", "none"])
def test_what_was_published_is_opened_read_only(folder, load, verify):
    index, manifest = open_index(folder, verify=verify, load=load, expect_model_hash="a" * 64)
    for name, array in sample().arrays().items():
        got = index.arrays()[name]
        assert got.dtype == array.dtype
        assert got.tolist() == array.tolist()
        assert not got.flags.writeable
    assert (index.families, index.scale, index.item_count) == (sample().families, 0.5, 50)
    assert manifest["info"] == {"policy": "global-bias"}
    assert manifest["generation"] == 1


def test_an_index_without_rows_and_items(tmp_path):
    publish(tmp_path, make_index([0], [], 0, 1.0, []), model_hash="", config_hash="")
    index, _ = open_index(tmp_path)
    assert index.row_count == 0
    assert len(index.postings) == 0
    assert not index.postings.flags.writeable


def test_another_model_is_a_mismatch(folder):
    with pytest.raises(IndexMismatchError, match="built from model aaaaaaaaaaaa, .* bbbbbbbbbbbb; .*build-index"):
        open_index(folder, expect_model_hash="b" * 64)


def test_no_index(tmp_path):
    with pytest.raises(RunError, match="no index found here; .*sparcode build-index"):
        open_index(tmp_path / "nothing")


def test_unknown_verify_is_a_programming_error(folder):
    with pytest.raises(ValueError, match="expected auto, full or none"):
        open_index(folder, verify="some")


@pytest.mark.parametrize("bit", [0, 5, 7])
def test_every_flipped_byte_of_current_is_found(folder, bit):
    content = (folder / "CURRENT").read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        overwrite(folder / "CURRENT", bytes(damaged))
        assert_refused(folder, "none", "CURRENT")


def test_every_flipped_byte_of_the_manifest_is_found(folder):
    content = manifest_path(folder).read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        overwrite(manifest_path(folder), bytes(damaged))
        assert_refused(folder, "none", "manifests")


@pytest.mark.parametrize("name", list(store_format.DTYPES))
def test_flipped_bytes_of_arrays_are_found(folder, name):
    path = segment(folder) / f"{name}.bin"
    content = path.read_bytes()
    for place in {0, 1, len(content) // 3, len(content) // 2, len(content) - 1}:
        for bit in (0, 3, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            overwrite(path, bytes(damaged))
            assert_refused(folder, "auto")
            assert_refused(folder, "full")


@pytest.mark.parametrize("name", ["CURRENT", "manifest", *store_format.DTYPES])
@pytest.mark.parametrize("verify", ["auto", "none"])
def test_truncated_and_lengthened_files_are_found(folder, name, verify):
    paths = {"CURRENT": folder / "CURRENT", "manifest": manifest_path(folder)}
    path = paths.get(name, segment(folder) / f"{name}.bin")
    content = path.read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 1):
        overwrite(path, content[:size])
        assert_refused(folder, verify, path.name)
    overwrite(path, content + b"\0")
    assert_refused(folder, verify, path.name)
    overwrite(path, content + b"x" * 5000)
    assert_refused(folder, verify, path.name)


@pytest.mark.parametrize("name", ["CURRENT", "manifest", *store_format.DTYPES])
@pytest.mark.parametrize("kind", ["missing", "directory", "link", "pipe"])
def test_files_that_are_not_files_are_found(folder, name, kind):
    paths = {"CURRENT": folder / "CURRENT", "manifest": manifest_path(folder)}
    path = paths.get(name, segment(folder) / f"{name}.bin")
    path.rename(folder / "moved")
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(folder / "moved")
    elif kind == "pipe":
        os.mkfifo(path)
    assert_refused(folder, "auto", path.name)


BAD_MANIFESTS = {
    "format": lambda m: m.update(format="other"),
    "format version": lambda m: m.update(format_version=2),
    "generation": lambda m: m.update(generation=2),
    "model_hash": lambda m: m.update(model_hash=3),
    "info": lambda m: m.update(info=[]),
    "rows": lambda m: m.update(rows=5),
    "item_count": lambda m: m.update(item_count=-1),
    "postings": lambda m: m.update(postings=2**60),
    "scale": lambda m: m.update(scale="1"),
    "scale ": lambda m: m.update(scale=-1.0),
    "families": lambda m: m.update(families={}),
    "family": lambda m: m["families"][0].pop("multiplier"),
    "family's name": lambda m: m["families"][0].update(name=None),
    "first_row": lambda m: m["families"][1].update(first_row=True),
    "starts at row": lambda m: m["families"][1].update(first_row=3),
    "arrays": lambda m: m["arrays"].pop("postings"),
    "arrays ": lambda m: m["arrays"].update(more={}),
    "not an object": lambda m: m["arrays"].update(indptr=[]),
    "file of": lambda m: m["arrays"]["indptr"].update(file="../../CURRENT"),
    "dtype": lambda m: m["arrays"]["indptr"].update(dtype=">u8"),
    "shape": lambda m: m["arrays"]["indptr"].update(shape=[-1]),
    "shape ": lambda m: m["arrays"]["code_table"].update(shape=[8]),
    "size": lambda m: m["arrays"]["code_rows"].update(shape=[2**52]),
    "digest": lambda m: m["arrays"]["indptr"].update(sha256="A" * 64),
    "length of postings": lambda m: m.update(postings=1),
    "segment": lambda m: m.update(segment="../x"),
    "posting list of": lambda m: m.update(item_count=1),
}


@pytest.mark.parametrize("rule", list(BAD_MANIFESTS))
def test_a_signed_manifest_that_breaks_a_rule_is_refused(folder, rule):
    sign(folder)
    open_index(folder, verify="full")
    sign(folder, BAD_MANIFESTS[rule])
    assert_refused(folder, "none")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"[" * 100_000, b'{"a": 1e999}']
)
def test_signed_nonsense_is_refused(folder, content):
    sign_raw(folder, content)
    assert_refused(folder, "none", "manifests")


@given(st.binary(max_size=300))
def test_current_accepts_nothing_but_its_own_form(content):
    with pytest.raises(store_format.FormatError):
        store_format.parse_current(content)
    signed = content + b"\n" + store_format.digest(content).encode() + b"\n"
    with pytest.raises(store_format.FormatError):
        store_format.parse_current(signed)


@pytest.mark.parametrize("change", [{"manifest": "../x"}, {"size": 1 << 40}, {"sha256": "x"}, {"generation": -1}])
def test_a_signed_current_that_breaks_a_rule_is_refused(change):
    good = json.loads(store_format.encode_current(1, b"manifest").splitlines()[0])
    line = json.dumps(good | change).encode()
    with pytest.raises(store_format.FormatError):
        store_format.parse_current(line + b"\n" + store_format.digest(line).encode() + b"\n")


@pytest.mark.parametrize("seed", range(12))
def test_signed_random_postings_are_refused_when_verified_and_harmless_when_not(folder, seed):
    random = np.random.default_rng(seed)
    path = segment(folder) / "postings.bin"
    bits = (32, 15)[seed % 2]
    postings = random.integers(0, 2**bits, path.stat().st_size // 4, dtype=np.uint64).astype("<u4")
    overwrite(path, postings.tobytes())
    sign(folder)
    assert_refused(folder, "full", "postings.bin")
    searcher = Searcher(*open_index(folder, verify="none"))
    for rows in ([0, 1, 2, 3, 4, 5], [3, 3, 3, 3]):
        query = np.array(rows, np.int32), np.ones(len(rows), np.int32)
        ids, _ = searcher.search_one(*query, 60)
        assert ((ids >= 0) & (ids < 50)).all()
        assert len(set(ids.tolist())) == len(ids)
        assert len(searcher.sums_of(*query, ids)) == len(ids)


@pytest.mark.parametrize("offsets", [[0, 9, 3], [1], [0, 2**63], [0, 2**64 - 1]])
def test_signed_bad_offsets_are_refused_without_verification(folder, offsets):
    path = segment(folder) / "indptr.bin"
    indptr = np.frombuffer(path.read_bytes(), "<u8").copy()
    indptr[: len(offsets)] = offsets
    overwrite(path, indptr.tobytes())
    sign(folder)
    assert_refused(folder, "none", "offsets")


def settle(folder: Path) -> None:
    """Wait until the files are old enough for a receipt."""
    time.sleep(1.2 * store_receipts.SETTLED_NS / 1e9)


def test_a_receipt_skips_the_second_verification_only(folder, monkeypatch):
    verified = []
    verify = store_read._verify
    monkeypatch.setattr(store_read, "_verify", lambda *given: (verified.append(1), verify(*given)))
    settle(folder)
    for expected, kind in [(1, "auto"), (1, "auto"), (2, "full"), (2, "none"), (2, "auto")]:
        open_index(folder, verify=kind)
        assert len(verified) == expected
    path = segment(folder) / "postings.bin"
    os.utime(path, ns=(0, path.stat().st_mtime_ns))
    open_index(folder)
    assert len(verified) == 3, "a changed time (here: change time) asks for a new verification"


def test_a_flip_after_verification_is_found_even_with_the_old_modification_time(folder):
    settle(folder)
    open_index(folder)
    path = segment(folder) / "postings.bin"
    content, before = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    overwrite(path, bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_refused(folder, "auto", "postings.bin")


@pytest.mark.parametrize(("age", "kept"), [(-1, 0), (0, 1)])
def test_a_receipt_is_of_files_older_than_the_clocks_tick(folder, tmp_path, monkeypatch, age, kept):
    monkeypatch.setenv("SPARCODE_CACHE", str(tmp_path / "cache"))
    files = [manifest_path(folder), *segment(folder).iterdir()]
    youngest = max(max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in files)
    monkeypatch.setattr(store_receipts.time, "time_ns", lambda: youngest + store_receipts.SETTLED_NS + age)
    open_index(folder)
    assert len(list((tmp_path / "cache").rglob("*.json"))) == kept


def test_files_that_just_changed_get_no_receipt(folder):
    open_index(folder)
    path = segment(folder) / "postings.bin"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    overwrite(path, bytes(content))
    assert_refused(folder, "auto", "postings.bin")


def test_an_unusable_cache_costs_a_verification_and_nothing_else(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    settle(folder)
    open_index(folder)
    open_index(folder)


def again(folder: Path) -> int:
    return publish(folder, sample(), model_hash="a", config_hash="c")


def test_a_reader_overtaken_by_the_writer_starts_again(folder, monkeypatch):
    read = store_read._read_current
    answers = []

    def slow_reader(place):
        answer = read(place)
        if not answers:
            for _ in range(3):
                again(place)
        answers.append(answer["generation"])
        return answer

    monkeypatch.setattr(store_read, "_read_current", slow_reader)
    assert open_index(folder)[1]["generation"] == 4
    assert answers == [1, 4]


def test_a_reader_overtaken_for_ever_gives_up(folder, monkeypatch):
    read = store_read._read_current

    def very_slow_reader(place):
        answer = read(place)
        for _ in range(2):
            again(place)
        return answer

    monkeypatch.setattr(store_read, "_read_current", very_slow_reader)
    with pytest.raises(CorruptIndexError, match="replaced 8 times"):
        open_index(folder)


def test_an_older_generation_is_never_served_instead_of_a_damaged_one(folder):
    again(folder)
    (folder / "segs" / store_format.segment_name(2) / "postings.bin").unlink()
    assert_refused(folder, "none", "postings.bin")


def test_a_missing_pointer_beside_manifests_is_damage(folder):
    (folder / "CURRENT").unlink()
    assert_refused(folder, "none", "CURRENT")


def test_no_descriptors_are_left_open(folder):
    open_index(folder)
    before = len(os.listdir("/proc/self/fd"))
    overwrite(segment(folder) / "postings.bin", b"")
    for _ in range(5):
        assert_refused(folder)
    assert len(os.listdir("/proc/self/fd")) <= before
