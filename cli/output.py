"""Human text and pure JSON. Results go to stdout; progress, notes and warnings go to stderr."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer


def note(message: str) -> None:
    """Write one line to stderr."""
    typer.echo(message, err=True)


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


def print_json(content: Any) -> None:
    """Write ``content`` to stdout as JSON; NaN and infinities become null."""
    typer.echo(json.dumps(plain(content), ensure_ascii=False, allow_nan=False))


def plain(content: Any) -> Any:
    """Return ``content`` made of dict, list, str, int, float, bool and None only."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    if hasattr(content, "tolist"):  # numpy scalars and arrays, without importing numpy
        return plain(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return str(content) if isinstance(content, Path) else content


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write aligned columns: numbers to the right, text to the left, nothing for None."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [_is_numeric(column) for column in zip(*cells, strict=True)] or [False] * len(headers)
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for row in [list(headers), *cells]:
        line = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        )
        typer.echo("  ".join(line).rstrip())


def print_pairs(content: dict[str, Any], indent: int = 0) -> None:
    """Write a nested dictionary as aligned ``key  value`` lines, sections indented."""
    content = {key: value for key, value in content.items() if value != {}}
    scalars = {key: value for key, value in content.items() if not isinstance(value, dict)}
    width = max(map(len, scalars), default=0)
    for key, value in content.items():
        if isinstance(value, dict):
            typer.echo(" " * indent + str(key))
            print_pairs(value, indent + 2)
        else:
            typer.echo(" " * indent + f"{key:<{width}}  {_line(value)}".rstrip())


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
