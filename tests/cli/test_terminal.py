"""What ids, titles and column names may hold, and what a terminal gets of it."""

from __future__ import annotations

import datetime
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode_cli.errors import complain, warn
from sparcode_cli.output import note, plain, print_json, print_pairs, print_table, say
from sparcode_cli.terminal import aligned, json_text, printable, width

HOSTILE = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\nb", "a\rb", "a\tb", "\x00", "\x7f", "\u202eabc", "\u2066x",
    "\u200b", "\u200d", "\ufeff", "\ud800", "\u2028", "\x85", "\x0b", "\x0c", "\x08", "\ue000",
]  # fmt: skip


def test_text_that_is_fine_stays() -> None:
    for text in ("plain", "naïve café", "日本語", "🎬 film", "a  b", "“quotes” – dash"):
        assert printable(text) == text


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_reaches_the_terminal_raw(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(text).isprintable()
    print_table((f"h{text}", "n"), [(text, 1), ("x", 2)])
    print_pairs({f"k{text}": text, "list": [text, {text: text}], f"s{text}": {text: text}})
    for write in (say, note, complain, warn):
        write(text)
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).split("\n")
    assert all(line.isprintable() for line in lines)
    assert captured.out.count("\n") == 3 + 4 + 1
    assert captured.err.count("\n") == 3


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_stays_json_and_printable(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({text: [text]})
    out = capsys.readouterr().out
    assert out[:-1].isprintable()
    assert json.loads(out) == {text: [text]}
    assert json.loads(json_text({"a": text}, ascii_only=True)) == {"a": text}
    assert json_text("é日🎬") == '"é日🎬"'


def test_columns_line_up_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert [width(text) for text in ("abc", "日本", "🎬", "é", "e\u0301", "")] == [3, 4, 2, 1, 1, 0]
    assert aligned("日", 4) == "日  "
    assert aligned("日", 4, right=True) == "  日"
    print_table(("title", "n"), [("日本", 1), ("abc", 22), ("e\u0301", 3)])
    assert [width(line) for line in capsys.readouterr().out.splitlines()] == [9, 9, 9, 9]


def test_library_notes_and_warnings_are_cleaned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    from sparcode_cli.errors import _show_warning
    from sparcode_cli.output import show_library_notes

    monkeypatch.setattr(logging.getLogger("sparcode"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("sparcode"), "level", logging.NOTSET)
    show_library_notes()
    logging.getLogger("sparcode").info("columns: %s", "\x1b[31mu\nv")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.warn("\x1b]0;x\x07 column", stacklevel=1)
    captured = capsys.readouterr().err
    assert captured == "columns: ?[31mu v\nwarning: ?]0;x? column\n"


def test_json_of_everything_there_is() -> None:
    given = {
        "d": datetime.date(2026, 1, 2), "t": datetime.datetime(2026, 1, 2, 3), "n": np.datetime64("2026-01-02"),
        "f": np.float32("inf"), "b": np.bool_(True), "s": {1}, "p": pa.scalar(3), "a": pa.array([1, None]),
        "o": Path("x"), "none": None, "i": np.int64(2**40), "y": b"x",
    }  # fmt: skip
    assert plain(given) == {
        "d": "2026-01-02", "t": "2026-01-02T03:00:00", "n": "2026-01-02", "f": None, "b": True, "s": [1], "p": 3,
        "a": [1, None], "o": "x", "none": None, "i": 2**40, "y": "b'x'",
    }  # fmt: skip


def test_only_two_files_write_to_the_terminal() -> None:
    folder = Path(__file__).parents[2] / "cli"
    writers = {path.name for path in folder.glob("*.py") if "typer.echo" in path.read_text(encoding="utf-8")}
    assert writers == {"output.py", "errors.py"}
