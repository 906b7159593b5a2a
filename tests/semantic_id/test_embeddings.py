"""Embeddings read from every kind of file, written whole, and refused when they cannot be quantized."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sparcode.errors import DataError
from sparcode.semantic_id import embedding_checks, embedding_files
from sparcode.semantic_id.embedding_checks import distinct_rows, first_of_equals
from sparcode.semantic_id.embeddings import Embeddings, from_arrays, read_embeddings, write_embeddings

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
NAMES = ["a", "b", "ü, x", "7", "e", ""]


def refused(call, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", ["e.npy", "e.parquet", "e.safetensors", "folder"])
@pytest.mark.parametrize("ids", [None, [5, 3, 2**62, -1, 0, 8], NAMES], ids=["default", "integers", "text"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str, ids: list | None) -> None:
    embeddings = from_arrays(X, ids)
    for _ in range(2):  # the second time over the first
        write_embeddings(tmp_path / name, embeddings)
        found = read_embeddings(tmp_path / name)
        assert found.vectors.tobytes() == X.tobytes()
        assert found.ids.to_pylist() == (ids or list(range(6)))
        assert found.width == 3
        assert len(found) == 6
    assert not [file for file in tmp_path.rglob("*") if ".tmp" in file.name]


def test_equal_embeddings_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("e.npy", "e.parquet", "e.safetensors"):
        write_embeddings(tmp_path / "one" / name, from_arrays(X, NAMES))
        write_embeddings(tmp_path / "two" / name, from_arrays(X, NAMES))
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_float32_is_mapped_not_copied(tmp_path: Path) -> None:
    for name in ("e.npy", "e.safetensors"):
        write_embeddings(tmp_path / name, from_arrays(X))
        vectors = read_embeddings(tmp_path / name).vectors
        assert not vectors.flags.owndata
        assert not vectors.flags.writeable


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", ">f4"])
def test_other_types_become_float32(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "e.npy", (X * 9).astype(dtype))
    found = read_embeddings(tmp_path / "e.npy").vectors
    assert found.dtype == np.float32
    assert np.array_equal(found, (X * 9).astype(dtype).astype(np.float32))


def test_fortran_order_is_turned(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.asfortranarray(X))
    found = read_embeddings(tmp_path / "e.npy").vectors
    assert found.flags.c_contiguous
    assert np.array_equal(found, X)


def test_ids_beside_a_matrix(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", X)
    np.save(tmp_path / "ids.npy", np.arange(6) * 10)
    assert read_embeddings(tmp_path / "e.npy").ids.to_pylist() == [0, 10, 20, 30, 40, 50]
    (tmp_path / "e.ids.txt").write_text("a\nb\nc\nd\ne\nf\n")  # its own ids win over the folder's
    assert read_embeddings(tmp_path / "e.npy").ids.to_pylist() == list("abcdef")
    (tmp_path / "other.txt").write_text("1\n2\n3\n4\n5\n6")
    assert read_embeddings(tmp_path / "e.npy", ids=tmp_path / "other.txt").ids.to_pylist() == [1, 2, 3, 4, 5, 6]
    pq.write_table(pa.table({"item_id": [*"uvwxyz"]}), tmp_path / "ids.parquet")
    assert read_embeddings(tmp_path / "e.npy", ids=str(tmp_path / "ids.parquet")).ids.to_pylist() == list("uvwxyz")
    assert read_embeddings(tmp_path / "e.npy", ids=list("ghijkl")).ids.to_pylist() == list("ghijkl")
    np.save(tmp_path / "text.npy", np.array(NAMES[:5] + ["z"]))
    assert read_embeddings(tmp_path / "e.npy", ids=tmp_path / "text.npy").ids.to_pylist() == [*NAMES[:5], "z"]


def test_parquet_columns_are_guessed_or_named(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    table = pa.table({"parent_asin": NAMES, "title": NAMES, "v": [row.tolist() for row in X.astype(float)]})
    pq.write_table(table, file)
    found = read_embeddings(file)
    assert found.ids.to_pylist() == NAMES
    assert np.array_equal(found.vectors, X)
    pq.write_table(table.append_column("w", table["v"]), file)
    refused(lambda: read_embeddings(file), "'v', 'w'", "column=")
    refused(lambda: read_embeddings(file, column="x"), "no column 'x'", "parent_asin")
    refused(lambda: read_embeddings(file, column="title"), "'title'", "lists of numbers")
    assert read_embeddings(file, column="w", ids="title").ids.to_pylist() == NAMES
    pq.write_table(table.select(["v"]), file)
    assert read_embeddings(file).ids.to_pylist() == list(range(6))
    refused(lambda: read_embeddings(file, ids="nope"), "no column 'nope'")


def test_parquet_lists_of_other_lengths_and_nulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "e.parquet"
    rows: list = [[1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0]]
    pq.write_table(pa.table({"item_id": range(4), "v": rows}), file)
    refused(lambda: read_embeddings(file), "row 3", "1 numbers", "expected 2")
    rows[2] = None
    pq.write_table(pa.table({"item_id": range(4), "v": rows}), file)
    refused(lambda: read_embeddings(file), "row 3", "nothing")
    monkeypatch.setattr(embedding_files, "_BATCH_ROWS", 2)
    refused(lambda: read_embeddings(file), "row 3", "nothing", "expected 2")
    rows[2] = [5.0, None]
    pq.write_table(pa.table({"item_id": range(4), "v": rows}), file)
    refused(lambda: read_embeddings(file), "nan", "rows 3 (id 2)")
    pq.write_table(pa.table({"item_id": [0, 1], "v": pa.array([[], []], pa.list_(pa.float32()))}), file)
    refused(lambda: read_embeddings(file), "at least 1")


def test_parquet_is_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_files, "_BATCH_ROWS", 4)
    write_embeddings(tmp_path / "e.parquet", from_arrays(X, NAMES))
    found = read_embeddings(tmp_path / "e.parquet")
    assert np.array_equal(found.vectors, X)
    assert found.ids.to_pylist() == NAMES


_KINDS = [
    pa.list_(pa.float16()), pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.int8()), pa.list_(pa.uint64()),
    pa.large_list(pa.float16()), pa.large_list(pa.float64()), pa.large_list(pa.int32()),
    pa.list_(pa.float16(), 3), pa.list_(pa.float32(), 3), pa.list_(pa.float64(), 3), pa.list_(pa.int64(), 3),
    pa.list_(pa.decimal128(9, 2), 3), pa.list_(pa.field("element", pa.float32(), nullable=False), 3),
]  # fmt: skip


def _column(kind: pa.DataType, rows: list) -> pa.Array:
    """Return lists of ``kind``: whole numbers, which every type holds; None is a null list, or a null in it."""
    lists = pa.array(rows, pa.list_(pa.float64(), 3) if pa.types.is_fixed_size_list(kind) else pa.list_(pa.float64()))
    return lists.cast(kind)


@pytest.mark.parametrize("kind", _KINDS, ids=str)
def test_every_kind_of_list_is_read_as_its_values(tmp_path: Path, kind: pa.DataType) -> None:
    rows = [[row, 2 * row + 1, 7] for row in range(11)]
    whole = _column(kind, rows)
    parts = [whole[:4], whole[4:4], whole[4:9], whole[9:]]  # slices of one buffer, one of them empty
    table = pa.table({"item_id": range(11), "v": pa.chunked_array(parts)})
    for group in (1, 3, 100):
        pq.write_table(table, tmp_path / "e.parquet", row_group_size=group)
        found = read_embeddings(tmp_path / "e.parquet")
        assert found.vectors.dtype == np.float32
        assert found.vectors.flags.c_contiguous
        assert found.vectors.tolist() == rows


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind.value_field.nullable], ids=str)
def test_nulls_in_every_kind_of_list_are_named(tmp_path: Path, kind: pa.DataType) -> None:
    file = tmp_path / "e.parquet"
    rows: list = [[row, 1, 2] for row in range(9)]
    for change, words in (([None, 1, 2], ("nan", "rows 8 (id 70)")), (None, ("'v'", "row 8", "nothing", "expected 3"))):
        rows[7] = change
        table = pa.table({"item_id": np.arange(9) * 10, "v": _column(kind, rows)})
        for group in (2, 100):
            pq.write_table(table, file, row_group_size=group)
            refused(lambda: read_embeddings(file), *words)


def test_empty_row_groups_are_passed_over(tmp_path: Path) -> None:
    table = pa.table({"item_id": NAMES, "v": [row.tolist() for row in X.astype(float)]})
    with pq.ParquetWriter(tmp_path / "e.parquet", table.schema) as writer:
        for part in (table[:0], table[:4], table[:0], table[4:], table[:0]):
            writer.write_table(part)
    assert pq.ParquetFile(tmp_path / "e.parquet").num_row_groups == 5
    found = read_embeddings(tmp_path / "e.parquet")
    assert np.array_equal(found.vectors, X)
    assert found.ids.to_pylist() == NAMES
    pq.write_table(table[:0], tmp_path / "e.parquet")
    refused(lambda: read_embeddings(tmp_path / "e.parquet"), "empty matrix")


@pytest.mark.parametrize("group", [100_000, 2_000])
def test_parquet_is_read_without_a_second_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(100_000, 64)).astype(np.float32)  # 26 MB; it stays arrow's here
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 64)
    pq.write_table(pa.table({"v": lists}), tmp_path / "e.parquet", row_group_size=group)
    held: list[int] = []
    of_batch = embedding_files._list_matrix

    def watched(*given: Any) -> np.ndarray:
        held.append(pa.total_allocated_bytes())
        return of_batch(*given)

    monkeypatch.setattr(embedding_files, "_list_matrix", watched)
    before = pa.total_allocated_bytes()
    assert np.array_equal(read_embeddings(tmp_path / "e.parquet").vectors, vectors)
    assert len(held) > 10
    assert max(held) - before < vectors.nbytes / 4  # pages and one batch


def test_written_parquet_holds_no_nulls_and_older_files_are_read(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e.parquet", from_arrays(X, NAMES))
    field = pq.read_schema(tmp_path / "e.parquet").field("embedding")
    assert field.type.list_size == 3
    assert not field.nullable
    assert not field.type.value_field.nullable
    assert pq.read_table(tmp_path / "e.parquet")["embedding"].to_pylist() == X.tolist()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), 3)  # as version 0.1 wrote them
    pq.write_table(pa.table({"item_id": NAMES, "embedding": lists}), tmp_path / "old.parquet")
    assert np.array_equal(read_embeddings(tmp_path / "old.parquet").vectors, X)


def test_parquet_columns_of_one_name(tmp_path: Path) -> None:
    lists = pa.array([row.tolist() for row in X])
    pq.write_table(pa.table([lists, lists], names=["v", "v"]), tmp_path / "e.parquet")
    refused(lambda: read_embeddings(tmp_path / "e.parquet"), "several columns named 'v'")


@pytest.mark.parametrize("name", ["id", "ID", "ids", "key"])
def test_a_plain_id_column_holds_the_ids(tmp_path: Path, name: str) -> None:
    table = pa.table({name: NAMES, "title": NAMES[::-1], "v": [row.tolist() for row in X]})
    pq.write_table(table, tmp_path / "e.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_embeddings(tmp_path / "e.parquet").ids.to_pylist() == NAMES
    save_file({"a": X, "id": np.arange(6) + 7}, tmp_path / "e.safetensors")
    assert read_embeddings(tmp_path / "e.safetensors").ids.to_pylist() == list(range(7, 13))


def test_columns_that_might_be_ids_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    pq.write_table(pa.table({"code": NAMES, "v": [row.tolist() for row in X]}), tmp_path / "e.parquet")
    with pytest.warns(UserWarning, match=r"no column of item ids found among 'code', so items are numbered 0\.\.n-1"):
        assert read_embeddings(tmp_path / "e.parquet").ids.to_pylist() == list(range(6))


def test_safetensors_kinds(tmp_path: Path) -> None:
    file = tmp_path / "e.safetensors"
    save_file({"weight": X.astype(np.float16), "item_id": np.arange(6) + 1}, file)
    found = read_embeddings(file)
    assert found.ids.to_pylist() == [1, 2, 3, 4, 5, 6]
    assert np.array_equal(found.vectors, X.astype(np.float16).astype(np.float32))
    save_file({"a": X, "b": X}, file)
    refused(lambda: read_embeddings(file), "'a', 'b'")
    assert np.array_equal(read_embeddings(file, column="b").vectors, X)
    refused(lambda: read_embeddings(file, column="a", ids="c"), "no tensor 'c'")
    refused(lambda: read_embeddings(file, column="a", ids="b"), "expected one integer a row")
    save_file({"a": X, "flags": np.ones(3, bool), "bytes": np.ones((2, 2), np.uint8)}, file)
    assert np.array_equal(read_embeddings(file).vectors, X)
    file.write_bytes(file.read_bytes()[:-4])
    refused(lambda: read_embeddings(file), "damaged")


def test_bfloat16_of_safetensors_is_widened(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    half = torch.from_numpy(X.copy()).to(torch.bfloat16)
    save_torch({"x": half}, tmp_path / "e.safetensors")
    assert np.array_equal(read_embeddings(tmp_path / "e.safetensors").vectors, half.float().numpy())


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "nan"), (np.inf, "infinite"), (-np.inf, "infinite")], ids=["nan", "inf", "-inf"]
)
def test_rows_that_are_not_finite_are_named(tmp_path: Path, value: float, word: str) -> None:
    bad = X.copy()
    bad[[1, 4], 2] = value
    np.save(tmp_path / "e.npy", bad)
    (tmp_path / "e.ids.txt").write_text("a\nb\nc\nd\ne\nf\n")
    refused(lambda: read_embeddings(tmp_path / "e.npy"), "2 of 6", word, "2 (id 'b')", "5 (id 'e')")


def test_overflow_on_the_way_to_float32_is_refused() -> None:
    refused(lambda: from_arrays(np.array([[1.0, 1e300], [2.0, 3.0]])), "infinite", "rows 1")


def test_embeddings_without_variance_are_refused() -> None:
    refused(lambda: from_arrays(np.ones((5, 4))), "all 5 embeddings are equal")
    assert from_arrays(np.ones((1, 4))).facts().constant_columns == 4  # one item differs from nobody


def test_a_few_items_to_encode_may_have_one_vector(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.ones((2, 4)))
    refused(lambda: read_embeddings(tmp_path / "e.npy"), "all 2 embeddings are equal")
    assert len(read_embeddings(tmp_path / "e.npy", alike=True)) == 2


def test_shapes_and_types_are_refused() -> None:
    refused(lambda: from_arrays(np.ones(5)), "expected a matrix")
    refused(lambda: from_arrays(np.ones((0, 5))), "empty matrix")
    refused(lambda: from_arrays(np.array([["a", "b"]])), "expected a matrix")
    refused(lambda: from_arrays(X.astype(complex)), "expected a matrix")
    refused(lambda: from_arrays(X).require_width(4), "3 wide", "takes 4")
    from_arrays(X).require_width(3)


def test_ids_are_checked() -> None:
    refused(lambda: from_arrays(X, ["a", "b", "c", "b", "e", "c"]), "'b'", "rows 2 and 4", "2 such ids")
    refused(lambda: from_arrays(X, [1, 2, None, 4, 5, 6]), "row 3 has no id")
    refused(lambda: from_arrays(X, [1, 2]), "6 vectors but 2 ids")
    refused(lambda: from_arrays(X, [1, "b", 3, 4, 5, 6]), "mixture")
    refused(lambda: from_arrays(X, [True] * 6), "strings or integers")


def test_files_that_are_not_there_or_broken(tmp_path: Path) -> None:
    refused(lambda: read_embeddings(tmp_path / "none.npy"), "no such file")
    (tmp_path / "e.csv").write_text("1,2")
    refused(lambda: read_embeddings(tmp_path / "e.csv"), "unknown kind", ".safetensors")
    for name in ("e.npy", "e.parquet", "e.safetensors", "e.pt"):
        (tmp_path / name).write_bytes(b"")
        refused(lambda name=name: read_embeddings(tmp_path / name), name)
        (tmp_path / name).write_bytes(b"\x93NUMPY and other text")
        refused(lambda name=name: read_embeddings(tmp_path / name), name)
    np.save(tmp_path / "o.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    refused(lambda: read_embeddings(tmp_path / "o.npy"), "o.npy")
    np.save(tmp_path / "e.npy", X)
    refused(lambda: read_embeddings(tmp_path / "e.npy", column="x"), "no column")
    refused(lambda: read_embeddings(tmp_path / "e.npy", ids="x"), "no columns")
    refused(lambda: read_embeddings(tmp_path / "e.npy", ids=tmp_path / "none.txt"), "no such file")
    (tmp_path / "e.ids.npy").write_bytes(b"x")
    refused(lambda: read_embeddings(tmp_path / "e.npy"), "e.ids.npy", "cannot be read as ids")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    refused(lambda: write_embeddings(tmp_path / "e.csv", from_arrays(X)), "written as .npy")
    refused(lambda: write_embeddings(tmp_path / "e.npy", from_arrays(X, [*"abcde", "f\ng"])), "line break")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    refused(lambda: write_embeddings(tmp_path / "full", from_arrays(X)), "no folder of embeddings")
    assert (tmp_path / "full" / "thesis.tex").exists()


def test_a_failed_write_keeps_the_earlier_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_embeddings(tmp_path / "e", from_arrays(X))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    write_embeddings(tmp_path / "single" / "f.npy", from_arrays(X, list("abcdef")))
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="space"):
        write_embeddings(tmp_path / "e", from_arrays(X * 2))
    assert np.array_equal(read_embeddings(tmp_path / "e").vectors, X)
    with pytest.raises(OSError, match="space"):
        write_embeddings(tmp_path / "single" / "f.npy", from_arrays(X[::-1].copy(), list("fedcba")))
    assert read_embeddings(tmp_path / "single" / "f.npy").ids.to_pylist() == list("abcdef")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["e", "single"]


def test_a_folder_that_cannot_be_renamed_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_embeddings(tmp_path / "e", from_arrays(X))
    rename = os.replace

    def refused_once(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "e" and Path(source).name.endswith(".tmp"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refused_once)
    with pytest.raises(OSError, match="Input"):
        write_embeddings(tmp_path / "e", from_arrays(X * 2))
    assert np.array_equal(read_embeddings(tmp_path / "e").vectors, X)
    assert [file.name for file in tmp_path.iterdir()] == ["e"]


def test_oddities_are_counted_and_kept() -> None:
    odd = np.vstack([X, X[:2], np.zeros((3, 3), np.float32)])
    odd[:, 1] = np.where(np.arange(11) < 8, odd[:, 1], -0.0)
    facts = from_arrays(odd).facts()
    assert (facts.rows, facts.duplicates, facts.zeros, facts.constant_columns) == (11, 4, 3, 0)
    assert len(facts.notes()) == 2
    odd[:, 0] = 2.5
    assert from_arrays(odd).facts().constant_columns == 1
    assert not from_arrays(X).facts().notes()


def test_aligned_follows_the_given_ids() -> None:
    embeddings = from_arrays(X, list("abcdef"))
    assert np.array_equal(embeddings.aligned(pa.array(["c", "a"])), X[[2, 0]])
    refused(lambda: embeddings.aligned(pa.array(["c", "q"])), "1 of 2", "'q'")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.5]), min_size=2, max_size=2), min_size=1, max_size=12))
def test_distinct_rows_against_a_dictionary(rows: list[list[float]]) -> None:
    first: dict[tuple[float, ...], int] = {}
    expected = [first.setdefault(tuple(value + 0.0 for value in row), place) for place, row in enumerate(rows)]
    assert distinct_rows(np.array(rows, np.float32)).tolist() == expected


def test_rows_of_one_hash_are_told_apart_by_their_values() -> None:
    rows = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4]], np.float32)
    assert first_of_equals(rows, np.full(5, 7, np.uint64)).tolist() == [0, 1, 0, 3, 1]


def test_blocks_do_not_change_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    many = np.vstack([X, X, X])
    whole = Embeddings(many, pa.array(range(18))).facts()
    monkeypatch.setattr(embedding_checks, "_BLOCK_BYTES", 24)
    assert Embeddings(many, pa.array(range(18))).facts() == whole
    many[17, 0] = np.nan
    refused(lambda: Embeddings(many, pa.array(range(18))).facts(), "rows 18 (id 17)")


def test_the_kernel_in_plain_python() -> None:
    rows = np.array([[1, np.nan], [0, 0], [-0.0, 2]], np.float32)
    results = []
    for kernel in (embedding_checks.scan, embedding_checks.scan.py_func):
        low, high, hashes = rows[1].copy(), rows[1].copy(), np.empty(3, np.uint64)
        with np.errstate(over="ignore"):
            broken = kernel(rows, low, high, hashes)
        results.append((broken.tolist(), low.tolist(), high.tolist(), hashes.tolist()))
    assert results[0] == results[1]
    assert results[0][0] == [True, False, False]
    assert results[0][3][1] == 0


def test_values_whose_squares_overflow_are_refused_with_their_rows() -> None:
    vectors = np.ones((5, 3), np.float32)
    vectors[2, 1] = -1e25
    with pytest.raises(DataError, match=r"1 of 5 embeddings hold values from 1e\+15 on.*rows 3 \(id 'c'\); scale"):
        Embeddings(vectors, pa.array(list("abcde"), pa.large_string())).facts()
