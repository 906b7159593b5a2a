"""Stores that are signed but lie: what a reader once let through, or failed at without a name, is refused by name."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparcode.errors import CorruptIndexError, IndexMismatchError
from sparcode.index import layout
from sparcode.index.layout import Family, Index, LayoutError, make_index, pack
from sparcode.index.store import format as store_format
from sparcode.index.store import open_index, publish
from tests.index.golden_index import GOLDEN, golden_index
from tests.index.mutations import ARRAYS, GENERATION, MANIFEST, Forgery


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "run" / "index"
    shutil.copytree(GOLDEN / "v1" / "index", place)
    for path in place.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return place


def forge(folder: Path, change: Callable[[Forgery], Any]) -> None:
    forgery = Forgery()
    change(forgery)
    for path, content in forgery.signed().items():
        (folder / path).write_bytes(content)


def sign(folder: Path, manifest: bytes) -> None:
    (folder / MANIFEST).write_bytes(manifest)
    (folder / "CURRENT").write_bytes(store_format.encode_current(GENERATION, manifest))


def refusal(folder: Path, verify: str = "none", **options) -> str:
    with pytest.raises(CorruptIndexError) as caught:
        open_index(folder, verify=verify, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    assert message.startswith(str(folder))
    return message.removeprefix(f"{folder}/")


def nested(depth: int) -> list:
    return [nested(depth - 1)] if depth else []


HEADER = {
    "a scale that is no float64": ({"scale": 10**400}, "scale is 1000.* expected a finite number"),
    "a negative one": ({"scale": -(10**400)}, "scale is -1000"),
    "version true": ({"format_version": True}, "format version is True, this program reads 1"),
    "version 1.0": ({"format_version": 1.0}, "format version is 1.0, this program reads 1"),
    "a future version": ({"format_version": 2}, "format version is 2, this program reads 1"),
    "a generation that is no integer": ({"generation": 1.0}, "generation is 1.0, expected a count"),
    "two lines of text": ({"model_hash": "a\nb"}, r"model_hash is 'a\\nb', expected a printable text"),
    "half a character": ({"config_hash": "\ud800"}, "config_hash is .* expected a printable text"),
    "a text without end": ({"model_hash": "x" * 5000}, "at most 255 characters"),
    "a format without end": ({"format": "x" * 5000}, "its format is 'xxxx"),
    "depth": ({"info": {"deep": nested(40)}}, "nested more than 32 deep"),
    "depth past the stack": ({"info": {"deep": nested(400)}}, "nested more than 32 deep"),
    "arrays of arrays": ({"arrays": [["x" * 5000] * 500]}, "its arrays are .*expected indptr"),
    "a family that is a page": ({"families": ["x" * 5000]}, "a family is 'xxx.*expected an object of name"),
}


@pytest.mark.parametrize("case", list(HEADER))
def test_the_manifest(folder, case):
    fields, message = HEADER[case]
    forge(folder, lambda forgery: forgery.manifest.update(fields))
    with pytest.raises(CorruptIndexError, match=message):
        open_index(folder, verify="none")
    assert refusal(folder).startswith(f"{MANIFEST} is damaged: ")


@pytest.mark.parametrize("multiplier", [10**400, 0, -0.5, -1e308])
def test_multipliers(folder, multiplier):
    forge(folder, lambda forgery: forgery.manifest["families"][1].update(multiplier=multiplier))
    assert refusal(folder).startswith(f"{MANIFEST} is damaged: ")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "9" * 5000])
def test_numbers_that_are_none_even_where_anything_may_stand(folder, number):
    text = (folder / MANIFEST).read_text()
    sign(folder, text.replace('"policy": "golden"', f'"policy": {number}').encode())
    assert refusal(folder).startswith(f"{MANIFEST} is damaged: ")


def test_names_of_another_layer_are_shown_on_one_line(folder):
    forge(folder, lambda forgery: forgery.manifest.update(model_hash="other model"))
    with pytest.raises(IndexMismatchError) as caught:
        open_index(folder, expect_model_hash="5eed" * 16)
    assert str(caught.value).isprintable()


SCORES = [float("nan"), float("inf"), -float("inf"), 0.0, -1.0]


@pytest.mark.parametrize("score", SCORES)
def test_scores_are_finite_and_positive(folder, score):
    scores = golden_index().scores.copy()
    scores[17] = score
    forge(folder, lambda forgery: forgery.put("scores", scores.tobytes()))
    assert refusal(folder, "full").startswith(f"{ARRAYS['scores']} is damaged: score 17 is {score}, expected")


def test_codes_of_endless_width_are_refused_before_anyone_walks_them(folder):
    def change(forgery: Forgery) -> None:
        forgery.put("code_table", b"")
        forgery.manifest["arrays"]["code_table"]["shape"] = [0, 2**53]

    forge(folder, change)
    assert refusal(folder).startswith(f"{ARRAYS['code_table']} is damaged: a code table of shape (0, 9007199254740992)")


BROKEN = {
    "indptr": (1, 500, "offsets fall: row 1 runs 500.."),
    "postings": (9, 40 << 8 | 1, "posting 9 names item 40, the index has 40 items"),
    "code_rows": (3, 8, "the fallback table names rows 0..8, outside the 8 learned rows"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_the_broken_array_is_named(folder, name):
    place, value, message = BROKEN[name]

    def change(forgery: Forgery) -> None:
        numbers = forgery.numbers(name)
        numbers[place] = value
        forgery.put_numbers(name, numbers)

    forge(folder, change)
    assert refusal(folder, "full").startswith(f"{ARRAYS[name]} is damaged: {message}")


def test_a_digest_that_differs_says_what_was_found_and_expected(folder):
    content = (folder / ARRAYS["postings"]).read_bytes()
    (folder / ARRAYS["postings"]).write_bytes(content[::-1])
    found, expected = store_format.digest(content[::-1])[:12], store_format.digest(content)[:12]
    assert f"its SHA-256 is {found}..., the manifest says {expected}..." in refusal(folder, "full")


def test_a_mapping_the_system_refuses_is_an_error_by_name(folder, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert refusal(folder).startswith(f"{ARRAYS['indptr']} is damaged: its 392 bytes cannot be read ([Errno 12]")


@pytest.mark.parametrize("load", ["mmap", "copy"])
def test_a_file_that_shrinks_while_it_is_opened_is_an_error_by_name(folder, load, monkeypatch):
    status = os.fstat
    shrinking = str(folder / ARRAYS["scores"])

    def then_shrink(descriptor: int) -> os.stat_result:
        answer = status(descriptor)
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == os.path.realpath(shrinking):
            os.truncate(shrinking, 100)
        return answer

    monkeypatch.setattr(os, "fstat", then_shrink)
    assert refusal(folder, load=load).startswith(f"{ARRAYS['scores']} is damaged: its 1488 bytes cannot be read")


def test_more_lists_than_a_query_can_name_are_refused_without_reading_them(folder):
    rows = layout.MAX_ROWS + 1

    def change(forgery: Forgery) -> None:
        forgery.manifest["rows"] = rows
        forgery.manifest["arrays"]["indptr"].update(shape=[rows + 1], bytes=8 * (rows + 1))
        forgery.manifest["families"][1]["rows"] = rows - 8

    forge(folder, change)
    os.truncate(folder / ARRAYS["indptr"], 8 * (rows + 1))  # a sparse file: 17 GB that take no place
    tracemalloc.start()
    assert refusal(folder).startswith(f"{ARRAYS['indptr']} is damaged: 2147483648 posting lists")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_checks_in_blocks_find_the_same_as_in_one(monkeypatch):
    """Faults at every posting and offset, with blocks smaller than lists, against one block for all."""
    good = golden_index()

    def verdicts() -> list[str]:
        return [verdict(changed) for place in range(1, 60) for changed in broken(good, place)]

    whole = verdicts()
    monkeypatch.setattr(layout, "_BLOCK", 7)
    assert verdicts() == whole
    assert sum(message != "good" for message in whole) > 150


def broken(good: Index, place: int) -> list[Index]:
    """Return copies with one fault each at posting, score or offset ``place``."""
    postings = [good.postings.copy() for _ in range(3)]
    postings[0][place] = 41 << 8 | 1
    postings[1][place] &= ~np.uint32(255)
    postings[2][place] = postings[2][place - 1]
    offsets, scores = good.indptr.copy(), good.scores.copy()
    offsets[min(place, 47)] = 0
    scores[place] = 0
    return [*(with_parts(good, postings=part) for part in postings), with_parts(good, indptr=offsets),
            with_parts(good, scores=scores)]  # fmt: skip


def with_parts(good: Index, **parts) -> Index:
    return Index(**{name: getattr(good, name) for name in Index.__dataclass_fields__} | parts)


def verdict(index: Index) -> str:
    try:
        index.validate()
    except LayoutError as problem:
        return f"{problem.part}: {problem}"
    return "good"


REFUSED_HEADERS = [
    {"model_hash": "a\nb"},
    {"config_hash": "x" * 256},
    {"info": {"deep": nested(40)}},
    {"info": {1: "a", "1": "b"}},
    {"info": {"number": float("nan")}},
    {"info": {"long": "x" * store_format.MAX_MANIFEST_BYTES}},
]


@pytest.mark.parametrize("header", REFUSED_HEADERS, ids=lambda header: next(iter(header)))
def test_what_a_reader_would_refuse_is_never_published(tmp_path, header):
    index = make_index([0, 1], pack(np.array([0]), np.array([1])), 1, 1.0, [Family("codes", 0, 1)])
    good: dict[str, Any] = {"model_hash": "m", "config_hash": "c"}
    publish(tmp_path, index, **good)
    with pytest.raises(ValueError):
        publish(tmp_path, index, **good | header)
    assert open_index(tmp_path)[1]["generation"] == 1
    assert [path.name for path in (tmp_path / "segs").iterdir()] == [store_format.segment_name(1)]
