"""``sparcode sid``: from embeddings to SIDs, to files, and back; one line where it cannot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from sparcode_cli.main import app
from tests.semantic_id.worlds import planted

if TYPE_CHECKING:
    from tests.conftest import TinyRun

pytest.importorskip("sparcode.semantic_id.embeddings")
ITEMS = planted(60)
TINY = ["--set", "codebooks=3", "--set", "codebook_size=8"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["sid", *map(str, arguments)])


def done(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object, code: int = 1) -> str:
    result = invoke(*arguments)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert (result.exit_code, result.stdout, len(lines)) == (code, "", 1), result.output
    assert "unexpected" not in lines[0]
    return lines[0]


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    np.save(tmp_path / "e.npy", ITEMS.vectors)
    return tmp_path / "e.npy"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"item_id": range(60), "categories": ITEMS.categories}), tmp_path / "items.parquet")
    return tmp_path / "items.parquet"


@pytest.fixture
def sid(embeddings: Path, table: Path, tmp_path: Path) -> Path:
    done("fit", embeddings, "--method", "category-prefix", "--items", table, "--out", tmp_path / "sid", *TINY)
    return tmp_path / "sid"


def test_fit_describes_what_it_made(embeddings: Path, tmp_path: Path) -> None:
    text = done("fit", embeddings, "--method", "random", "--out", tmp_path / "s", *TINY, "--set", "collisions=none")
    assert "8 x 8 x 8" in text
    content = json.loads(done("fit", embeddings, "--method", "random", "--out", tmp_path / "s", *TINY, "--json"))
    assert (content["items"], content["collision_rate"], content["sizes"]) == (60, 0, [8, 8, 8, 16])
    assert json.loads(done("info", tmp_path / "s", "--json")) == content
    other = json.loads(done("fit", embeddings, "--method", "random", "--out", tmp_path / "t", "--seed", 7, "--json"))
    assert other["settings"]["seed"] == 7


def test_quality_beside_the_vectors(sid: Path, embeddings: Path) -> None:
    content = json.loads(done("info", sid, "--embeddings", embeddings, "--json"))
    assert 0 < content["quality"]["explained"] < 1
    assert content["quality"]["neighbours"]["by_distance"] > 0.2
    assert "by_distance" in done("info", sid, "--embeddings", embeddings)


def test_look_ups(sid: Path) -> None:
    found = json.loads(done("info", sid, "--item", "7", "--json"))
    assert json.loads(done("info", sid, "--sid", found["sid"], "--json"))["items"] == [7]
    under = json.loads(done("info", sid, "--sid", found["sid"].split("-")[0], "--json"))["items"]
    assert 7 in under
    assert "unknown item '99'" in refused("info", sid, "--item", "99")
    assert "out of range" in refused("info", sid, "--sid", "99-0")
    assert "12-7-255" in refused("info", sid, "--sid", "x", code=2)


@pytest.mark.parametrize("name", ["m.parquet", "m.json", "arrays"])
def test_encode_then_decode(name: str, sid: Path, embeddings: Path, tmp_path: Path) -> None:
    assert invoke("encode", sid, embeddings, "--out", tmp_path / name).exit_code == 0
    done("decode", sid, tmp_path / name, "--out", tmp_path / "d.npy")
    found = np.load(tmp_path / "d.npy")
    assert found.shape == (60, 16)
    assert ((found - ITEMS.vectors) ** 2).mean() < ITEMS.vectors.var(axis=0).mean()
    np.save(tmp_path / "codes.npy", np.zeros((2, 3), int))
    done("decode", sid, tmp_path / "codes.npy", "--out", tmp_path / "d.npy")
    assert np.load(tmp_path / "d.npy").shape == (2, 16)


def test_new_items_are_kept_when_asked(sid: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "more.npy", np.concatenate([ITEMS.vectors, ITEMS.vectors[:2]]))
    result = invoke("encode", sid, tmp_path / "more.npy", "--out", tmp_path / "m.parquet")
    assert "60 known items, 2 new ones" in result.stderr
    assert json.loads(done("info", sid, "--json"))["items"] == 60
    invoke("encode", sid, tmp_path / "more.npy", "--out", tmp_path / "n.parquet", "--append")
    assert json.loads(done("info", sid, "--json"))["items"] == 62
    assert pq.read_table(tmp_path / "m.parquet").equals(pq.read_table(tmp_path / "n.parquet"))


@pytest.mark.parametrize(("format", "name"), [("parquet", "x"), ("json", "x"), ("npy", "x"), ("llm", "x")])
def test_export(format: str, name: str, sid: Path, tmp_path: Path) -> None:
    result = invoke("export", sid, "--format", format, "--out", tmp_path / name)
    assert result.exit_code == 0, result.output
    assert "60 lines" in result.stderr
    assert (tmp_path / name).exists()


@pytest.mark.parametrize(("format", "name"), [("parquet", "x.parquet"), ("json", "x.json"), ("npy", "x"), ("llm", "x")])
def test_an_earlier_export_is_replaced(format: str, name: str, sid: Path, embeddings: Path, tmp_path: Path) -> None:
    done("fit", embeddings, "--method", "random", "--out", tmp_path / "other", *TINY)
    contents = []
    for source in (tmp_path / "other", sid):
        done("export", source, "--format", format, "--out", tmp_path / name)
        done("export", source, "--format", format, "--out", tmp_path / "fresh" / source.name / name)
        files = [
            sorted(path.rglob("*")) or [path] for path in (tmp_path / name, tmp_path / "fresh" / source.name / name)
        ]
        assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
        contents.append([path.read_bytes() for path in files[0]])
    assert contents[0] != contents[1]


def test_an_export_replaces_nothing_else(sid: Path, embeddings: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ids.npy").write_bytes(b"mine")
    (tmp_path / "mine" / "thesis.tex").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for format in ("npy", "llm"):
        assert "holds '" in refused("export", sid, "--format", format, "--out", tmp_path / "mine")
        assert "holds 'codec-" in refused("export", sid, "--format", format, "--out", sid)
        assert "is a file" in refused("export", sid, "--format", format, "--out", embeddings)
        assert "without ending" in refused("export", sid, "--format", format, "--out", tmp_path / "y.json")
    for format in ("parquet", "json"):
        assert "end with ." in refused("export", sid, "--format", format, "--out", embeddings)
        assert "directory" in refused("export", sid, "--format", format, "--out", tmp_path / "mine").lower()
    assert "end with .parquet" in refused("export", sid, "--out", tmp_path / "y.json")
    assert "end with .json" in refused("export", sid, "--format", "json", "--out", tmp_path / "y.parquet")
    assert "'thesis.tex'" in refused("encode", sid, embeddings, "--out", tmp_path / "mine")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_histories_of_an_earlier_export_go(sid: Path, tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    for name in ("histories.jsonl", "validation.jsonl", "test.jsonl", "items.jsonl"):
        (tmp_path / "llm" / name).write_text("earlier")
    done("export", sid, "--format", "llm", "--out", tmp_path / "llm")
    assert sorted(path.name for path in (tmp_path / "llm").iterdir()) == ["added_tokens.json", "items.jsonl"]
    assert "earlier" not in (tmp_path / "llm" / "items.jsonl").read_text()


def test_histories_of_a_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", ITEMS.vectors)
    np.save(tmp_path / "e.ids.npy", np.arange(100, 160))
    sid = tmp_path / "sid"
    done("fit", tmp_path / "e.npy", "--method", "random", "--out", sid, *TINY, "--histories", tiny_run.folder)
    result = invoke("export", sid, "--format", "llm", "--out", tmp_path / "llm", "--histories", tiny_run.folder)
    assert result.exit_code == 0, result.output
    assert "histories.jsonl (120 lines)" in result.stderr
    assert "--format llm only" in refused("export", sid, "--out", tmp_path / "x", "--histories", "y", code=2)


def test_what_is_refused(sid: Path, embeddings: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "new"]
    assert "no tokenizer found" in refused("info", tmp_path)
    assert "did you mean 'rq-kmeans'" in refused("fit", embeddings, "--method", "rqkmeans", *out)
    assert "KEY=VALUE" in refused("fit", embeddings, "--set", "codebooks", *out, code=2)
    assert "--method" in refused("fit", embeddings, "--set", "method=pq", *out, code=2)
    assert "cooks" in refused("fit", embeddings, "--method", "random", "--set", "cooks=1", *out)
    assert "no such file" in refused("fit", tmp_path / "absent.npy", *out).lower()
    assert "no categories" in refused("fit", embeddings, "--method", "category-prefix", *TINY, *out)
    assert "holds no tokenizer" in refused("fit", embeddings, "--method", "random", "--out", tmp_path)
    assert ".npy" in refused("decode", sid, embeddings, "--out", tmp_path / "x.txt", code=2)
    assert "shape (60, 16)" in refused("decode", sid, embeddings, "--out", tmp_path / "x.npy")
    assert ".parquet, .json" in refused("encode", sid, embeddings, "--out", tmp_path / "x.csv")
    assert not (tmp_path / "new").exists()


def test_options_that_change_nothing_are_told(embeddings: Path, table: Path, tmp_path: Path) -> None:
    base = ["fit", embeddings, "--method", "random", "--out", tmp_path / "s", *TINY]
    assert "random reads no categories: --items" in invoke(*base, "--items", table).stderr
    assert "--device" in refused(*base, "--set", "device=gpu", code=2)
    result = invoke(*base)
    assert "warning" not in result.stderr
    for line in json.loads(done("info", tmp_path / "s", "--json"))["notes"]:
        assert result.output.count(line) == 1


def test_new_items_of_one_vector(sid: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", np.repeat(ITEMS.vectors[:1] + 0.1, 2, axis=0))
    (tmp_path / "new.ids.txt").write_text("100\n101\n")
    done("encode", sid, tmp_path / "new.npy", "--out", tmp_path / "m.parquet", "--append")
    table = pq.read_table(tmp_path / "m.parquet")
    assert len(set(table["code_str"].to_pylist())) == 2


def test_sids_are_kept_before_they_are_written(sid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

    np.save(tmp_path / "new.npy", ITEMS.vectors[:2] + 0.1)
    (tmp_path / "new.ids.txt").write_text("100\n101\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "sid")

    monkeypatch.setattr(SemanticIdTokenizer, "save", full)
    refused("encode", sid, tmp_path / "new.npy", "--out", tmp_path / "m.parquet", "--append")
    assert not (tmp_path / "m.parquet").exists()


def test_quality_asks_one_thing_at_a_time(sid: Path, embeddings: Path, tmp_path: Path) -> None:
    assert "or the quality" in refused("info", sid, "--item", "1", "--sid", "1", code=2)
    lists = ITEMS.vectors.tolist()
    pq.write_table(pa.table({"item_id": range(60), "a": lists, "b": lists}), tmp_path / "two.parquet")
    assert "--column" in refused("info", sid, "--embeddings", tmp_path / "two.parquet")
    assert "quality" in done("info", sid, "--embeddings", tmp_path / "two.parquet", "--column", "b")
    np.save(tmp_path / "narrow.npy", ITEMS.vectors[:, :3])
    assert "3 wide, the tokenizer takes 16" in refused("info", sid, "--embeddings", tmp_path / "narrow.npy")


def test_an_export_never_replaces_a_pipe_or_device(sid: Path, embeddings: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for format in ("parquet", "json", "npy", "llm"):
        assert "is a device or pipe" in refused("export", sid, "--format", format, "--out", pipe)
    assert "is a device or pipe" in refused("encode", sid, embeddings, "--out", pipe)
    assert pipe.is_fifo()


def test_quality_beside_categories_and_histories(sid: Path, table: Path, tmp_path: Path) -> None:
    events = {"user_id": [row // 6 for row in range(60)], "item_id": list(range(60)), "timestamp": list(range(60))}
    pq.write_table(pa.table(events), tmp_path / "events.parquet")
    given = ["--items", table, "--histories", tmp_path / "events.parquet"]
    found = json.loads(done("info", sid, *given, "--json"))["quality"]
    assert found["purity"]["lift"][0] > 1  # the leading digit is a level of the category
    assert len(found["co_purchase"]["share"]) == 3
    assert "purity" in done("info", sid, "--items", table)
    assert "or the quality" in refused("info", sid, "--item", "1", "--items", table, code=2)


def test_files_that_are_not_there(sid: Path, embeddings: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    fit = ["fit", embeddings, "--method", "category-prefix", "--out", tmp_path / "new", *TINY]
    assert f"{absent}: no such file; expected a table of items" in refused(*fit, "--items", absent)
    assert "expected a .npy array" in refused("decode", sid, tmp_path / "absent.npy", "--out", tmp_path / "x.npy")


def test_sids_of_another_tokenizer(sid: Path, embeddings: Path, tmp_path: Path) -> None:
    done("fit", embeddings, "--method", "random", "--out", tmp_path / "other", *TINY)
    invoke("export", tmp_path / "other", "--out", tmp_path / "m.parquet")
    assert "made by the random tokenizer" in refused("decode", sid, tmp_path / "m.parquet", "--out", tmp_path / "x.npy")
