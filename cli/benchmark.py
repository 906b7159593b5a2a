"""``sparcode benchmark``: quality, bytes and latency beside two-tower search, of a run or of worlds of given sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import STDOUT, in_json, note, print_table

RunFolder = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Folder written by `sparcode train`; not with --scale.")
]
Scale = Annotated[
    str | None,
    typer.Option("--scale", metavar="N,N,...", help="Planted worlds of so many items, against engines on vectors."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="With --scale: worlds, runs, cells, tables and plots.")
]
Interaction = Annotated[
    float, typer.Option("--interaction", metavar="X", min=0, max=1, help="With --scale: 0 dot product, 1 interaction.")
]


def benchmark_command(
    run: RunFolder = None, json: options.Json = None, scale: Scale = None, out: Out = None,
    interaction: Interaction = 0.5, seed: options.Seed = None,
) -> None:  # fmt: skip
    """Compare quality, bytes and latency.

    SparCode beside two-tower search, exact and HNSW; the table is printed and saved as JSON, Markdown and PNG.
    With --scale no run is needed: worlds of the given sizes are drawn, a model is trained on a sample of users, and
    every engine that is installed is built, tuned and timed. What is finished is kept, so a stopped benchmark goes on.
    """
    if scale is not None:
        if run is not None or json is not None or out is None:
            raise typer.BadParameter("--scale needs --out DIR and takes neither RUN nor --json")
        from sparcode.scale.benchmark import run_scale_benchmark, sizes_of

        run_scale_benchmark(sizes_of(scale), out, interaction=interaction, seed=seed or 0, report=note)
        return
    if run is None:
        raise typer.BadParameter("give RUN, or --scale N,N,... and --out DIR")
    from sparcode.report.tables import benchmark_notes, benchmark_rows
    from sparcode.retrievers.evaluation import benchmark_run

    # The file is written with table and plots beside it; without one they go to RUN/report.
    file = None if json in (None, STDOUT) else json
    document = benchmark_run(run, json=file, progress=note)
    if file is not None or not in_json(document, json):
        print_table(*benchmark_rows(document))
    for line in benchmark_notes(document):
        note(line)
