"""The ``sparcode`` command: the list of commands and nothing else."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from . import config, data, sid
from .benchmark import benchmark_command
from .build_index import build_index_command
from .command import Commands as App
from .command import Quiet
from .embed import embed_command
from .errors import Commands
from .evaluate import evaluate_command
from .explain import explain_command
from .export import export_command
from .info import info_command
from .output import say, show_library_notes
from .predict import predict_command
from .query import query_command
from .similar import similar_command
from .train import train_command
from .tune import tune_command
from .warmup import warmup_command

# Rich help is off: it costs more time than everything else in `sparcode --help`.
app = App(
    name="sparcode",
    cls=Commands,
    help="Recommendations from a learned sparse index: train, build the index, query, evaluate, benchmark.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(sid.app, name="sid")
app.add_typer(config.app, name="config")
app.command("train")(train_command)
app.command("embed")(embed_command)
app.command("tune")(tune_command)
app.command("build-index")(build_index_command)
app.command("query")(query_command)
app.command("predict")(predict_command)
app.command("similar")(similar_command)
app.command("explain")(explain_command)
app.command("info")(info_command)
app.command("warmup")(warmup_command)
app.command("export")(export_command)
app.command("evaluate")(evaluate_command)
app.command("benchmark")(benchmark_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from sparcode import __version__

        say(f"sparcode {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Recommendations from a learned sparse index: train, build the index, query, evaluate, benchmark."""
    show_library_notes()


def _open_closed_streams() -> None:
    """Give streams that the caller closed (``>&-``) descriptors of which every use fails; those of stderr are ignored.

    Otherwise the next file that is opened would get number 1, and an answer that goes nowhere would pass unnoticed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None or os.name == "nt":
            continue
        # Opened the other way round, as coreutils do: reading fails, or writing does.
        descriptor = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_WRONLY)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        raw = io.FileIO(number, "r" if name == "stdin" else "w", closefd=False)
        whole = io.BufferedReader(raw) if name == "stdin" else raw  # what could not be written is not tried again
        setattr(sys, name, io.TextIOWrapper(whole, encoding="utf-8", write_through=True))  # type: ignore[type-var]


def run() -> None:
    """Entry point of the console script."""
    from sparcode.threads import set_environment_defaults

    set_environment_defaults()  # no numeric library is loaded yet
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a title must not end a command where the terminal lacks its letters
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="sparcode")
