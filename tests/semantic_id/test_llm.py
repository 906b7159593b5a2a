"""Histories joined to items, and what a language model is trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparcode.errors import DataError, RunError
from sparcode.run import Run
from sparcode.semantic_id import llm
from sparcode.semantic_id.histories import mapped_sequences, read_categories, read_histories
from sparcode.semantic_id.llm import added_tokens, sid_words, token, write_llm
from sparcode.semantic_id.mapping import SemanticIds
from sparcode.types import Sequences

if TYPE_CHECKING:
    from tests.conftest import TinyRun

EVENTS = """user,item,time
u,a,1
u,b,2
u,gone,3
u,c,4
u,a,5
v,gone,1
v,c,2
v,b,3
v,a,4
"""


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    path.write_text(EVENTS)
    return path


def mapping() -> SemanticIds:
    return SemanticIds(["c", "b", "a"], np.array([[1, 0], [0, 2], [1, 1]]), (2, 3), method="pq")


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_words() -> None:
    assert [token(0, 12), token(25, 0), token(26, 3)] == ["<a_12>", "<z_0>", "<s27_3>"]
    assert added_tokens((2, 3)) == ["<a_0>", "<a_1>", "<b_0>", "<b_1>", "<b_2>"]
    assert len(set(added_tokens((3,) * 60))) == 180
    assert sid_words(mapping()).to_pylist() == ["<a_1><b_0>", "<a_0><b_2>", "<a_1><b_1>"]


def test_training_histories_and_targets(events: Path, tmp_path: Path) -> None:
    written = write_llm(mapping(), tmp_path / "llm", read_histories(events, mapping().ids))
    assert written == {"added_tokens.json": 5, "items.jsonl": 3, "histories.jsonl": 2, "validation.jsonl": 2,
                       "test.jsonl": 2}  # fmt: skip
    train = lines(tmp_path / "llm" / "histories.jsonl")
    assert train[0] == {"user_id": "u", "items": ["a", "b"], "text": "<a_1><b_1> <a_0><b_2>"}
    assert train[1]["items"] == ["c"]
    test = lines(tmp_path / "llm" / "test.jsonl")
    assert test[0]["items"] == ["a", "b", "c"]
    assert (test[0]["target"], test[0]["target_text"]) == (["a"], "<a_1><b_1>")
    assert lines(tmp_path / "llm" / "items.jsonl")[2] == {"item_id": "a", "sid": "<a_1><b_1>"}
    assert json.loads((tmp_path / "llm" / "added_tokens.json").read_text())[0] == "<a_0>"


def test_items_alone(tmp_path: Path) -> None:
    assert write_llm(mapping(), tmp_path / "llm") == {"added_tokens.json": 5, "items.jsonl": 3}


def test_a_failed_write_keeps_the_earlier_files(events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = read_histories(events, mapping().ids)
    write_llm(mapping(), tmp_path / "llm", histories)
    earlier = {file.name: file.read_bytes() for file in (tmp_path / "llm").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    other = SemanticIds(mapping().ids, mapping().codes[::-1].copy(), (2, 3), method="pq")
    for name in ("_items", "_histories", "_held_out"):
        with monkeypatch.context() as broken:
            broken.setattr(llm, name, full)
            with pytest.raises(OSError, match="space"):
                write_llm(other, tmp_path / "llm", histories)
        assert {file.name: file.read_bytes() for file in (tmp_path / "llm").iterdir()} == earlier


def test_a_run_gives_its_histories(tiny_run: TinyRun) -> None:
    dataset = Run.open(tiny_run.folder).dataset
    ids = dataset.item_ids.external
    found = read_histories(tiny_run.folder, ids[::-1] if hasattr(ids, "__getitem__") else ids)
    back = pa.array(ids.to_pylist()[::-1])
    for user in range(0, 120, 17):
        assert back.take(pa.array(found.train.row(user))).to_pylist() == dataset.item_ids.to_external(
            dataset.train.row(user)
        )
    assert set(found.held_out) == {"validation", "test"}
    (tiny_run.folder.parent / "half").mkdir(exist_ok=True)
    (tiny_run.folder.parent / "half" / "config.toml").write_text("")
    with pytest.raises(RunError, match="unfinished"):
        read_histories(tiny_run.folder.parent / "half", ids)


def test_items_of_other_data(events: Path) -> None:
    with pytest.raises(DataError, match="no training event is of an item"):
        read_histories(events, pa.array(["x", "y"]))


def test_renumbered_sequences() -> None:
    given = Sequences(np.array([0, 3, 3, 5]), np.array([0, 1, 2, 1, 0], np.int32), np.arange(5.0))
    found = mapped_sequences(given, np.array([7, -1, 4]))
    assert found.indptr.tolist() == [0, 2, 2, 3]
    assert found.items.tolist() == [7, 4, 7]
    assert found.times.tolist() == [0, 2, 4]
    assert found.items.dtype == np.int32


def test_categories_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    paths = [["A > B", "C > D"], [], None]
    table = {"item_id": ["a", "b", "x"], "path": [["A", "B"], None, ["C"]], "word": ["k", "l", "m"], "paths": paths}
    pq.write_table(pa.table(table), path)
    ids = pa.array(["b", "a", "z"])
    assert read_categories(path, "path", ids) == [None, "A > B", None]
    assert read_categories(path, "paths", ids) == [None, "A > B", None]
    assert read_categories(path, "word", ids) == ["l", "k", None]
    with pytest.raises(DataError, match="has no column 'kind'; its columns: item_id, path, word, paths"):
        read_categories(path, "kind", ids)
    with pytest.raises(DataError, match="are these its items"):
        read_categories(path, "word", pa.array(["q"]))
