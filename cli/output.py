"""Human text and pure JSON. Results go to stdout; progress, notes and warnings go to stderr."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from .terminal import aligned, json_text, printable, width

STDOUT = "-"
"""The file name that means stdout, or stdin where something is read."""

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Leave out notes and progress, or not; results, warnings and errors are written either way."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Tell whether notes and progress are left out."""
    return _quiet


def say(line: str) -> None:
    """Write one line to stdout."""
    typer.echo(printable(line))


def say_lines(text: str) -> None:
    """Write a text of several lines to stdout."""
    for line in text.splitlines():
        say(line)


def note(message: str) -> None:
    """Write one line to stderr, unless the command is to be quiet."""
    if not _quiet:
        with suppress(OSError):  # a result is not lost because nobody can be told of it
            typer.echo(printable(message), err=True)


class Notes(logging.Handler):
    """Writes what the library logs to stderr as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        note(self.format(record))


def show_library_notes() -> None:
    """Let the library's log reach stderr, once however often it is called."""
    logger = logging.getLogger("sparcode")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, Notes) for handler in logger.handlers):
        logger.addHandler(Notes())


def in_json(content: Any, target: str | None) -> bool:
    """Write a result as ``--json`` asks; True if it went to stdout, so that no text is due there.

    ``target``: None (not asked for), ``-`` (stdout), or a file, beside which the text is printed as ever.
    """
    if target is None:
        return False
    if target == STDOUT:
        print_json(content)
        return True
    from sparcode.files import write_json

    write_json(Path(target), plain(content))
    note(f"wrote {target}")
    return False


def print_json(content: Any) -> None:
    """Write ``content`` to stdout as JSON; NaN and infinities become null."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    typer.echo(json_text(plain(content), ascii_only=not encoding.startswith("utf")))


def plain(content: Any) -> Any:
    """Return ``content`` made of dict, list, str, int, float, bool and None only."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple, set, frozenset)):
        return [plain(value) for value in content]
    if isinstance(content, (datetime.date, datetime.time)):
        return content.isoformat()
    for method in ("tolist", "as_py", "to_pylist"):  # of numpy and pyarrow, without importing them
        if hasattr(content, method):
            return plain(getattr(content, method)())
    if isinstance(content, float):
        return float(content) if math.isfinite(content) else None
    return content if content is None or isinstance(content, (str, int)) else str(content)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write aligned columns: numbers to the right, text to the left, nothing for None."""
    cells = [[printable(_cell(value)) for value in row] for row in rows]
    headers = [printable(header) for header in headers]
    numeric = [_is_numeric(column) for column in zip(*cells, strict=True)] or [False] * len(headers)
    widths = [max(map(width, column)) for column in zip(headers, *cells, strict=True)]
    for row in [list(headers), *cells]:
        say("  ".join(map(aligned, row, widths, numeric)).rstrip())


def print_pairs(content: dict[str, Any], indent: int = 0) -> None:
    """Write a nested dictionary as aligned ``key  value`` lines, sections indented."""
    content = {key: value for key, value in content.items() if value != {}}
    scalars = {key: value for key, value in content.items() if not isinstance(value, dict)}
    columns = max((width(printable(str(key))) for key in scalars), default=0)
    for key, value in content.items():
        if isinstance(value, dict):
            say(" " * indent + str(key))
            print_pairs(value, indent + 2)
        else:
            say(" " * indent + f"{aligned(printable(str(key)), columns)}  {_line(value)}".rstrip())


def _line(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_line, value))
    if isinstance(value, dict):
        return " ".join(map(_line, value.values()))
    return _cell(value) or "-"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_numeric(column: Iterable[str]) -> bool:
    filled = [text for text in column if text]
    return bool(filled) and all(_is_number(text) for text in filled)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
