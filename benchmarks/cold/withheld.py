"""Items that nobody knows yet: a run whose training saw no event of some items, and the queries that ask for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from shared import Row, label

from sparcode.config import Config, DataConfig, updated
from sparcode.data.cleaning import clean
from sparcode.data.dataset import Dataset
from sparcode.data.features import with_user_features
from sparcode.data.tables import Tables, read_tables
from sparcode.errors import DataError
from sparcode.run import Run
from sparcode.seeding import generator
from sparcode.types import EvaluationSet, Queries

SPLIT = "cold_start_split"
"""Column of parts in the table that the run of part ``items`` is trained on."""


def trained_cold(data: str, work: Path, config: Config, share: float) -> Run:
    """Train on ``data`` less the events of ``share`` percent of the items, or open that run when it is finished."""
    name = digest({"data": label(data), "config": config.model_dump(), "share": share})
    folder = work / f"withheld-{share:g}-seed-{config.seed}-{name}"
    if (folder / "run.json").exists():
        return Run.open(folder)
    from sparcode.train.run import train_run

    tables = cold_tables(read_tables(data, config.data.columns.values()), config.data, share, config.seed)
    print(f"training {folder}", flush=True)
    return train_run(tables, folder, cold_config(config), resume=True, baselines=True)


def digest(content: Row) -> str:
    """Return eight letters that stand for ``content`` in the name of a file or folder."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def cold_config(config: Config) -> Config:
    """Return ``config`` for ``cold_tables``: parts by column; filters are off, for they were applied."""
    applied = {"data.where": None, "data.min_rating": None, "data.k_core": 0, "data.time_cut": None}
    columns = {**config.data.columns, "split": SPLIT}
    return updated(config, {**applied, "data.split_by": "column", "data.columns": columns})


def cold_tables(tables: Tables, config: DataConfig, share: float, seed: int) -> Tables:
    """Clean ``tables`` and add the column ``SPLIT``, in which events of withheld items are test.

    All of them stay in the table, so that no item leaves the catalogue. Of the others a user's last event is
    validation, if there are two or more, and the rest train. DataError when there is no table of items.
    """
    if tables.items is None:
        raise DataError(f"{tables.source} holds no items table; items that nobody knows yet need content to be found")
    events, _ = clean(tables.interactions, config.model_copy(update={"split_by": "none"}))
    withheld = choose_items(events.items, len(events.item_ids), share, seed)
    parts = parts_of(events.users, withheld[events.items])
    rows = tables.interactions.take(pa.array(events.rows)).append_column(SPLIT, pa.array(parts))
    return Tables(rows, tables.items, tables.users, source=f"{tables.source}, {share:g} % of the items withheld")


def choose_items(items: np.ndarray, item_count: int, share: float, seed: int) -> np.ndarray:
    """Return (item_count,) bool: ``share`` percent, at least one, of the items that occur in ``items``, at random."""
    present = np.unique(items)
    count = max(1, round(share / 100 * len(present)))
    withheld = np.zeros(item_count, np.bool_)
    withheld[generator(seed, "withheld items").choice(present, count, replace=False)] = True
    return withheld


def parts_of(users: np.ndarray, withheld: np.ndarray) -> np.ndarray:
    """Return the part of each event, (events,) text; events are sorted by user and time."""
    parts = np.where(withheld, "test", "train").astype("<U5")
    known = np.flatnonzero(~withheld)
    ends = np.flatnonzero(np.append(users[known][1:] != users[known][:-1], True))
    counts = np.diff(ends, prepend=-1)
    parts[known[ends[counts >= 2]]] = "valid"
    return parts


def withheld_items(dataset: Dataset) -> np.ndarray:
    """Return (n,) bool: items of a run on ``cold_tables`` that occur in neither training nor validation."""
    withheld = np.asarray(dataset.popularity) == 0
    if dataset.validation is not None:
        withheld[dataset.validation.target_items] = False
    return withheld


def cold_queries(run: Run) -> tuple[EvaluationSet, int]:
    """Return a query for every user with a withheld event, and how many users are left out for want of a history.

    Target: the last withheld event. History: the events before it whose items are not withheld.
    """
    serving, users = run.dataset.serving, run.dataset.user_count
    hidden = withheld_items(run.dataset)[serving.items]
    owners = np.repeat(np.arange(users), np.diff(serving.indptr))
    last = np.full(users, -1, np.int64)
    np.maximum.at(last, owners[hidden], np.flatnonzero(hidden))
    kept = ~hidden & (np.arange(len(owners)) < last[owners])
    sizes = np.bincount(owners[kept], minlength=users)
    asked = np.flatnonzero(sizes)
    places = last[asked]
    times = serving.times[places] if len(serving.times) else None
    queries = Queries(np.concatenate(([0], np.cumsum(sizes[asked]))).astype(np.int64), serving.items[kept], times=times)
    targets = np.arange(len(asked) + 1, dtype=np.int64)
    held = EvaluationSet(asked.astype(np.int32), queries, targets, serving.items[places])
    if not len(held):
        raise DataError(f"{run.folder}: no user has a withheld event after another one; raise --share")
    return _with_features(run, held), int((last >= 0).sum()) - len(held)


def _with_features(run: Run, held: EvaluationSet) -> EvaluationSet:
    ordinary, features = run.held_out("validation"), run.dataset.user_features
    if ordinary is None or ordinary.queries.user_features is None or features is None:
        return held  # the model reads none
    return with_user_features(held, features)
