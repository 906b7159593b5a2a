from __future__ import annotations

import copy
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sparcode.errors import MissingExtraError
from sparcode.report.plots import plot_benchmark
from sparcode.report.tables import (
    benchmark_markdown,
    benchmark_rows,
    evaluation_markdown,
    evaluation_rows,
    markdown,
    markdown_text,
    rich_table,
)
from sparcode.wording import in_flags

TIMES = {"p50": 12.0, "p95": 30.5}
ROW = {
    "system": "sparcode",
    "metrics": {"recall@10": 0.25, "ndcg@10": 0.125, "recall@50": 0.5},
    "intervals": {"ndcg@10": [0.1, 0.15]},
    "index_recall": 0.987,
    "cache_bytes": 2_500_000,
    "rescoring_bytes": 1_000_000,
    "encoder_bytes": 500_000,
    "build_s": None,
    "latency_us": {"encode": TIMES, "retrieve": TIMES, "rescore": TIMES, "total": TIMES},
    "batch_qps": 12345.6,
}
GRAPH = ROW | {"system": "two-tower-hnswlib", "ef": 48, "operating_points": ["index_recall@10>=0.99"], "build_s": 1.5}
GRAPH |= {"not_reached": ["index_recall@10>=0.99"]}
BENCHMARK = {
    "machine": {"cpu": "a cpu", "cores": 2, "python": "3.11"},
    "commit": None,
    "settings": {"k": 10, "timed_users": 1000, "rounds": 3},
    "rows": [ROW, GRAPH],
    "curves": {"hnswlib": [{"ef": 10, "index_recall": 0.9}, {"ef": 48, "index_recall": 0.99}]},
    "warnings": ["faiss is missing"],
}
EVALUATION = {
    "split": "test",
    "results": [
        {"retriever": "popular", "metrics": {"recall@10": 0.1, "ndcg@10": 0.05}, "queries": 1234, "repeats": 7},
        {"retriever": "all-to-all", "metrics": {}, "queries": 5, "note": "5 of 9 users"},
    ],
}


def test_evaluation_table() -> None:
    text = evaluation_markdown(EVALUATION)
    header, rule, first, second, *_ = text.splitlines()
    assert header.startswith("| retriever | recall@10 | ndcg@10 |")
    assert rule.count("|") == header.count("|") == first.count("|") == second.count("|")
    assert "| popular | 0.1000 | 0.0500 | - |" in first
    assert "1,234" in first
    assert "- all-to-all: 5 of 9 users" in text
    assert "7 held-out items already stand in their history" in text


def test_benchmark_table() -> None:
    text = benchmark_markdown(BENCHMARK)
    assert "| sparcode | 0.2500 | 0.1250 [0.1000, 0.1500] | 0.987 | 2.50 | 1.00 | 0.50 | - | 12 |" in text
    assert "12 / 30" in text
    assert "two-tower-hnswlib (ef 48): smallest ef for index_recall@10>=0.99" in text
    assert "did not reach" in text
    assert "commit unknown" in text
    assert "- faiss is missing" in text


def test_repeats_and_stages_are_stated() -> None:
    seen = {"repeats": 30, "targets": 120}
    result = EVALUATION["results"][0] | seen
    text = evaluation_markdown(EVALUATION | {"results": [result]})
    assert "30 of 120 held-out items (25 %) are already in the history of their query and count as misses" in text
    assert "include_seen=True ranks them" in text
    with in_flags():
        assert "--include-seen ranks them" in evaluation_markdown(EVALUATION | {"results": [result]})
    ranked = evaluation_markdown(EVALUATION | {"results": [result | {"include_seen": True}]})
    assert "count as misses" not in ranked
    text = benchmark_markdown(BENCHMARK | {"rows": [ROW | seen]})
    assert "30 of 120 held-out items (25 %)" in text
    assert "so stages may sum to more" in text
    whole = ROW | {"latency_us": {**ROW["latency_us"], "total": {"p50": 36.0, "p95": 40.0}}}
    assert "sum to more" not in benchmark_markdown(BENCHMARK | {"rows": [whole]})


def test_bars_in_cells_are_escaped() -> None:
    assert "a\\|b" in markdown((["x"], [["a|b"]]))


@pytest.mark.parametrize("rows", [evaluation_rows(EVALUATION), benchmark_rows(BENCHMARK)])
def test_terminal_table_holds_every_cell(rows: tuple[list[str], list[list[str]]]) -> None:
    stream = io.StringIO()
    Console(file=stream, width=300).print(rich_table(rows, "title"))
    assert all(cell in stream.getvalue() for cells in rows[1] for cell in cells)


def test_plots_are_png_files(tmp_path: Path) -> None:
    before = copy.deepcopy(BENCHMARK)
    paths = plot_benchmark(BENCHMARK, tmp_path / "report", stem="own")
    assert [path.name for path in paths] == ["own-quality-latency.png", "own-bytes.png", "own-recall-ef.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n") for path in paths)
    assert sorted((tmp_path / "report").iterdir()) == sorted(paths)
    assert before == BENCHMARK


def test_no_curve_no_curve_plot(tmp_path: Path) -> None:
    assert len(plot_benchmark(BENCHMARK | {"curves": {}}, tmp_path)) == 2


def test_missing_matplotlib_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"sparcode\[report\]"):
        plot_benchmark(BENCHMARK, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("a\nb\r\u2028c", "a b  c"),
        ("\x1b[31mred\x07", "?[31mred?"),
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("<!-- x", "&lt;!-- x"),
        ("&lt; &#60; & b", "&amp;lt; &amp;#60; & b"),
        ("![x](http://a)", "![x]\\(http://a)"),
        ("0.1 [0.05, 0.15] <= 3 < 4 >= 5 a_b*", "0.1 [0.05, 0.15] <= 3 < 4 >= 5 a_b*"),
    ],
    ids=["pipe", "backslash", "lines", "escape", "tag", "comment", "entity", "link", "plain"],
)
def test_names_stay_names_in_markdown(text: str, shown: str) -> None:
    assert markdown_text(text) == shown
    table = markdown(([text, "n"], [[text, "1"], ["x", text]]))
    assert table.splitlines() == [f"| {shown} | n |", "|---|---:|", f"| {shown} | 1 |", f"| x | {shown} |"]
    notes = evaluation_markdown(EVALUATION | {"results": [EVALUATION["results"][1] | {"note": text}]})
    assert f"- all-to-all: {shown}\n" in notes


def test_a_benchmark_of_repeats_says_so() -> None:
    text = benchmark_markdown(BENCHMARK | {"rows": [ROW | {"include_seen": True, "repeats": 3}]})
    assert "quality ranks items of the history too" in text
    assert "count as misses" not in text
