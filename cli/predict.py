"""``sparcode predict``: recommendations for many users into one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .ids import read_ids, require_list
from .output import STDOUT, in_json, note
from .query import item_filters, open_run
from .table_files import require_table_kind, write_tables

UsersFile = Annotated[
    str,
    typer.Option(
        "--users",
        metavar="FILE",
        help="One user id a line, or CSV or Parquet with a column of users; - for stdin.",
        show_default=False,
    ),
]
OutFile = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="FILE",
        help="*.parquet, *.csv, *.tsv or *.jsonl (text also *.gz) to write; - for CSV on stdout.",
        show_default=False,
    ),
]


def predict_command(
    run: options.RunFolder,
    users: UsersFile,
    out: OutFile,
    k: options.Count = options.DEFAULT_COUNT,
    where: options.ItemsWhere = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    unknown: options.Unknown = None,
    threads: options.Threads = None,
    json: options.Json = None,
) -> None:
    """Recommend items to many users, into a file.

    Rows: user_id, rank (from 0), item_id, score (null where popularity filled the place), filled.
    """
    if json == STDOUT and str(out) == STDOUT:
        raise typer.BadParameter("both --json and --out ask for stdout: give one of them a file")
    filters = {"where": where, "allow": allow, "deny": deny, "unknown": unknown}
    summary = predict(run, users, out, k, threads=threads, **filters)
    if not in_json(summary, json):
        note(f"wrote {summary['rows']} rows to {'stdout' if str(out) == STDOUT else out}")


def predict(run: Path, users: str, out: Path, k: int, *, threads: int | None = None, **filters: Any) -> dict[str, Any]:
    """Answer the users of a file and write ``out``, whole or not at all; returns what was written.

    ``filters``: where, allow, deny, unknown, as texts of the command line.
    """
    from sparcode.files import require_writable

    kind = require_table_kind(out, "--out")
    if str(out) != STDOUT:
        require_writable(out)
    require_list(users)
    model = open_run(run)
    options.check_count(k, model.pipeline.item_count)
    given = read_ids(users, "user", model.run.dataset.user_ids)
    tables = model.predict_tables(given, k, threads=threads, **item_filters(model, **filters))
    return {"rows": write_tables(tables, out, kind), "users": len(given), "out": str(out)}
