"""Ids on the command line: ids of the run first, then quotes, then files; columns of files by name."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from sparcode import SparCode
from sparcode.data.ids import IdMap
from sparcode.data.synthetic import planted_groups
from sparcode.errors import DataError
from sparcode_cli.ids import ids_or_file, read_ids, split_ids
from sparcode_cli.main import app
from tests.worlds import TINY

if TYPE_CHECKING:
    from tests.conftest import TinyRun

ODD = [
    "news/5",
    "a,1",
    'say "x"',
    "-9",
    "@home",
    " lead",
    "trail ",
    "ids.txt",
    "naïve",
    "日本",
    "-",
    "a b",
    "b'c",
    "#1",
]
KNOWN = IdMap([*ODD, "5", "7"], kind="item")


@pytest.mark.parametrize("name", ODD)
def test_an_id_alone_is_an_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("5\n")
    assert split_ids(name, KNOWN, "--items") == [name]
    assert ids_or_file(name, KNOWN, "item", "--allow") == [name]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5,7", ["5", "7"]),
        (" 5 , 7 ,", ["5", "7"]),
        ("5\n7", ["5", "7"]),
        ("news/5,news/6", ["news/5", "news/6"]),
        ('"a,1",5', ["a,1", "5"]),
        ('5, "a,1"', ["5", "a,1"]),
        ('"say ""x""",7', ['say "x"', "7"]),
        ("-9,@home,日本", ["-9", "@home", "日本"]),
        ('" lead",trail ', [" lead", "trail "]),
        ("", []),
        (" , ", []),
        ("unknown", ["unknown"]),
    ],
)
def test_several_ids(text: str, wanted: list[str]) -> None:
    assert split_ids(text, KNOWN, "--items") == wanted


def test_quotes_are_closed_and_lists_hold_ids() -> None:
    with pytest.raises(typer.BadParameter, match="a quote is not closed"):
        split_ids('"a,1', KNOWN, "--items")
    with pytest.raises(typer.BadParameter, match="expected ids such as"):
        ids_or_file(" , ", KNOWN, "item", "--allow")


def test_files_come_after_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "5").write_text("7\n")
    (tmp_path / "list").write_text("7\n")
    assert ids_or_file("5", KNOWN, "item", "--allow") == ["5"]
    assert ids_or_file("list", KNOWN, "item", "--allow") == ["7"]
    for absent in ("no.txt", "some/where", "no.csv"):
        with pytest.raises(DataError, match="no such file, and no item of the run has this id"):
            ids_or_file(absent, KNOWN, "item", "--allow")
    assert ids_or_file("some/where", KNOWN, "item", "--deny", lenient=True) == ["some/where"]


