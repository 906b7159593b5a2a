"""Histories and categories of items, joined to a list of item ids: from a run, from DATA, from a table of items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.columns import find_id_column
from sparcode.data.ids import IdMap, as_id_array
from sparcode.errors import DataError
from sparcode.types import EvaluationSet, Sequences


@dataclass(frozen=True)
class Histories:
    """Training histories whose items are rows of a list of ids; items that are not listed are left out.

    ``users``: external ids, one a row of ``train``. ``held_out``: ``validation`` and ``test`` where the data have
    them, in the internal ids of the data; ``rows``: internal id -> row of the list, -1 where it is not listed.
    """

    users: IdMap
    train: Sequences
    held_out: dict[str, EvaluationSet]
    rows: np.ndarray
    titles: list[str | None] | None

    def of_train(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield user and history of everyone whose training history holds a listed item."""
        for user, name in enumerate(self.users.external.to_pylist()):
            items = self.train.row(user)
            if len(items):
                yield name, items

    def of_held_out(self, split: str) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """Yield user, history before the target, and targets; queries without a listed target are left out."""
        held = self.held_out[split]
        names = self.users.to_external(held.users)
        for number, name in enumerate(names):
            history, targets = self.rows[held.queries.history(number)], self.rows[held.targets(number)]
            if (targets >= 0).any():
                yield name, history[history >= 0], targets[targets >= 0]


def read_histories(source: str | Path, ids: pa.Array) -> Histories:
    """Read a run folder, or DATA (split leave-last-out), and join it to item ids (n,).

    Raises DataError when no event is of a listed item, and what ``Run.open`` and ``load_dataset`` raise.
    """
    dataset = _dataset(source)
    rows = IdMap(ids, kind="item").join(dataset.item_ids.external)
    train = mapped_sequences(dataset.train, rows)
    if not len(train.items):
        raise DataError(f"{source}: no training event is of an item that has an embedding; are these the same ids?")
    held = {"validation": dataset.validation, "test": dataset.test}
    titles: list[str | None] | None = None
    if dataset.titles is not None:
        titles = [None] * len(ids)
        for title, row in zip(dataset.titles, rows.tolist(), strict=True):
            if row >= 0:
                titles[row] = title
    found = {name: part for name, part in held.items() if part is not None}
    return Histories(dataset.user_ids, train, found, rows, titles)


def mapped_sequences(sequences: Sequences, rows: np.ndarray) -> Sequences:
    """Return the sequences with items renumbered by ``rows``; events of items with row -1 are left out."""
    items = rows[sequences.items]
    kept = items >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    times = sequences.times[kept] if len(sequences.times) else sequences.times
    return Sequences(before[sequences.indptr].astype(np.int64), items[kept].astype(np.int32), times)


def read_categories(path: Path, column: str, ids: pa.Array) -> list[str | None]:
    """Return the category of every item (n), None where the table has none; of a list of paths the first, a list
    of levels is joined by ``>``.

    Raises DataError when the table cannot be read, lacks the column, or holds none of the ids.
    """
    from sparcode.data.tables import read_file

    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; expected a table of items with their categories")
    table = read_file(Path(path))
    if column not in table.column_names:
        raise DataError(f"{path} has no column {column!r}; its columns: {', '.join(table.column_names)}")
    key = find_id_column(table.column_names, "item", "item_id")
    rows = IdMap(ids, kind="item").join(as_id_array(table[key], "item"))
    if not (rows >= 0).any():
        raise DataError(f"{path}: no value of {key!r} is the id of an item that has an embedding; are these its items?")
    categories: list[str | None] = [None] * len(ids)
    for row, value in zip(rows.tolist(), table[column].to_pylist(), strict=True):
        if row >= 0 and value is not None:
            categories[row] = _path(value)
    return categories


def _path(value: Any) -> str | None:
    """Return one path: of a list of paths the first, of a list of levels all of them, joined."""
    if not isinstance(value, list):
        return str(value)
    texts = [str(part) for part in value if part is not None]
    return texts[0] if any(">" in text for text in texts) else " > ".join(texts) or None


def _dataset(source: str | Path) -> Any:
    if (Path(source) / "run.json").is_file() or (Path(source) / "config.toml").is_file():
        from sparcode.run import Run

        return Run.open(source).dataset
    from sparcode.config import DataConfig
    from sparcode.data.dataset import load_dataset

    return load_dataset(str(source), DataConfig(text_width=0), seed=0)
