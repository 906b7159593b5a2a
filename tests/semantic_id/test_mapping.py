"""Items and SIDs both ways, and the files they travel in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import DataError, IndexMismatchError, QueryError, UnknownIdError
from sparcode.semantic_id import mapping_files
from sparcode.semantic_id.mapping import SemanticIds
from sparcode.semantic_id.mapping_files import read_codes, read_mapping, require_target, write_mapping

CODES = np.array([[1, 2, 0], [0, 1, 3], [1, 2, 0], [1, 0, 0]], np.int32)


def mapping(ids: Any = ("ab", "x-1", "c", "7"), codes: np.ndarray = CODES, **more: Any) -> SemanticIds:
    settings = {"sizes": (2, 3, 4), "method": "rq-kmeans", "tokenizer": "0123456789abcdef", "content_digits": 2}
    return SemanticIds(ids, codes, **(settings | more))


def same(one: SemanticIds, other: SemanticIds) -> bool:
    facts = [(m.ids.to_pylist(), m.ids.type, m.codes.tolist(), m.sizes, m.method, m.tokenizer, m.content_digits)
             for m in (one, other)]  # fmt: skip
    return facts[0] == facts[1]


def test_items_to_sids() -> None:
    ids = mapping()
    assert ids.codes_of(["c", "ab", "c"]).tolist() == [[1, 2, 0]] * 3
    assert ids.code_of("x-1") == (0, 1, 3)
    assert ("ab" in ids, "b" in ids, len(ids)) == (True, False, 4)
    assert ids.codes_of([]).shape == (0, 3)
    with pytest.raises(UnknownIdError, match="unknown item 'x-2'"):
        ids.codes_of(["ab", "x-2"])


@pytest.mark.parametrize("many", [0, 10**9])
def test_long_and_short_look_ups_agree(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparcode.semantic_id.mapping.MANY", many)
    for wanted in (["7", "c"], ("7", "c"), pa.array(["7", "c"]), iter(["7", "c"]), np.array(["7", "c"])):
        assert mapping().codes_of(wanted).tolist() == [[1, 0, 0], [1, 2, 0]]
    numbers = mapping([5, 6, 7, 8])
    for wanted in ([7, 5], ["7", "5"], np.array([7, 5]), pa.array([7, 5])):
        assert numbers.codes_of(wanted).tolist() == [[1, 2, 0], [1, 2, 0]]
    with pytest.raises(UnknownIdError, match="unknown item 'x-2'"):
        mapping().codes_of(pa.array(["ab", "x-2"]))


def test_sids_to_items() -> None:
    ids = mapping()
    assert ids.items_of([[1, 2, 0], [1, 1, 1], [1, 0, 0]]) == [["ab", "c"], [], ["7"]]
    assert ids.items_of(np.empty((0, 3), int)) == ids.items_of([]) == []
    assert ids.items_under([[1]]) == [["7", "ab", "c"]]
    assert ids.items_under([[1, 2], [0, 0]]) == [["ab", "c"], []]
    for wrong in ([[1, 2]], [[1, 2, 0, 0]], [[2, 0, 0]], [[0, -1, 0]], [[0.0, 1.0, 1.0]], [1, 2, 0]):
        with pytest.raises(QueryError):
            ids.items_of(wrong)
    with pytest.raises(DataError, match="prefixes of 4 digits found, 1 to 3 expected"):
        ids.items_under([[1, 2, 0, 0]])


def test_capacity_and_fill() -> None:
    ids = mapping()
    assert (ids.capacity, ids.distinct, ids.fill, ids.collision_rate) == (24, 3, 1 / 8, 0.25)
    assert SemanticIds([1], np.zeros((1, 8), int), (256,) * 8, method="x").capacity == 2**64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=30), st.sampled_from([4, 2**24]))
def test_look_ups_equal_dictionaries(codes: list[tuple[int, ...]], size: int) -> None:
    ids = SemanticIds(list(range(len(codes))), np.array(codes), (size,) * 3, method="x")
    for code in {*codes, (0, 0, 0)}:
        assert ids.items_of([code]) == [[item for item, other in enumerate(codes) if other == code]]
        under = [item for item, other in enumerate(codes) if other[:2] == code[:2]]
        assert sorted(ids.items_under([code[:2]])[0]) == under


def test_ids_must_be_there_and_differ() -> None:
    with pytest.raises(DataError, match="item id 'ab' occurs 2 times"):
        mapping(("ab", "x", "ab", "y"))
    with pytest.raises(DataError, match="row 2 has no item id"):
        mapping(pa.array(["a", "b", None, "d"]))
    with pytest.raises(DataError, match="3 item ids found for 4 SIDs"):
        mapping(("a", "b", "c"))


def test_sids_of_another_tokenizer() -> None:
    mapping().check_tokenizer("0123456789abcdef")
    mapping(tokenizer=None).check_tokenizer("anything")
    with pytest.raises(IndexMismatchError, match="0123456789abcdef, not by fedc"):
        mapping().check_tokenizer("fedc")


def test_new_items_follow_old_ones() -> None:
    grown = mapping().extended(pa.array(["new"]), np.array([[0, 0, 1]]))
    assert grown.ids.to_pylist() == ["ab", "x-1", "c", "7", "new"]
    assert grown.code_of("new") == (0, 0, 1)
    assert mapping().extended(pa.array([5]), np.array([[0, 0, 1]])).code_of("5") == (0, 0, 1)
    with pytest.raises(DataError, match="'ab' occurs 2 times"):
        mapping().extended(pa.array(["ab"]), np.array([[0, 0, 1]]))
    with pytest.raises(UnknownIdError, match="text ids, those of the tokenizer are integers"):
        mapping([1, 2, 3, 4]).extended(pa.array(["ab"]), np.array([[0, 0, 1]]))


@pytest.mark.parametrize("name", ["m.parquet", "m.pq", "m.json", "folder"])
@pytest.mark.parametrize("ids", [("ab", "x-1", "ü 漢", "7"), [3, 1, -7, 2**60]])
def test_files_give_back_what_was_written(name: str, ids: Any, tmp_path: Path) -> None:
    write_mapping(mapping(ids), tmp_path / name)
    assert same(read_mapping(tmp_path / name), mapping(ids))
    write_mapping(mapping(ids), tmp_path / name)
    assert same(read_codes(tmp_path / name), mapping(ids))


def test_a_failed_write_keeps_the_earlier_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mapping(mapping(), tmp_path / "m")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("_plain_ids", "_about"):  # after the codes are written, and after the ids
        with monkeypatch.context() as broken:
            broken.setattr(mapping_files, name, full)
            with pytest.raises(OSError, match="space"):
                write_mapping(mapping(["e", "f", "g", "h"], CODES[::-1].copy()), tmp_path / "m")
        assert same(read_mapping(tmp_path / "m"), mapping())
    assert len(list((tmp_path / "m").iterdir())) == 3


@pytest.mark.parametrize("format", ["npy", "llm"])
def test_a_folder_that_cannot_be_made_is_refused_before_work(format: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        require_target(tmp_path / "file" / "sub", format)
    require_target(tmp_path / "sub", format)
    (tmp_path / "sub").mkdir()
    require_target(tmp_path / "sub", format)
    (tmp_path / "sub" / ".codes.npy.0123abcd.tmp").write_bytes(b"half")  # a write that was killed
    require_target(tmp_path / "sub", format)
    (tmp_path / "sub" / ".codes.npy.0123abcd.tmp").unlink()
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "sub"]


def test_columns_of_the_parquet_file(tmp_path: Path) -> None:
    write_mapping(mapping(), tmp_path / "m.parquet")
    table = pq.read_table(tmp_path / "m.parquet")
    assert table.column_names == ["item_id", "c1", "c2", "c3", "code_str"]
    assert table["code_str"].to_pylist() == ["1-2-0", "0-1-3", "1-2-0", "1-0-0"]
    write_mapping(mapping(codes=CODES[:, :2], sizes=(2, 3), content_digits=1), tmp_path / "v.parquet")
    assert pq.read_table(tmp_path / "v.parquet")["token"].to_pylist() == [1, 0, 1, 1]


def test_keys_of_the_json_file(tmp_path: Path) -> None:
    write_mapping(mapping(sizes=(3, 3, 4)), tmp_path / "m.json")
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["item_to_semantic"]["x-1"] == [0, 1, 3]
    assert content["semantic_to_item"] == {"1-2-0": ["ab", "c"], "0-1-3": ["x-1"], "1-0-0": ["7"]}
    about = content["metadata"]
    assert [about[key] for key in ("id_length", "codebook_size", "num_items", "generation_method")] == [
        3, 3, 4, "rq-kmeans"]  # fmt: skip


@pytest.mark.parametrize("back", [{"1-2": "a", "3-0": "b"}, {"[1, 2]": ["a"], "(3, 0)": "b"}, None])
def test_json_of_other_programs(back: Any, tmp_path: Path) -> None:
    metadata = {"id_length": 2, "codebook_size": 8, "num_items": 2, "generation_method": "rqvae"}
    content = {"item_to_semantic": {"a": [1, 2], "b": [3, 0]}, "semantic_to_item": back, "metadata": metadata}
    if back is None:
        del content["semantic_to_item"]
    (tmp_path / "m.json").write_text(json.dumps(content))
    found = read_mapping(tmp_path / "m.json")
    assert (found.sizes, found.method, found.tokenizer) == ((8, 8), "rqvae", None)
    assert found.code_of("b") == (3, 0)


def test_files_of_other_programs_without_sizes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["a", "b"], "c1": [4, 0], "c2": [0, 2]}), tmp_path / "m.parquet")
    assert read_mapping(tmp_path / "m.parquet").sizes == (5, 3)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "codes.npy", np.array([[4, 0], [0, 2]]))
    np.save(tmp_path / "f" / "ids.npy", np.array(["a", "b"]))
    assert read_mapping(tmp_path / "f").items_of([[0, 2]]) == [["b"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as a mapping"),
        ("[]", "item_to_semantic is missing"),
        ('{"item_to_semantic": {"a": [1], "b": [1, 2]}}', "different lengths"),
        ('{"item_to_semantic": {"a": ["x"]}}', "whole numbers"),
        ('{"item_to_semantic": {"a": [1], "a": [2]}}', "'a' occurs twice"),
        ('{"item_to_semantic": {"a": [1]}, "metadata": {"num_items": 2}}', "num_items is 2, 1 items"),
        ('{"item_to_semantic": {"a": [1]}, "metadata": {"id_length": 2}}', "id_length is 2"),
        ('{"item_to_semantic": {"a": [9]}, "metadata": {"codebook_size": 8}}', "out of range: digit 1 lies in 0..7"),
        ('{"item_to_semantic": {"a": [1]}, "semantic_to_item": {"2": "a"}}', "semantic_to_item has 'a' under 2"),
        ('{"item_to_semantic": {"a": [1], "b": [2]}, "semantic_to_item": {"1": "a"}}', "holds 1 items"),
        ('{"item_to_semantic": {}}', "m.json"),
        ('{"item_to_semantic": {"a": [1]}, "metadata": 3}', "metadata"),
        ('{"item_to_semantic": {"a": [1]}, "semantic_to_item": 3}', "semantic_to_item"),
    ],
)
def test_json_that_cannot_be_used(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_mapping(tmp_path / "m.json")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "m.json") in str(caught.value)


def test_other_files_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(name: str, words: str) -> None:
        with pytest.raises(DataError, match=words):
            read_mapping(tmp_path / name)

    refused("absent.json", "no such file")
    (tmp_path / "m.csv").write_text("a")
    refused("m.csv", ".parquet, .json, or a folder")
    (tmp_path / "m.parquet").write_text("no parquet")
    refused("m.parquet", "cannot be read as Parquet")
    pq.write_table(pa.table({"item_id": ["a"], "c1": [1], "c3": [1]}), tmp_path / "gap.parquet")
    refused("gap.parquet", "item_id and c1 .. cL expected")
    pq.write_table(pa.table({"item_id": ["a"], "c1": [1.5]}), tmp_path / "float.parquet")
    refused("float.parquet", "integers without nulls")
    (tmp_path / "f").mkdir()
    refused("f", "codes.npy: no such file")
    np.save(tmp_path / "f" / "codes.npy", np.array([[1]]))
    np.save(tmp_path / "f" / "ids.npy", np.array(["a", None], object), allow_pickle=True)
    refused("f", "cannot be read as a plain .npy array")
