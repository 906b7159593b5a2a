"""Every error a user can cause. The message is one line: what was found, what was expected, what to change.

The command line prints the message and exits with code 1; it never shows a traceback for these.
"""

from __future__ import annotations

from typing import Any

from sparcode.wording import worded


class SparcodeError(Exception):
    """Base class of all errors with a one-line message meant for the user.

    The message may name flags of the command line; ``str`` tells it in the words of its reader (``wording``).
    """

    def __str__(self) -> str:
        # An id or a name in a message may hold line ends; the message is one line all the same.
        return " ".join(worded(super().__str__()).splitlines())


class ConfigError(SparcodeError):
    """A configuration key or value is wrong."""


class DataError(SparcodeError):
    """The input data are missing, malformed or ambiguous."""


class RunError(SparcodeError):
    """A run folder is missing, incomplete, or would be overwritten."""


class UnknownIdError(SparcodeError):
    """A user or item id is not known to the run."""


class QueryError(SparcodeError):
    """A query asks for something that cannot be answered (bad k, empty query, features the model has not)."""


class CorruptIndexError(SparcodeError):
    """A stored file is truncated, altered, or inconsistent with its manifest."""


class IndexMismatchError(SparcodeError):
    """An index was built from another model than the one beside it."""


class BudgetError(SparcodeError):
    """An index budget cannot be met; the message names the smallest feasible one."""


class MissingExtraError(SparcodeError):
    """An optional dependency is not installed; the message holds the install line."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self._about = package, extra, purpose
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: pip install 'sparcode[{extra}]' (in a "
            f"clone: pip install '.[{extra}]')"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._about
