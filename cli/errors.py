"""What a user sees when something goes wrong: one line and an exit code, a traceback only on request.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from sparcode.errors import MissingExtraError, SparcodeError
from sparcode.wording import in_flags

from .output import set_quiet
from .terminal import printable

WRONG_USAGE = 2
INTERRUPTED = 130


def complain(message: str) -> None:
    """Write ``error: message`` to stderr as one line."""
    typer.echo("error: " + _one_line(message), err=True)


def warn(message: str) -> None:
    """Write ``warning: message`` to stderr as one line."""
    typer.echo("warning: " + _one_line(message), err=True)


def _one_line(message: str) -> str:
    # A damaged file may put anything into a message; the terminal gets printable characters only.
    return printable(" ".join(message.split()))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code; SPARCODE_DEBUG=1 lets them through."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except typer.TyperException as problem:
        raise _usage_exit(problem) from None
    except KeyboardInterrupt as stop:  # a command that knows better says what is left
        typer.echo(f"interrupted: {stop or 'earlier results are untouched'}", err=True)
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


def _usage_exit(problem: typer.TyperException) -> Exception:
    """Write a usage error as one line and return the exit; help that was asked for passes unchanged."""
    context = getattr(problem, "ctx", None)
    if getattr(problem, "exit_code", 0) != WRONG_USAGE or type(problem).__name__ == "NoArgsIsHelpError":
        return problem
    hint = f" (see: {context.command_path} --help)" if context is not None else ""
    message = problem.format_message().replace("Value error, ", "")  # type: ignore[attr-defined]
    complain(f"{message}{hint}")
    return typer.Exit(WRONG_USAGE)


def _describe(problem: Exception) -> str:
    if isinstance(problem, SparcodeError):
        return str(problem)
    if isinstance(problem, OSError):
        return _describe_file_error(problem)
    if isinstance(problem, UnicodeEncodeError) and "surrogates" in problem.reason:
        return f"{ascii(problem.object)}: a name that is not UTF-8; rename the file or its folder"
    return f"unexpected {type(problem).__name__}: {problem} (set SPARCODE_DEBUG=1 for the traceback)"


def _describe_file_error(problem: OSError) -> str:
    if problem.errno is None or problem.strerror is None:
        return str(problem)
    advice = {
        errno.EBADF: "; it is closed",
        errno.ENOSPC: "; free some space and repeat the command",
        errno.EDQUOT: "; free some space and repeat the command",
        errno.EACCES: "; choose a place you may write to, or change its permissions",
        errno.EPERM: "; choose a place you may write to, or change its permissions",
        errno.EROFS: "; choose a place you may write to",
        errno.EISDIR: "; give the name of a file",
        errno.EEXIST: "; a part of this path is a file, choose another one",
        errno.ENOTDIR: "; a part of this path is a file, choose another one",
    }
    return f"{problem.filename or 'a stream'}: {problem.strerror}{advice.get(problem.errno, '')}"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    warn(str(message))


class Commands(TyperGroup):
    """The root group: every command runs under ``one_line_errors``, library warnings become one line."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the options that stand before the command."""
        set_quiet(False)  # of an earlier command of this process
        with in_flags(), one_line_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the chosen command."""
        with warnings.catch_warnings(), in_flags(), one_line_errors():
            warnings.showwarning = _show_warning
            return super().invoke(ctx)
