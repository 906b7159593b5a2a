"""Quotes in tables of text: whether they enclose fields, as a whole file says, and what is said when it does not."""

from __future__ import annotations

import csv
import gzip
import io
import warnings
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.data.tables import read_file
from sparcode.errors import DataError

HEADER = ("item_id", "title", "cat")


def _text(rows: list[tuple], delimiter: str) -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [HEADER, *rows])


def _read(path: Path, content: str) -> tuple[list, list[str]]:
    """Return the titles and the warnings."""
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read_file(path)
    assert table.column_names == list(HEADER)
    return table["title"].to_pylist(), [str(each.message) for each in caught]


@pytest.mark.parametrize(("name", "delimiter"), [("a.tsv", "\t"), ("a.txt", "\t"), ("a.tsv.gz", "\t"), ("a.csv", "|")])
@pytest.mark.parametrize(
    "titles",
    [
        ['"Weird" one', '"Unclosed', "plain", 'Twelve "'],
        ['"Heroes"', "plain", "x", '""Great"" y'],
        ['"', '""x', 'x""', 'a"b"c'],
        ["plain", "x", "last", '"never closed'],
    ],
)
def test_quotes_of_a_tsv_are_characters(tmp_path: Path, name: str, delimiter: str, titles: list[str]) -> None:
    rows = [(number, title, "abc"[number % 3]) for number, title in enumerate(titles)]
    assert _read(tmp_path / name, _text(rows, delimiter)) == (titles, [])


@pytest.mark.parametrize(
    "titles",
    [
        ["x\ty", "plain"],
        ['say "hi"', "plain"],
        ["l1\nl2", "plain"],
        ['"all"', "b"],
        ['a\tb\n"c"', "\n", "d", 'Twelve "'],
    ],
)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_what_pandas_quotes_in_a_tsv_is_read_back(tmp_path: Path, titles: list[str], quoting: int) -> None:
    rows = [(number, title, "a") for number, title in enumerate(titles)]
    content = pandas.DataFrame(rows, columns=HEADER).to_csv(sep="\t", index=False, quoting=quoting)
    assert _read(tmp_path / "a.tsv", content)[0] == titles


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.sampled_from('ab"\t\n, ;'), min_size=1, max_size=6), min_size=1, max_size=6))
def test_whatever_a_csv_writer_wrote_is_read_back(tmp_path_factory: pytest.TempPathFactory, titles: list[str]) -> None:
    rows = [(number, f"{title}.", "x") for number, title in enumerate(titles)]
    for name, delimiter in (("a.csv", ","), ("b.csv", ";"), ("a.tsv", "\t")):
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=delimiter, lineterminator="\n").writerows([HEADER, *rows])
        found, told = _read(tmp_path_factory.getbasetemp() / name, buffer.getvalue())
        # Lines that are rows by themselves inside of a field cannot be told from an open quote, but never in silence.
        wanted = [row[1] for row in rows]
        assert found == wanted or told
        if delimiter != "\t" and not any("\n" in title for title in wanted):
            assert found == wanted


def test_an_ambiguous_tsv_is_told_of(tmp_path: Path) -> None:
    open_and_closed = ['"Unclosed', "plain", 'Twelve "', "last"]
    titles, told = _read(tmp_path / "a.tsv", _text([(n, title, "x") for n, title in enumerate(open_and_closed)], "\t"))
    assert titles == open_and_closed
    assert "they are taken as characters" in told[0]
    titles, told = _read(
        tmp_path / "a.tsv", _text([(1, '"say ""x"""', "a"), (2, '"Heroes"', "b"), (3, "x", "c")], "\t")
    )
    assert titles == ['"say ""x"""', '"Heroes"', "x"]
    assert len(told) == 1
    assert "they are taken as characters" in told[0]


def test_an_open_quote_in_csv_does_not_swallow_rows(tmp_path: Path) -> None:
    rows = [(1, '"Unclosed', "a"), (2, "x", "b"), (3, 'Twelve "', "c")]
    titles, told = _read(tmp_path / "a.csv", _text(rows, ","))
    assert titles == ['"Unclosed', "x", 'Twelve "']
    assert "line 2: a quote opens here" in told[0]
    titles, told = _read(tmp_path / "a.csv", _text(rows[:2], ","))
    assert titles == ['"Unclosed', "x"]
    titles, told = _read(tmp_path / "a.csv", _text([(0, '"a, b"', "q"), *rows], ","))
    assert titles == ["a, b", "Unclosed,a\n2,x,b\n3,Twelve "]
    assert "lines 3 to 5 are read as one row" in told[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, '"a, b"', "c"), (2, '"open', "d"), (3, "x", "e")], "line 3: a quote opens a field that never ends"),
        ([(1, '"a, b"', "c"), (2, '"open', "d"), (3, '"x, y"', "e")], "line 3: .* ends in line 4, in the middle"),
        ([(1, "x", "c"), (2, "y", "d", "e")], "line 3 has 4 fields, expected 3 .*item_id, title, cat.*2,y,d,e"),
        ([(1, "x", "c"), (2, '"y\n,z"', "d", "e")], "line 3 has 4 fields"),
        ([(1, "x", "c"), (2,)], "line 3 has 1 fields"),
    ],
)
def test_what_cannot_be_read_names_the_line(tmp_path: Path, rows: list[tuple], message: str) -> None:
    (tmp_path / "a.csv").write_text(_text(rows, ","))
    with pytest.raises(DataError, match=message) as caught:
        read_file(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


def test_lines_inside_of_quotes_and_blank_lines_are_fine(tmp_path: Path) -> None:
    content = _text([(1, '"l1\nl2, with comma"', "a"), ("\n2", '"l1\n\nl2"', "b"), (3, '"Weird" one', "c")], ",")
    assert _read(tmp_path / "a.csv", content) == (["l1\nl2, with comma", "l1\n\nl2", "Weird one"], [])


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 2])
def test_a_quote_at_the_border_of_two_blocks_is_seen(
    tmp_path: Path, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparcode.data.text_kinds._BLOCK", 64)
    start = "item_id,title,cat\n1,"
    rest = ',x\n2,"a, b",y\n3,c,z\n'
    filler = "t" * (64 + offset - len(start) - rest.index('"'))
    assert _read(tmp_path / "a.csv", start + filler + rest) == ([filler, "a, b", "c"], [])


def test_quotes_that_begin_no_field_are_characters(tmp_path: Path) -> None:
    titles = ['5" disk', 'a"b', 'end"']
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        rows = [(place, title, "x") for place, title in enumerate(titles)]
        assert _read(tmp_path / name, _text(rows, delimiter)) == (titles, [])
