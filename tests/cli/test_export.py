"""``sparcode export``: a file beside its item ids, text and JSON, one line where it cannot."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from sparcode_cli.main import app


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_file_is_written_and_described(tiny_run, tmp_path) -> None:
    pytest.importorskip("onnx")
    out = tmp_path / "tokenizer.onnx"
    summary = json.loads(run("export", tiny_run.folder, "--out", out, "--json").stdout)
    assert summary["bytes"] == out.stat().st_size
    assert summary["kind"] == "sasrec"
    assert len(json.loads((tmp_path / "tokenizer.onnx.items.json").read_text(encoding="utf-8"))) == 60
    text = run("export", tiny_run.folder, "--format", "onnx", "--out", out)
    assert text.exit_code == 0, text.output
    assert "difference to the served encoder" in text.stdout


def test_an_earlier_export_is_replaced_by_a_whole_one_or_stays(tiny_run, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnx")
    out, ids = tmp_path / "tokenizer.onnx", tmp_path / "tokenizer.onnx.items.json"
    out.write_text("earlier")
    ids.write_text("earlier")
    for part in ("tokenizer_graph", "_plain_ids"):
        with monkeypatch.context() as broken:
            broken.setattr(f"sparcode.train.export_onnx.{part}", lambda *_: 1 / 0)
            assert run("export", tiny_run.folder, "--out", out).exit_code == 1
        assert out.read_text() == ids.read_text() == "earlier"
    assert run("export", tiny_run.folder, "--out", out).exit_code == 0
    assert out.stat().st_size > 1000
    assert len(json.loads(ids.read_text(encoding="utf-8"))) == 60
    assert len(list(tmp_path.iterdir())) == 2


def test_names_that_cannot_be_replaced_are_refused_before_any_work(tiny_run, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr("sparcode.train.export_onnx.tokenizer_graph", lambda *_: 1 / 0)
    (tmp_path / "x.onnx.items.json").mkdir()
    for out, words in ((tmp_path / "x.onnx", "x.onnx.items.json"), (tmp_path / "x.bin", "ends in .onnx")):
        result = run("export", tiny_run.folder, "--out", out)
        assert result.exit_code == 1
        assert words in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx.items.json"]


def test_without_onnx_the_extra_is_named(tiny_run, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("export", tiny_run.folder, "--out", tmp_path / "x.onnx")
    assert result.exit_code == 1
    assert "pip install 'sparcode[export]'" in result.output
    assert not list(tmp_path.iterdir())
