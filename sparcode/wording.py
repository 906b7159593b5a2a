"""Messages in the words of whoever reads them: the command line has flags, Python has arguments.

Messages are written once, with the flags of the command line (``--overwrite``). A command without flags (``sparcode
build-index RUN``) is the same advice to everybody. Errors of ``sparcode.errors`` are told in Python's words
(``overwrite=True``) unless the command line asks for its own; other texts that name a flag go through ``worded``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

FLAGS = frozenset({
    "allow", "behaviour", "column", "columns", "config", "cuts", "deny", "device", "features", "histories", "items",
    "k-core", "like", "min-rating", "minutes", "out", "policy", "recipe", "scale", "seed", "split", "split-by",
    "system", "text-columns", "text-model", "time-cut", "trials", "unknown", "where",
})  # fmt: skip
"""Flags that take a value, and are an argument of the same name in Python."""
SWITCHES = {
    "overwrite": "overwrite=True",
    "resume": "resume=True",
    "no-baselines": "baselines=False",
    "include-seen": "include_seen=True",
    "verify": "verify=True",
    "append": "append()",
}
"""Flags without a value."""
_WORD = r"[^\s;,:()]+"
_COMMANDS = [
    (re.compile(rf"sparcode train \.\.\. --out ({_WORD}) --resume"), "SparCode.train(..., out={0!r}, resume=True)"),
    (re.compile(rf"sparcode train \.\.\. --out ({_WORD})"), "SparCode.train(..., out={0!r})"),
    (re.compile("sparcode embed --recipe"), "sparcode.semantic_id.recipe.Recipe.save"),
]
_SET = re.compile(rf"--set ([\w.]+)=({_WORD})")
_COLUMN = re.compile(rf"--columns (\w+)=({_WORD})")
_SPLIT = re.compile(r"--(split(?:-by)?) ([a-z][a-z-]+)")
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w-])( (?=['\d]|None\b))?")

_flags = False


def worded(message: str) -> str:
    """Return a message that names flags in the words of the reader."""
    return message if _flags else in_python(message)


def warn(message: str, category: type[Warning] = UserWarning, stacklevel: int = 2) -> None:
    """Warn in the words of the reader; ``stacklevel`` as of ``warnings.warn`` where this is called."""
    warnings.warn(worded(message), category, stacklevel=stacklevel + 1)


@contextmanager
def in_flags() -> Iterator[None]:
    """Leave messages in the words of the command line."""
    global _flags
    earlier, _flags = _flags, True
    try:
        yield
    finally:
        _flags = earlier


def in_python(message: str) -> str:
    """Return a message with flags as arguments, and commands that have some as calls."""
    for pattern, call in _COMMANDS:
        message = pattern.sub(lambda found, call=call: call.format(*found.groups()), message)  # type: ignore[misc]
    message = _SET.sub(lambda found: f"config={{{found[1]!r}: {_literal(found[2])}}}", message)
    message = _COLUMN.sub(lambda found: f"columns={{{found[1]!r}: {found[2]!r}}}", message)
    message = _SPLIT.sub(lambda found: f"{found[1].replace('-', '_')}={found[2]!r}", message)
    return _FLAG.sub(_argument, message)


def _argument(found: re.Match[str]) -> str:
    name, value = found[1], found[2] is not None
    if name in SWITCHES:
        return SWITCHES[name] + (found[2] or "")
    if name not in FLAGS:
        return found[0]
    # "--where: no column" is about an argument, "write --where" asks for one.
    about = found.string[found.end() :].startswith(":") and not value
    return name.replace("-", "_") + ("" if about else "=")


def _literal(text: str) -> str:
    return {"true": "True", "false": "False"}.get(text, text)
