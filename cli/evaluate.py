"""``sparcode evaluate``: quality on held-out items, for every retriever of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options
from .output import in_json, note, print_table

Split = Annotated[Literal["test", "validation"], typer.Option("--split", help="Which held-out items.")]
Retrievers = Annotated[
    list[str] | None,
    typer.Option(
        "--retriever",
        metavar="NAME",
        help="May be repeated; absent: all of the run but the costly controls ease, content-knn, two-tower+counts and "
        "two-tower+counts+additive.",
    ),
]
PerQuery = Annotated[
    Path | None,
    typer.Option("--per-query", metavar="FILE.parquet", help="Write target, rank and top 50 of each query."),
]
IncludeSeen = Annotated[
    bool | None,
    typer.Option(
        "--include-seen/--leave-out-seen",
        help="Rank items of the history too (repeats); default: as trained (query.include_seen).",
    ),
]


def evaluate_command(
    run: options.RunFolder,
    split: Split = "test",
    retriever: Retrievers = None,
    json: options.Json = None,
    per_query: PerQuery = None,
    include_seen: IncludeSeen = None,
    threads: options.Threads = None,
) -> None:
    """Measure quality on held-out items.

    recall, NDCG, precision, hit rate, MRR and coverage, ranking the whole catalogue for every user.
    """
    from sparcode.report.tables import evaluation_notes, evaluation_rows
    from sparcode.retrievers.evaluation import evaluate_run
    from sparcode.threads import limited

    if per_query is not None:
        options.require_ending(per_query, (".parquet", ".pq"), "--per-query")
    with limited(threads):
        document = evaluate_run(
            run, split=split, retrievers=retriever or None, per_query=per_query, include_seen=include_seen
        )
    if not in_json(document, json):
        print_table(*evaluation_rows(document))
    for line in evaluation_notes(document):
        note(line)
