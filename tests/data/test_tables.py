"""Every kind of DATA gives the same table; what cannot be read is said in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparcode.data.tables import Tables, read_tables
from sparcode.errors import DataError

ROWS = {"user_id": [1, 1, 2], "item_id": ["a", "b", "a"], "timestamp": [10, 20, 30]}
TEXT = "user_id,item_id,timestamp\n1,a,10\n1,b,20\n2,a,30\n"


def _contents(data: object) -> dict[str, list]:
    return read_tables(data).interactions.to_pydict()


def test_tables_in_memory() -> None:
    for data in (pa.table(ROWS), pandas.DataFrame(ROWS), polars.DataFrame(ROWS), ROWS, Tables(pa.table(ROWS))):
        assert _contents(data) == ROWS
    both = read_tables({"interactions": ROWS, "items": pandas.DataFrame({"item_id": ["a"]}), "users": None})
    assert both.items is not None
    assert both.users is None
    with pytest.raises(DataError, match="unknown table 'item'"):
        read_tables({"interactions": ROWS, "item": ROWS})
    with pytest.raises(DataError, match="cannot use a int as a table"):
        read_tables(3)


def test_files(tmp_path: Path) -> None:
    pq.write_table(pa.table(ROWS), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("\ufeff" + TEXT, encoding="utf-8")
    (tmp_path / "a.tsv").write_text(TEXT.replace(",", "\t"))
    (tmp_path / "semicolon.csv").write_text(TEXT.replace(",", ";"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    recbole = TEXT.replace(",", "\t").replace(
        "user_id\titem_id\ttimestamp", "user_id:token\titem_id:token\ttimestamp:float"
    )
    (tmp_path / "a.inter").write_text(recbole)
    for name in ("a.parquet", "a.csv", "a.tsv", "semicolon.csv", "a.csv.gz", "a.inter"):
        assert _contents(tmp_path / name) == ROWS, name


def test_text_ids_keep_their_spelling(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,code,n\n007,1,1e3,5\n8,2,0x1,\n")
    table = read_tables(path, ["code"]).interactions
    assert table.to_pydict() == {"user": ["007", "8"], "item": [1, 2], "code": ["1e3", "0x1"], "n": [5, None]}


def test_folder_with_metadata(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(TEXT)
    pq.write_table(pa.table({"item_id": ["a"], "title": ["A"]}), tmp_path / "items.parquet")
    (tmp_path / "notes.md").write_text("not a table")
    tables = read_tables(str(tmp_path))
    assert tables.items is not None
    assert tables.items.to_pydict() == {"item_id": ["a"], "title": ["A"]}
    assert tables.users is None
    assert tables.source == str(tmp_path)


def test_recbole_folder(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n1\ta\n")
    (tmp_path / "x.item").write_text(
        'item_id:token\ttitle:token_seq\tprice:float\tvector:float_seq\na\tThe "Thing" (1982)\t\t.5 1\n'
    )
    items = read_tables(tmp_path).items
    assert items is not None
    row = {"item_id": ["a"], "title": [["The", '"Thing"', "(1982)"]], "price": [None], "vector": [[0.5, 1.0]]}
    assert items.to_pydict() == row


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "user,item\n", "has no rows"),
        ("a.csv", "\n\n", "no header line"),
        ("a.csv", "user,item\n1,2,3\n", "line 2 has 3 fields, expected 2"),
        ("a.csv", "user,item\n1,\udcff\n", "line 2 is not UTF-8 .byte 0xff"),
        ("a.parquet", "nonsense", "is no Parquet file"),
        ("a.parquet", "PAR1nonsense", "cannot be read"),
        ("a.inter", "user_id\titem_id\n1\t2\n", "is not name:token"),
        ("a.inter", "user_id:token\tx:float\n1\tabc\n", "column 'x', row 1: 'abc' is no number"),
        ("a.xlsx", "x", "unknown kind of file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message) as caught:
        read_tables(path)
    assert "\n" not in str(caught.value)


def test_bad_folders_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARCODE_CACHE", str(tmp_path / "cache"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no interactions.*found: nothing"):
        read_tables(empty)
    (empty / "interactions.csv").write_text(TEXT)
    (empty / "interactions.tsv").write_text(TEXT)
    with pytest.raises(DataError, match=r"interactions\.csv and interactions\.tsv"):
        read_tables(empty)
    with pytest.raises(DataError, match="sparcode data fetch ml-100k"):
        read_tables("ml-100k")
    with pytest.raises(DataError, match="did you mean the set 'ml-100k'"):
        read_tables("ml100k")
    with pytest.raises(DataError, match="no such file, folder or fetched name"):
        read_tables(tmp_path / "nowhere.csv")
