"""``sparcode predict``: recommendations for many users into one Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .output import note

if TYPE_CHECKING:
    import pyarrow

UsersFile = Annotated[
    Path, typer.Option("--users", metavar="FILE", help="One user id a line, or Parquet.", show_default=False)
]
OutFile = Annotated[Path, typer.Option("--out", metavar="FILE.parquet", help="File to write.", show_default=False)]


def predict_command(
    run: options.RunFolder,
    users: UsersFile,
    out: OutFile,
    k: options.Count = options.DEFAULT_COUNT,
    where: options.ItemsWhere = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
) -> None:
    """Recommend items to many users, into a file.

    Rows: user_id, rank (from 0), item_id, score (null where popularity filled the place), filled.
    """
    rows = predict(run, options.read_ids(users), out, k, **options.item_filters(where, allow, deny))
    note(f"wrote {rows} rows to {out}")


def predict(run: Path, users: list[Any], out: Path, k: int, **filters: Any) -> int:
    """Answer ``users`` and write ``out`` atomically; returns the number of rows. ``filters``: where, allow, deny."""
    import pyarrow.parquet as parquet

    from sparcode.api import SparCode
    from sparcode.files import atomic_path, require_writable

    require_writable(out)
    model = SparCode.load(run)
    options.check_count(k, model.pipeline.item_count)
    table = prediction_table(users, *model.predict(users, k, **filters))
    with atomic_path(Path(out)) as temporary:
        parquet.write_table(table, temporary)
    return int(table.num_rows)


def prediction_table(users: list[Any], ids: Any, scores: Any) -> pyarrow.Table:
    """Return one row an answer; ``ids`` (B, k) objects, ``scores`` (B, k) float32, -inf where no item is left."""
    import numpy as np
    import pyarrow

    rows, ranks = np.nonzero(scores != -np.inf)
    values = scores[rows, ranks]
    filled = np.isnan(values)
    columns = {
        "user_id": pyarrow.array([users[row] for row in rows]),
        "rank": pyarrow.array(ranks, pyarrow.int32()),
        "item_id": pyarrow.array(ids[rows, ranks].tolist()),
        "score": pyarrow.array(values, pyarrow.float32(), mask=filled),
        "filled": pyarrow.array(filled),
    }
    return pyarrow.table(columns)
