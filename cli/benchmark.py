"""``sparcode benchmark``: quality, bytes and latency beside two-tower search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import note, print_table

JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="JSON file, table and plots beside it.  [default: RUN/report/benchmark.json]"
    ),
]


def benchmark_command(run: options.RunFolder, json: JsonFile = None) -> None:
    """Compare quality, bytes and latency.

    SparCode beside two-tower search, exact and HNSW; the table is printed and saved as JSON, Markdown and PNG.
    """
    from sparcode.eval.machine import pin_environment

    pin_environment()  # before numpy is imported: every system is measured on one thread
    from sparcode.eval.run import benchmark_run
    from sparcode.report.tables import benchmark_rows

    print_table(*benchmark_rows(benchmark_run(run, json=json, progress=note)))
