"""Tables in several files: parts of Spark, Hive, pandas and by hand; differences between parts are told."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparcode.data.tables import read_tables
from sparcode.errors import DataError

FRAME = pandas.DataFrame(
    {"user_id": [1, 1, 2, 3], "item_id": ["a", "b", "a", "c"], "day": ["2020-01-01"] * 3 + ["2020-02-01"]}
)
ROWS = FRAME.to_dict("list")
Change = Callable[[pandas.DataFrame], pandas.DataFrame]


def _write(folder: Path, ending: str, name: str = "part-0000{}-c000{}", second: Change = lambda frame: frame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (low, high) in enumerate(((0, 2), (2, 3), (3, 4))):
        part = FRAME[low:high] if number != 1 else second(FRAME[low:high])
        path = folder / name.format(number, ending)
        if ending.endswith("parquet"):
            part.to_parquet(path, index=False)
        else:
            part.to_csv(path, index=False, sep="\t" if "tsv" in ending else ",")
    return folder


def _read(path: Path) -> tuple[dict[str, list], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read_tables(path).interactions
    return {
        name: [str(v) if name == "day" and v else v for v in table[name].to_pylist()] for name in table.column_names
    }, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("ending", [".parquet", ".snappy.parquet", ".csv", ".csv.gz", ".tsv"])
@pytest.mark.parametrize("inside", ["", "interactions", "interactions.parquet", "Interactions.csv"])
def test_folders_of_parts(tmp_path: Path, ending: str, inside: str) -> None:
    folder = _write(tmp_path / "set" / inside, ending)
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000.crc").write_bytes(b"x")
    (folder / "part-00009-empty.csv").touch()
    for path in (tmp_path / "set", folder):
        assert _read(path) == (ROWS, [])
    assert _read(str(folder)) == (ROWS, [])


@pytest.mark.parametrize("name", ["interactions-0000{}-of-00003{}", "interactions_{}{}", "interactions.part-{}{}"])
def test_numbered_files_beside_others(tmp_path: Path, name: str) -> None:
    _write(tmp_path, ".csv", name)
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    tables = read_tables(tmp_path)
    assert tables.interactions.num_rows == 4
    assert tables.items.to_pydict() == {"item_id": ["a"], "title": ["A"]}


def test_parts_of_items_and_tables_in_a_mapping(tmp_path: Path) -> None:
    _write(tmp_path / "a", ".parquet")
    _write(tmp_path / "items", ".csv", second=lambda frame: frame)
    tables = read_tables({"interactions": tmp_path / "a", "items": str(tmp_path / "items")})
    assert (tables.interactions.num_rows, tables.items.num_rows) == (4, 4)


def test_folders_of_hive_are_columns(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(FRAME.assign(day=["2020-01-01", "a/b c", None, "x"]), preserve_index=False)
    for root, keys in ((tmp_path / "one", ["day"]), (tmp_path / "two" / "interactions", ["user_id", "day"])):
        pq.write_to_dataset(table, root, partition_cols=keys)
        found = read_tables(root.parent if root.name == "interactions" else root).interactions.to_pandas()
        found = found[list(FRAME.columns)].sort_values(["user_id", "item_id"]).to_dict("list")
        assert (found["user_id"], found["item_id"]) == (ROWS["user_id"], ROWS["item_id"])
        assert [None if day != day else day for day in found["day"]] == ["2020-01-01", "a/b c", None, "x"]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("second", "values"),
    [
        (lambda frame: frame.assign(user_id="u7"), ["1", "1", "u7", "3"]),
        (lambda frame: frame.astype({"user_id": "int16"}), [1, 1, 2, 3]),
        (lambda frame: frame[["item_id", "day", "user_id"]], [1, 1, 2, 3]),
    ],
)
def test_types_that_fit_are_joined(tmp_path: Path, ending: str, second: Change, values: list) -> None:
    found, told = _read(_write(tmp_path, ending, second=second))
    assert (found["user_id"], told) == (values, [])


def test_dates_and_moments_are_joined(tmp_path: Path) -> None:
    found, told = _read(_write(tmp_path, ".csv", second=lambda frame: frame.assign(day="2020-01-01 10:00:00")))
    assert (found["day"][2], told) == ("2020-01-01 10:00:00", [])


def test_what_differs_is_told_with_file_and_column(tmp_path: Path) -> None:
    found, told = _read(_write(tmp_path / "a", ".csv", second=lambda frame: frame.rename(columns={"day": "date"})))
    assert found["day"][2] is None
    assert any("part-00001-c000.csv has no column 'day'" in text for text in told)
    with pytest.raises(DataError, match="part-00001-c000.csv: column 'day' holds large_string"):
        _read(_write(tmp_path / "b", ".csv", second=lambda frame: frame.assign(day="soon")))
    numbered = _write(tmp_path / "n", ".csv")
    for number, value in enumerate(("7", "x", "8")):
        (numbered / f"part-0000{number}-c000.csv").write_text(f"user_id,item_id,n\n1,2,{value}\n")
    found, told = _read(numbered)
    assert found["n"] == ["7", "x", "8"]
    assert len(told) == 1
    assert "part-00001-c000.csv: column 'n' holds large_string, and in part-00000-c000.csv it holds int64" in told[0]
    with pytest.raises(DataError, match=r"part-00001-c000.parquet: column 'day' holds .*part-00000.* holds"):
        _read(_write(tmp_path / "c", ".parquet", second=lambda frame: frame.assign(day=[[1]])))
    folder = _write(tmp_path / "d", ".csv")
    (folder / "part-00001-c000.csv").write_text("2,a,2020-01-01\n")
    with pytest.raises(DataError, match="part-00001-c000.csv has the columns 2, a.*every part needs the same header"):
        _read(folder)
    (folder / "part-00001-c000.csv").write_text("user_id,item_id,day\n2,a,2020-01-01,x\n")
    with pytest.raises(DataError, match="part-00001-c000.csv, line 2 has 4 fields"):
        _read(folder)


def test_folders_that_are_no_table(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a", ".parquet")
    _write(folder, ".csv")
    with pytest.raises(DataError, match=r"holds parts of several kinds \(.csv, .parquet\)"):
        _read(folder)
    _write(tmp_path / "b", ".csv", "fold_{}{}")
    with pytest.raises(DataError, match="parts of one table belong into a folder .*b/interactions"):
        _read(tmp_path / "b")
    (tmp_path / "e" / "interactions").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no interactions.parquet"):
        _read(tmp_path / "e")
    both = _write(tmp_path / "f" / "interactions", ".csv").parent
    (both / "interactions.csv").write_text("user_id,item_id\n1,2\n")
    with pytest.raises(DataError, match="interactions and interactions.csv: keep one"):
        _read(both)
