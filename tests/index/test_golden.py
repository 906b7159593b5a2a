"""Stored indexes are a contract: golden bytes are written again byte for byte, and every version stays readable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparcode.index.store import format as store_format
from sparcode.index.store import open_index, publish
from sparcode.query.search.searcher import Searcher
from tests.index.golden_index import FAMILIES, GOLDEN, HEADER, ITEMS, SCALE, answers, golden_index


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_version_there_ever_was_has_golden_files():
    assert {folder.name for folder in GOLDEN.iterdir()} == {f"v{version}" for version in store_format.READERS}
    assert max(store_format.READERS) == store_format.FORMAT_VERSION


def test_writing_the_golden_index_gives_the_golden_bytes(tmp_path):
    assert publish(tmp_path, golden_index(), **HEADER) == 1
    written = files(tmp_path)
    assert written.pop("LOCK") == b""
    assert written == files(GOLDEN / f"v{store_format.FORMAT_VERSION}" / "index")


def test_the_store_does_not_depend_on_byte_order_or_memory_layout(tmp_path):
    index = golden_index()
    for name in ("indptr", "postings", "code_table", "code_rows", "scores"):
        array = getattr(index, name)
        object.__setattr__(index, name, np.asfortranarray(array.astype(array.dtype.newbyteorder(">"))))
    publish(tmp_path, index, **HEADER)
    written = files(tmp_path)
    assert written.pop("LOCK") == b""
    assert written == files(GOLDEN / f"v{store_format.FORMAT_VERSION}" / "index")


@pytest.mark.parametrize("load", ["mmap", "copy"])
@pytest.mark.parametrize("verify", ["auto", "full", "none"])
def test_a_future_version_must_keep_reading_version_1(verify, load):
    index, manifest = open_index(GOLDEN / "v1" / "index", verify=verify, load=load, expect_model_hash="5eed" * 16)
    expected = golden_index().arrays()
    assert list(index.arrays()) == list(expected)
    for name, array in index.arrays().items():
        assert array.dtype == expected[name].dtype
        assert array.shape == expected[name].shape
        assert array.tobytes() == expected[name].tobytes()
    assert (index.item_count, index.scale, index.families) == (ITEMS, SCALE, FAMILIES)
    assert manifest["info"] == HEADER["info"]
    assert manifest["config_hash"] == HEADER["config_hash"]


def test_a_future_version_must_give_the_answers_of_version_1():
    given = json.loads((GOLDEN / "v1" / "answers.json").read_text())
    assert answers(Searcher(*open_index(GOLDEN / "v1" / "index"))) == given
