"""Text that is safe to show and lines up: whatever ids, titles and column names hold, a terminal gets letters only."""

from __future__ import annotations

import json
import unicodedata


def printable(text: str) -> str:
    """Return text for one line of a terminal: blanks of any kind become spaces, what is no letter becomes ``?``.

    That is control characters (escape sequences begin with one), line ends, marks that turn the direction of writing,
    characters without width, halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def width(text: str) -> int:
    """Return how many columns printable text takes: 2 for wide letters and emoji, 0 for marks on the letter before."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def aligned(text: str, columns: int, right: bool = False) -> str:
    """Return text padded with spaces to a number of columns."""
    blanks = " " * max(0, columns - width(text))
    return blanks + text if right else text + blanks


def json_text(content: object, ascii_only: bool = False) -> str:
    """Return JSON in one line; what a terminal would not show as a letter is escaped, so the content stays the same."""
    text = json.dumps(content, ensure_ascii=ascii_only, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
