"""benchmarks/encoding.py with few repeats: all rows are measured, once, and checked against plain answers."""

from __future__ import annotations

import pytest


def test_rows_and_table(script, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = script("encoding")
    out = tmp_path / "encoding.json"
    monkeypatch.setattr(encoding, "TOKENIZERS", (("sasrec", 1, 1), ("dnn", 1, 1)))
    arguments = ["--repeats", "6", "--codewords", "256", "--out", str(out)]
    rows = encoding.main(arguments).asked
    assert [row["config"]["row"] for row in rows] == ["tokens"] * 4 + ["quantize"] + ["flat"] * 6
    assert 0 < rows[4]["kernel"]["p50"] <= rows[4]["call"]["p95"]
    assert "| tokens of state |" in out.with_suffix(".md").read_text(encoding="utf-8")
    monkeypatch.setattr(encoding, "timed", lambda *_: pytest.fail("measured twice"))
    assert len(encoding.main(arguments).asked) == len(rows)


def test_item_vectors_of_a_run(script, tiny_run, tmp_path) -> None:
    benchmark, out = script("item_vectors"), tmp_path / "items.json"
    row = benchmark.main([str(tiny_run.folder), "--queries", "50", "--out", str(out)]).asked[0]
    sizes = [row[kind]["rescoring_bytes"] for kind in ("float32", "float16", "int8")]
    assert sizes == sorted(sizes, reverse=True)
    assert row["float32"]["overlap@10"] == 1
    assert row["int8"]["overlap@10"] > 0.9
    assert "| int8 |" in out.with_suffix(".md").read_text(encoding="utf-8")