TEXTS: dict[str, tuple[str, bytes, list[str]]] = {
    "lines": ("a.txt", b"u1\nu2\n", ["u1", "u2"]),
    "no line end": ("a.txt", b"u1\nu2", ["u1", "u2"]),
    "carriage returns": ("a.txt", b"user_id\r\nu1\r\nu2\r\n", ["u1", "u2"]),
    "byte order mark": ("a.txt", b"\xef\xbb\xbfu1\nu2\n", ["u1", "u2"]),
    "mark before a header": ("a.csv", b"\xef\xbb\xbfuser_id\nu1\n", ["u1"]),
    "blank lines": ("a", b"\nu1\n\n  u2 \n", ["u1", "u2"]),
    "commas in lines": ("a.txt", b"u,1\nu2\n", ["u,1", "u2"]),
    "strange line ends": ("a.txt", "u1\u2028x\nu2\x0cy\n".encode(), ["u1\u2028x", "u2\x0cy"]),
    "one column": ("a.csv", b"u1\nu2\n", ["u1", "u2"]),
    "one column, header": ("a.csv", b"userId\nu1\n", ["u1"]),
    "one column, other header kept": ("a.csv", b"name\nu1\n", ["name", "u1"]),
    "several columns": ("a.csv", b"age,user_id,name\n3,u1,x\n4,u2,y\n", ["u1", "u2"]),
    "quotes": ("a.csv", b'user_id,n\n"u,1",1\n"u""2",2\n"u\n3",3\n', ["u,1", 'u"2', "u\n3"]),
    "tabs": ("a.tsv", b"x\tuser\n1\tu1\n", ["u1"]),
    "short rows": ("a.csv", b"x,user\n1,u1\n2\n", ["u1"]),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_files(case: str, tmp_path: Path) -> None:
    name, content, wanted = TEXTS[case]
    (tmp_path / name).write_bytes(content)
    assert read_ids(tmp_path / name, "user") == wanted


def test_a_header_that_is_an_id_is_an_id(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("user\nu1\n")
    assert read_ids(tmp_path / "a.txt", "user", {"user", "u1"}) == ["user", "u1"]
    assert read_ids(tmp_path / "a.txt", "user", {"u1"}) == ["u1"]


BAD: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("a.txt", b"\n \n", "holds no id"),
    "UTF-16": ("a.txt", "u1\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "Latin-1": ("a.txt", b"\xe9\n", "is not UTF-8 text"),
    "no user column": ("a.csv", b"a,b\n1,2\n", "2 columns, none named user_id: a, b"),
    "two user columns": ("a.csv", b"user,uid\n1,2\n", "'user' and 'uid' both fit"),
    "open quote": ("a.csv", b'user_id\n"u1\n', "cannot be read as a list of ids"),
    "no Parquet": ("a.parquet", b"x", "cannot be read as a list of ids"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_no_list(case: str, tmp_path: Path) -> None:
    name, content, message = BAD[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_ids(tmp_path / name, "user")
    assert "\n" not in str(caught.value)


def test_columns_of_parquet(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"age": [1, 2], "user_id": [5, None]}), file)
    assert read_ids(file, "user") == [5]
    pq.write_table(pa.table({"anything": [5, 6]}), file)
    assert read_ids(file, "user") == [5, 6]
    pq.write_table(pa.table({"item_id": [1], "user_id": [2]}), file)
    assert (read_ids(file, "item"), read_ids(file, "user")) == ([1], [2])
    pq.write_table(pa.table({"a": [1], "b": [2]}), file)
    with pytest.raises(DataError, match="which column holds the users. no column fits"):
        read_ids(file, "user")
    pq.write_table(pa.table({"user": [1], "uid": [2]}), file)
    with pytest.raises(DataError, match="'user' and 'uid' both fit"):
        read_ids(file, "user")


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose items have names that a command line could take for something else; users are integers."""
    folder = tmp_path_factory.mktemp("odd") / "run"
    table = planted_groups(40, len(ODD) + 6, 4, 8).interactions.to_pandas()
    names = dict(enumerate([*ODD, *"abcdef"], 100))
    table["item_id"] = table["item_id"].map(names)
    table["user_id"] = table["user_id"].str[1:].astype(int)
    SparCode.train(table, folder, TINY | {"train.epochs": 1}, progress=False, baselines=False)
    return folder


def run(*arguments: object, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == 0, result.output
    return result


def test_every_id_can_be_named(odd_run: Path) -> None:
    for name in SparCode.load(odd_run).run.dataset.item_ids.external.to_pylist():
        assert run("similar", odd_run, "--item", name, "-k", 2).stderr.count("warning") == 0
        answers = json.loads(run("query", odd_run, "--items", name, "--include-seen", "--allow", name, "--json").stdout)
        assert [answer["item_id"] for answer in answers] == [name]
        assert run("explain", odd_run, "--items", name, "--item", name, "--json").stderr == ""


def test_ids_from_stdin(tiny_run: TinyRun) -> None:
    wanted = run("query", tiny_run.folder, "--items", "100,104", "--deny", "108", "--json").stdout
    assert run("query", tiny_run.folder, "--items", "-", "--deny", "108", "--json", stdin="100\n104\n").stdout == wanted
    assert run("query", tiny_run.folder, "--items", "100,104", "--deny", "-", "--json", stdin="108").stdout == wanted
    both = CliRunner().invoke(app, ["query", str(tiny_run.folder), "--user", "u000", "--allow", "-", "--deny", "-"])
    assert (both.exit_code, len(both.stderr.splitlines())) == (2, 1)


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of predictions, whatever its format."""
    content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    name = path.name.removesuffix(".gz")
    if name.endswith((".parquet", ".pq")):
        return pq.read_table(path).to_pylist()
    if name.endswith((".jsonl", ".ndjson")):
        return [json.loads(line) for line in content.decode().splitlines()]
    delimiter = "\t" if name.endswith(".tsv") else ","
    return pa.csv.read_csv(io.BytesIO(content), parse_options=pa.csv.ParseOptions(delimiter=delimiter)).to_pylist()


NAMES = ["p.parquet", "p.pq", "p.csv", "P.CSV", "p.csv.gz", "p.tsv", "p.tsv.gz", "p.jsonl", "p.jsonl.gz"]
NAMES += ["p.ndjson"]


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_what_the_name_promises(name: str, odd_run: Path, tmp_path: Path) -> None:
    users, out = tmp_path / "users.csv", tmp_path / name
    users.write_text("\ufeffcity,user_id\nParis,7\nRome,3\n", encoding="utf-8")
    run("predict", odd_run, "--users", users, "--out", out, "-k", 18)
    if name.upper() == name:
        out = out.rename(tmp_path / name.lower())
    rows = read_table(out)
    table = SparCode.load(odd_run).recommend_table(users=[7, 3], k=18)
    wanted = table.select(["rank", "item_id", "score", "filled"]).to_pylist()
    assert [row.pop("user_id") for row in rows] == [[7, 3][query] for query in table["query"].to_pylist()]
    assert [row.pop("score") for row in rows] == pytest.approx([row.pop("score") for row in wanted], nan_ok=True)
    assert rows == wanted


@pytest.mark.parametrize("name", ["p.xlsx", "p", "p.parquet.gz", "p.json", "p.txt", ".csv.bz2"])
def test_other_names_are_refused_before_any_work(name: str, tmp_path: Path) -> None:
    arguments = ["predict", str(tmp_path / "no run"), "--users", "no file", "--out", str(tmp_path / name)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "expected a name that ends with .parquet, .pq, .csv" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_predictions_from_and_to_a_pipe(odd_run: Path, tmp_path: Path) -> None:
    result = run("predict", odd_run, "--users", "-", "--out", "-", "-k", 2, stdin="7\n3\n")
    lines = result.stdout.splitlines()
    assert lines[0].replace('"', "") == "user_id,rank,item_id,score,filled"
    assert [line.split(",")[0] for line in lines[1:]] == ["7", "7", "3", "3"]


def test_pipes_are_files(odd_run: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"user_id\n7\n3\n")
    os.close(write)
    result = run("predict", odd_run, "--users", f"/dev/fd/{read}", "--out", tmp_path / "p.parquet", "-k", 1)
    os.close(read)
    assert "wrote 2 rows" in result.stderr
    read, write = os.pipe()
    os.write(write, b"news/5\n")
    os.close(write)
    answers = run("query", odd_run, "--items", "", "--allow", f"/dev/fd/{read}", "-k", 1, "--json").stdout
    os.close(read)
    assert [answer["item_id"] for answer in json.loads(answers)] == ["news/5"]
    refused = CliRunner().invoke(app, ["predict", str(odd_run), "--users", str(tmp_path), "--out", "p.csv"])
    assert (refused.exit_code, "is a folder" in refused.stderr) == (1, True)


def test_unknown_users_of_a_file(odd_run: Path, tmp_path: Path) -> None:
    users, out = tmp_path / "users.txt", tmp_path / "p.parquet"
    users.write_text("7\n900\n3\n")
    refused = CliRunner().invoke(app, ["predict", str(odd_run), "--users", str(users), "--out", str(out)])
    assert refused.exit_code == 1
    assert "unknown user '900'" in refused.stderr
    assert not out.exists()
    told = run("predict", odd_run, "--users", users, "--out", out, "-k", 3, "--unknown", "warn")
    assert "warning: users: 1 of 3 ids unknown, answered as users without history: '900'" in told.stderr
    table = pq.read_table(out)
    assert table["user_id"].type == pa.int64()
    assert table["user_id"].to_pylist() == [7] * 3 + [900] * 3 + [3] * 3
    users.write_text("7\nnobody\n")
    assert "warning" not in run("predict", odd_run, "--users", users, "--out", out, "--unknown", "ignore").stderr
    assert set(pq.read_table(out)["user_id"].to_pylist()) == {"7", "nobody"}


def test_histories_with_unknown_items_warn(tiny_run: TinyRun) -> None:
    result = run("query", tiny_run.folder, "--items", "100,gone,104", "--json")
    assert result.stderr.splitlines() == ["warning: histories: 1 of 3 ids unknown, left out: 'gone'"]
    assert result.stdout == run("query", tiny_run.folder, "--items", "100,104", "--json").stdout
    quiet = run("query", tiny_run.folder, "--items", "gone", "--unknown", "ignore", "-q", "--json")
    assert quiet.stderr == ""
    assert quiet.stdout == run("query", tiny_run.folder, "--items", "", "-q", "--json").stdout
    strict = CliRunner().invoke(app, ["query", str(tiny_run.folder), "--items", "gone", "--unknown", "raise"])
    assert strict.exit_code == 1
