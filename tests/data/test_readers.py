"""One contract for every kind of input: files of each kind, tables of each library, folders of parts.

The same events, items and users give the same data set, whatever they are read from.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from sparcode.config import DataConfig
from sparcode.data.dataset import Dataset, load_dataset
from sparcode.data.tables import kind_of, read_file, read_tables, table_of
from sparcode.errors import DataError

FIRST = 1_600_000_000
EVENTS = pandas.DataFrame(
    [
        (user, item, FIRST + 86400 * day, "abc"[item % 3])
        for user in range(1, 7)
        for day, item in enumerate(range(user, user + 6))
    ],
    columns=["user_id", "item_id", "timestamp", "kind"],
)
ITEMS = pandas.DataFrame(
    {
        "item_id": range(1, 13),
        "title": [f'T"{n}" é' for n in range(12)],
        "colour": ["red", "blue", "green"] * 4,
        "price": [n / 2 for n in range(12)],
    }
)
CONFIG = DataConfig(text_width=0, where="kind!=c")


def _load(interactions: Any, items: Any = None, config: DataConfig = CONFIG) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_dataset({"interactions": interactions, "items": items}, config, seed=0)


EXPECTED = _load(EVENTS, ITEMS)


def _same(found: Dataset) -> None:
    assert found.item_ids.external.to_pylist() == EXPECTED.item_ids.external.to_pylist()
    assert found.user_ids.external.to_pylist() == EXPECTED.user_ids.external.to_pylist()
    for name in ("items", "indptr", "times"):
        assert np.array_equal(getattr(found.serving, name), getattr(EXPECTED.serving, name)), name
    assert list(found.titles) == list(EXPECTED.titles)
    assert found.item_features.layout.vocabulary == EXPECTED.item_features.layout.vocabulary
    assert np.array_equal(found.item_features.numeric, EXPECTED.item_features.numeric)


def _csv(frame: pandas.DataFrame, path: Path, **options: Any) -> None:
    frame.to_csv(path, index=False, **options)


def _recbole(frame: pandas.DataFrame, path: Path) -> None:
    names = {name: f"{name}:{'float' if name in ('timestamp', 'price') else 'token'}" for name in frame.columns}
    lines = ["\t".join(names.values()), *("\t".join(map(str, row)) for row in frame.itertuples(index=False))]
    path.write_text("\n".join(lines) + "\n")


def _gzip(frame: pandas.DataFrame, path: Path, **options: Any) -> None:
    path.write_bytes(gzip.compress(frame.to_csv(index=False, **options).encode()))


def _dictionaries(frame: pandas.DataFrame, path: Path) -> None:
    frame.astype({name: "category" for name in frame if frame[name].dtype != float}).to_parquet(path)


def _views(frame: pandas.DataFrame, path: Path) -> None:
    pq.write_table(polars.from_pandas(frame).to_arrow(compat_level=polars.CompatLevel.newest()), path)


def _bare(frame: pandas.DataFrame, path: Path) -> None:
    rows = [frame.columns, *frame.itertuples(index=False)]
    path.write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")


FILES: dict[str, tuple[str, Callable[[pandas.DataFrame, Path], None]]] = {
    "parquet": (".parquet", lambda frame, path: frame.to_parquet(path)),
    "parquet, string views": (".parquet", _views),
    "parquet, dictionaries": (".parquet", _dictionaries),
    "pq, small row groups": (".pq", lambda frame, path: frame.to_parquet(path, row_group_size=5)),
    "csv": (".csv", _csv),
    "csv, byte order mark": (".csv", lambda frame, path: _csv(frame, path, encoding="utf-8-sig")),
    "csv, CRLF": (".csv", lambda frame, path: _csv(frame, path, lineterminator="\r\n")),
    "csv, all quoted": (".csv", lambda frame, path: _csv(frame, path, quoting=1)),
    "csv, semicolons": (".csv", lambda frame, path: _csv(frame, path, sep=";")),
    "csv, bars": (".csv", lambda frame, path: _csv(frame, path, sep="|")),
    "csv, with index": (".csv", lambda frame, path: frame.to_csv(path)),
    "csv, index twice": (".csv", lambda frame, path: frame.assign(**{"Unnamed: 0": frame.index}).to_csv(path)),
    "csv, blanks": (".csv", lambda frame, path: path.write_text(frame.to_csv(index=False).replace("_id,", "_id ,"))),
    "csv.gz": (".csv.gz", _gzip),
    "csv that is gzipped": (".csv", _gzip),
    "csv.gz that is not": (".csv.gz", lambda frame, path: _csv(frame, path, compression=None)),
    "tsv": (".tsv", lambda frame, path: _csv(frame, path, sep="\t")),
    "tsv, quotes as they are": (".tsv", _bare),
    "tsv.gz": (".tsv.gz", lambda frame, path: _gzip(frame, path, sep="\t")),
    "txt": (".txt", lambda frame, path: _csv(frame, path, sep="\t")),
    "recbole": (".inter", _recbole),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_kind_are_one_data_set(tmp_path: Path, kind: str) -> None:
    ending, write = FILES[kind]
    write(EVENTS, tmp_path / f"interactions{ending}")
    write(ITEMS, tmp_path / f"items{ending.replace('.inter', '.item')}")
    _same(_load(tmp_path / f"interactions{ending}", tmp_path / f"items{ending.replace('.inter', '.item')}"))
    _same(load_dataset(str(tmp_path), CONFIG, seed=0))


def test_ids_written_as_floats_are_integers_and_told_of(tmp_path: Path) -> None:
    for name, frame in (("interactions", EVENTS), ("items", ITEMS)):
        _csv(frame.astype({"item_id": float}), tmp_path / f"{name}.csv")
    with pytest.warns(UserWarning, match="spelled as floats"):
        _same(load_dataset(str(tmp_path), CONFIG, seed=0))


def _text_as(kind: str) -> Callable[[pandas.DataFrame], pandas.DataFrame]:
    return lambda frame: frame.astype({name: kind for name in ("kind", "title", "colour") if name in frame})


def _polars(kind: Any) -> Callable[[pandas.DataFrame], polars.DataFrame]:
    def cast(frame: pandas.DataFrame) -> polars.DataFrame:
        table = polars.from_pandas(frame)
        return table.with_columns(
            polars.col(name).cast(kind(table[name])) for name in ("kind", "colour") if name in frame
        )

    return cast


def _ree(frame: pandas.DataFrame) -> pa.Table:
    import pyarrow.compute as pc

    table = pa.Table.from_pandas(frame)
    return pa.table({name: pc.run_end_encode(table[name]) for name in table.column_names})


def _chunked_dictionaries(frame: pandas.DataFrame) -> pa.Table:
    parts = [pa.Table.from_pandas(frame[low : low + 4], preserve_index=False) for low in range(0, len(frame), 4)]
    columns = {
        name: pa.chunked_array([part[name].combine_chunks().dictionary_encode() for part in parts])
        for name in parts[0].column_names
    }
    return pa.table(columns)


TABLES: dict[str, Callable[[pandas.DataFrame], Any]] = {
    "pandas, pyarrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, string[pyarrow]": _text_as("string[pyarrow]"),
    "pandas, object": _text_as("object"),
    "pandas, category": _text_as("category"),
    "pandas, Int64": lambda frame: frame.astype({"item_id": "Int64"}),
    "pandas, ids as floats": lambda frame: frame.astype({"item_id": float}),
    "pandas, an index with gaps": lambda frame: frame.set_index(frame.index * 2),
    "pandas, ids as index": lambda frame: frame.set_index("item_id"),
    "pandas, reset_index": lambda frame: frame.reset_index(),
    "polars": polars.from_pandas,
    "polars, lazy": lambda frame: polars.from_pandas(frame).lazy(),
    "polars, categorical": _polars(lambda column: polars.Categorical),
    "polars, enum": _polars(lambda column: polars.Enum(column.unique())),
    "arrow, string views": lambda frame: polars.from_pandas(frame).to_arrow(compat_level=polars.CompatLevel.newest()),
    "arrow, large strings": lambda frame: polars.from_pandas(frame).to_arrow(compat_level=polars.CompatLevel.oldest()),
    "arrow, runs": _ree,
    "arrow, dictionaries by chunk": _chunked_dictionaries,
    "arrow, a batch": lambda frame: pa.RecordBatch.from_pandas(frame),
    "arrow, a reader": lambda frame: pa.Table.from_pandas(frame).to_reader(),
    "arrow, a data set": lambda frame: pa.dataset.dataset(pa.Table.from_pandas(frame)),
    "columns": lambda frame: {name: frame[name].tolist() for name in frame},
    "columns of numpy": lambda frame: {name: frame[name].to_numpy() for name in frame},
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_library_are_one_data_set(kind: str) -> None:
    _same(_load(TABLES[kind](EVENTS), TABLES[kind](ITEMS)))


@pytest.mark.parametrize("kind", ["polars, categorical", "polars, enum", "pandas, category", "arrow, string views"])
def test_split_columns_and_ids_of_every_kind(kind: str) -> None:
    events = EVENTS.assign(colour=["train", "train", "train", "train", "valid", "test"] * 6)
    config = DataConfig(text_width=0, split_by="column", columns={"split": "colour"})
    found, expected = (_load(make(events), config=config) for make in (TABLES[kind], lambda frame: frame))
    assert np.array_equal(found.test.target_items, expected.test.target_items)
    by_kind = DataConfig(text_width=0, columns={"item": "kind"})
    assert set(_load(TABLES[kind](EVENTS), config=by_kind).item_ids.external.to_pylist()) == set("abc")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("store", ["pandas", "polars", "parquet", "csv"])
def test_timestamps_of_every_kind(tmp_path: Path, unit: str, zone: str | None, store: str) -> None:
    stamps = pandas.to_datetime(EVENTS.timestamp, unit="s").astype(f"datetime64[{unit}]")
    if unit == "ns":
        stamps += pandas.to_timedelta(1, unit="ns")
    events: Any = EVENTS.assign(timestamp=stamps if zone is None else stamps.dt.tz_localize(zone))
    if store == "polars":
        events = polars.from_pandas(events)
    elif store != "pandas":
        path = tmp_path / f"e.{store}"
        (events.to_parquet if store == "parquet" else events.to_csv)(path, index=False)
        events = path
    found = _load(events, ITEMS.assign(released=stamps[:12]))
    _same(found)
    assert found.item_attributes.columns["released"].kind == "time"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            pandas.DataFrame({"user_id": [1, 2], "item_id": [1, "b"]}),
            "'item_id' are values of several types .int, str.",
        ),
        ({"user_id": [1, 2], "item_id": [1]}, "cannot use a dict as a table"),
        (polars.from_pandas(EVENTS).lazy().select("nothing"), "cannot use a LazyFrame as a table"),
        (EVENTS["user_id"], "cannot use a Series as a table"),
        (pandas.concat([EVENTS, EVENTS], axis=1), "Duplicate column names"),
        (pa.table([[1], [2]], names=["a", "a"]), "several columns named 'a'"),
        (EVENTS[:0], "has no rows"),
        (None, "cannot use a NoneType"),
        ({"interactions": None, "items": ITEMS}, "the interactions table is None"),
    ],
)
def test_what_is_no_table_is_one_line(table: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_tables(table)
    assert "\n" not in str(caught.value)


TEXT = "user_id,item_id\n1,é\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", TEXT.encode("utf-16"), "is text in UTF-16, expected UTF-8; save it as UTF-8, e.g. iconv"),
        ("a.csv", TEXT.encode("utf-32"), "is text in UTF-32"),
        ("a.tsv", (TEXT * 9).encode("utf-16-le"), "UTF-16 .without byte order mark.*UTF-16LE"),
        ("a.inter", (TEXT * 9).encode("utf-16-be"), "UTF-16 .without byte order mark.*UTF-16BE"),
        ("a.csv", TEXT.encode("latin-1"), "line 2 is not UTF-8 .byte 0xe9., it may be Latin-1"),
        ("a.csv", "usér,item\n1,2\n".encode("latin-1"), "line 1 is not UTF-8"),
        ("a.csv", "user,item,text\n1,2,é\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("a.csv.gz", gzip.compress(TEXT.encode("latin-1"), mtime=0), "line 2 is not UTF-8"),
        ("a.inter", "user_id:token\titem_id:token\n1\té\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("a.csv.gz", gzip.compress((TEXT * 99).encode(), mtime=0)[:40], "cannot be read: .*is the file whole"),
        ("a.csv", b"PK\x03\x04 [Content_Types].xml", "is an Excel workbook, .*save the sheet as CSV"),
        ("a.inter", b"PK\x03\x04 a.csv", "is a ZIP archive.*unpack"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook"),
        ("a.csv", b"BZh91AY", "compressed with bzip2"),
        ("a.csv", b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        ("a.csv", b"PAR1", "is a Parquet file.*name it .parquet"),
        ("a.csv", b"<!DOCTYPE html>\n<html>", "is an HTML page"),
        ("a.csv", b'{"user_id": 1, "item_id": 2}\n', "holds JSON.*read_json"),
        ("a.csv", b'[{"user_id": 1}]', "holds a JSON array"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        ("a.parquet", b"user_id,item_id\n", "is no Parquet file.*name it .csv"),
        ("a.parquet", b"<html>", "is an HTML page"),
        ("a.csv", b"user_id,item_id\n1,\0\n", "line 2 holds a NUL byte"),
        ("a.csv", b"a,a\n1,2\n", "several columns named 'a'"),
        ("a.csv", b"1,1\n1,2\n", "several columns named '1'.*no header line"),
        ("a.inter", b"user_id:token\tx:float_seq\n1\t1 2\n2\t1 x\n", "column 'x', row 2: 'x' is no number"),
        ("a.inter", b"user_id:token\n1\t2\n", "line 2 has 2 fields, expected 1"),
        ("a.inter", b"user_id:tokens\n1\n", "'user_id:tokens' is not name:token"),
    ],
)
def test_what_is_no_table_of_text_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparcode.data.text_kinds._MOST_UNPACKED", 1 << 20)
    with gzip.open(tmp_path / "a.csv.gz", "wb") as stream:
        stream.write(b"user_id,item_id\n")
        for _ in range(20):
            stream.write(b"1,1\n" * (1 << 18))
    with pytest.raises(DataError, match="unpacks to more than .* MB, which no table of text does"):
        read_file(tmp_path / "a.csv.gz")


def test_ids_of_text(tmp_path: Path) -> None:
    cases = {
        "0.0,1.0,": [0, 1, None],
        "1.0,1.5": ["1.0", "1.5"],
        " 7 , 8": [7, 8],
        " a , b ": ["a", "b"],
        "007,8": ["007", "8"],
        '"1","2"': [1, 2],
        "9223372036854775807,1": ["9223372036854775807", "1"],
        "NA,x": ["NA", "x"],
    }
    for spelled, expected in cases.items():
        (tmp_path / "a.csv").write_text("item_id,n\n" + "".join(f"{text},1\n" for text in spelled.split(",")))
        assert read_file(tmp_path / "a.csv")["item_id"].to_pylist() == expected, spelled


@pytest.mark.parametrize("ending", ["csv", "tsv", "item"])
def test_an_id_that_spells_a_missing_value_is_an_id_beside_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    sep, head = (
        ("," if ending == "csv" else "\t"),
        ("item_id:token", "n:float") if ending == "item" else ("item_id", "n"),
    )
    rows = [head, ("i1", "1"), ("nan", "nan"), ("null", "2"), ("", "3"), ("NA", "4")]
    path.write_text("".join(f"{sep.join(row)}\n" for row in rows))
    with pytest.warns(UserWarning, match="row 2: the id 'nan' in column 'item_id' is an id.*2 such rows"):
        found = read_file(path).to_pydict()
    assert found == {"item_id": ["i1", "nan", "null", None, "NA"], "n": [1, None, 2, 3, 4]}


@pytest.mark.parametrize("start", ["sep=;\n", "\ufeffsep=;\r\n", '"sep=;"\n'])
def test_a_first_line_of_excel_gives_the_delimiter(tmp_path: Path, start: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'{start}item_id;a,b\n1;"x;y"\n2;"u\nv"\n', encoding="utf-8", newline="")
    assert read_file(path).to_pydict() == {"item_id": [1, 2], "a,b": ["x;y", "u\nv"]}
    path.write_text(f"{start}item_id;a\n1;x\n2;y;z\n", encoding="utf-8", newline="")
    with pytest.raises(DataError, match="line 4 has 3 fields, expected 2"):
        read_file(path)
    path.write_text(start.rstrip() + "\n", encoding="utf-8", newline="")
    with pytest.raises(DataError, match="has no header line"):
        read_file(path)


def test_columns_of_mixed_values_are_left_out_by_name() -> None:
    mixed = {"mix": ["a", *range(11)], "thing": [object()] * 12, "long": [2**70, *range(11)]}
    for items in (ITEMS.assign(**mixed), ITEMS.to_dict("list") | mixed):
        with pytest.warns(UserWarning, match="items: column '(mix|thing)' is left out") as told:
            tables = read_tables({"interactions": EVENTS, "items": items})
        assert [str(warning.message) for warning in told] == [
            "items: column 'mix' is left out: values of several types (int, str)",
            "items: column 'thing' is left out: object values that no type of column holds",
        ]
        assert tables.items.column_names == [*ITEMS.columns, "long"]
        assert sorted(tables.left_out["items"]) == ["mix", "thing"]
        assert tables.items["long"][0].as_py() == str(2**70)
        found = load_dataset(tables, CONFIG, seed=0)
        assert found.summary["items_table"]["ignored"]["mix"] == "values of several types (int, str)"
    with pytest.warns(UserWarning, match="data: column 'note' is left out"):
        found = load_dataset(EVENTS.assign(note=["a", *range(len(EVENTS) - 1)]), CONFIG, seed=0)
    assert "note" in found.summary["ignored"]
    with pytest.raises(DataError, match="ids in column 'code' are values of several types"):
        read_tables(EVENTS.assign(code=["a", *range(len(EVENTS) - 1)]), ["code"])


@pytest.mark.parametrize("spelled", ["nan", "null", "NULL", "N/A"])
def test_an_id_that_spells_a_missing_value_is_told_of(tmp_path: Path, spelled: str) -> None:
    (tmp_path / "a.csv").write_text(f"item_id,n\n1,\n{spelled},{spelled}\n")
    with pytest.warns(UserWarning, match=f"row 2: the id '{spelled}' in column 'item_id' counts as missing"):
        assert read_file(tmp_path / "a.csv").to_pydict() == {"item_id": [1, None], "n": [None, None]}


def test_sequences_of_recbole(tmp_path: Path) -> None:
    header = " item_id : TOKEN\ttags:Token_Seq\tv:float_seq\tx:FLOAT\n"
    (tmp_path / "a.item").write_text(
        f"\ufeff{header}1\ta  b \t 1  2,3 ,4\t 5 \n2\t\t\t\n3\t  \t  \tnan\n4\tq\n", "utf-8"
    )
    assert read_file(tmp_path / "a.item").to_pydict() == {
        "item_id": [1, 2, 3, 4],
        "tags": [["a", "b"], None, None, ["q"]],
        "v": [[1, 2, 3, 4], None, None, None],
        "x": [5, None, None, None],
    }


def test_rows_longer_than_a_block_and_very_wide_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('item_id,text\n1,"' + "x, " * 600_000 + '"\n2,b\n')
    assert read_file(tmp_path / "a.csv")["text"].to_pylist() == ["x, " * 600_000, "b"]
    names = [f"c{place}" for place in range(20_000)]
    (tmp_path / "b.csv").write_text(f"item_id,{','.join(names)}\n1{',2' * 20_000}\n")
    assert read_file(tmp_path / "b.csv").num_columns == 20_001


def test_numbers_of_rows_are_no_features(tmp_path: Path) -> None:
    numbered = ITEMS.assign(**{"Unnamed: 0": range(12), "__index_level_0__": range(12), "index": range(12)})
    for items in (numbered, polars.from_pandas(numbered)):
        tables = read_tables({"interactions": EVENTS, "items": items})
        assert tables.items.column_names == list(ITEMS.columns)
        assert sorted(tables.left_out["items"]) == ["Unnamed: 0", "__index_level_0__", "index"]
        _same(_load(EVENTS, items))
    # An everyday word is kept where it does not number the rows, and so is what the caller names.
    kept = read_tables({"interactions": EVENTS, "items": ITEMS.assign(index=1)}, ["__index_level_0__"])
    assert kept.items.column_names == [*ITEMS.columns, "index"]


def test_text_beyond_32_bit_offsets_is_read() -> None:
    one = pa.array([f"{number}" + "u" * (1 << 20) for number in range(3)])
    column = pa.chunked_array([one] * 700)
    numbers = np.arange(2100)
    data = {"user_id": numbers % 7, "item_id": numbers % 5, "time": numbers, "note": column}
    table = table_of(pa.table(data), "data")
    assert table["note"].type == pa.large_string()
    assert table["note"].nbytes > 1 << 31
    found = _load(table, config=DataConfig(text_width=0, split_by="none", where="item_id>=1"))
    assert len(found.serving.items) == 2100 * 4 // 5


def test_kinds_of_names() -> None:
    assert kind_of(Path("A.CSV.GZ")) == ".csv.gz"
    assert kind_of(Path("a.xlsx")) is None
