"""What a user sees when something goes wrong: one line and an exit code, a traceback only on request.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from sparcode.errors import MissingExtraError, SparcodeError

INTERRUPTED = 130


def complain(message: str) -> None:
    """Write ``error: message`` to stderr as one line."""
    typer.echo("error: " + " ".join(message.split()), err=True)


def warn(message: str) -> None:
    """Write ``warning: message`` to stderr as one line."""
    typer.echo("warning: " + " ".join(message.split()), err=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code; SPARCODE_DEBUG=1 lets them through."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted: earlier results are untouched", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader (head, less) left; the interpreter must not complain while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as problem:
        if os.environ.get("SPARCODE_DEBUG") == "1":
            raise
        complain(_describe(problem))
        raise typer.Exit(1) from None


@contextmanager
def training_extra() -> Iterator[None]:
    """Turn a missing package of the extra ``train``, on import, into MissingExtraError."""
    try:
        yield
    except ModuleNotFoundError as problem:
        if problem.name not in {"torch", "scipy"}:
            raise
        raise MissingExtraError(problem.name, "train", "training") from None


def _describe(problem: Exception) -> str:
    if isinstance(problem, (SparcodeError, OSError)):
        return str(problem)
    return f"unexpected {type(problem).__name__}: {problem} (set SPARCODE_DEBUG=1 for the traceback)"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    warn(str(message))


class Commands(TyperGroup):
    """The root group: every command runs under ``one_line_errors``, library warnings become one line."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the chosen command."""
        with warnings.catch_warnings(), one_line_errors():
            warnings.showwarning = _show_warning
            return super().invoke(ctx)
