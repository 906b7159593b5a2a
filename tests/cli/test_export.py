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


def test_without_onnx_the_extra_is_named(tiny_run, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("export", tiny_run.folder, "--out", tmp_path / "x.onnx")
    assert result.exit_code == 1
    assert "pip install 'sparcode[export]'" in result.output
    assert not list(tmp_path.iterdir())
