"""docs/index-format.md and the code agree: its example is rebuilt byte for byte, its limits are those in force."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sparcode.index import layout
from sparcode.index.store import format as store_format
from sparcode.index.store import open_index
from sparcode.query.search.searcher import Searcher

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "index-format.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


def told_files() -> dict[str, bytes]:
    """Return the files of the example as the document shows them."""
    blocks = re.findall(r"^`(\S+)`, (\d+) bytes:\n\n```(text|hex)\n(.*?)^```$", TEXT, re.S | re.M)
    told = {}
    for name, size, kind, shown in blocks:
        told[name] = shown.encode() if kind == "text" else bytes.fromhex(re.sub(r"#.*", "", shown))
        assert len(told[name]) == int(size)
    return told


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The folder the Python of the example publishes into."""
    folder = tmp_path_factory.mktemp("example")
    [program] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.S | re.M)
    exec(program, {"folder": folder})
    return folder


def test_the_example_is_what_is_written(written):
    found = {str(path.relative_to(written)): path.read_bytes() for path in written.rglob("*") if path.is_file()}
    assert found == told_files() | {"LOCK": b""}


def test_the_example_is_read_from_the_bytes_of_the_document(written, tmp_path):
    for name, content in told_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    index, manifest = open_index(tmp_path, verify="full")
    original, _ = open_index(written)
    assert {name: array.tolist() for name, array in index.arrays().items()} == {
        name: array.tolist() for name, array in original.arrays().items()
    }
    assert manifest["info"] == {"policy": "example"}
    ids, sums = Searcher(index).search_one(np.array([0, 2], np.int32), np.array([2, 1], np.int32), 3)
    assert list(zip(ids.tolist(), sums.tolist(), strict=True)) == [(2, 12), (0, 10), (1, 7)]
    assert (sums * index.scale).tolist() == [3.0, 2.5, 1.75]


def test_the_keys_of_the_manifest_are_told_in_a_table(written):
    _, manifest = open_index(written)
    table = re.findall(r"^\| `(\w+)` \|", TEXT, re.M)
    assert set(manifest) <= set(table)
    assert set(manifest["arrays"]["postings"]) <= set(table)


@pytest.mark.parametrize("name", list(store_format.DTYPES))
def test_the_arrays_are_told(name):
    assert f"| `{name}` | `{store_format.DTYPES[name]}` |" in TEXT


def test_the_limits_are_told():
    assert (store_format.MAX_CURRENT_BYTES, store_format.MAX_MANIFEST_BYTES) == (4096, 1 << 24)
    assert (store_format.MAX_DEPTH, store_format.MAX_TEXT) == (32, 255)
    assert (layout.MAX_ITEMS, layout.MAX_ROWS, layout.MAX_BOOKS) == (16_777_215, 2**31 - 1, 64)
    assert layout.MAX_CODE_TABLE == 2**18
    words = "4,096 bytes", "16 MiB", "32 levels", "255 characters", "16,777,215", "2^31 − 1", "at most 64", "2^18"
    assert [word for word in words if word not in TEXT] == []
