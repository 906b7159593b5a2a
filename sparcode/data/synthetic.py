"""Small planted worlds: data whose structure is known, for tests and examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from sparcode.data.tables import Tables
from sparcode.seeding import generator


def planted_groups(
    users: int = 60, items: int = 40, groups: int = 4, events: int = 12, *, noise: float = 0.1, seed: int = 0
) -> Tables:
    """Users of a group move through the items of that group, in a cycle; ``noise`` of the events are random items.

    Items i, i + groups, i + 2 groups, ... form group ``i % groups``; the event after item x is most often the next item
    of its group. Users u likewise. Items carry ``title``, ``categories`` (the group) and ``year``; users ``gender`` and
    ``age``. Item ids are integers from 100, user ids are text.
    """
    random = generator(seed, "planted groups")
    size = items // groups
    starts = random.integers(0, size, users)
    place = (starts[:, None] + np.arange(events)) % size
    chosen = place * groups + (np.arange(users) % groups)[:, None]
    noisy = random.random((users, events)) < noise
    chosen[noisy] = random.integers(0, size * groups, int(noisy.sum()))
    times = 1_000_000_000 + np.cumsum(random.integers(1, 1000, (users, events)), axis=1)
    names = np.repeat([f"u{index:03d}" for index in range(users)], events)
    interactions = pa.table({"user_id": names, "item_id": chosen.ravel() + 100, "timestamp": times.ravel()})
    return Tables(interactions, _items(size * groups, groups), _users(users), source="planted groups")


def planted_successors(users: int = 80, items: int = 30, events: int = 10, *, seed: int = 0) -> Tables:
    """Every item has one successor (a seeded cycle through all items); users follow it from a random start."""
    random = generator(seed, "planted successors")
    cycle = random.permutation(items)
    starts = random.integers(0, items, users)
    chosen = cycle[(starts[:, None] + np.arange(events)) % items]
    columns = {
        "user_id": np.repeat(np.arange(users), events),
        "item_id": chosen.ravel(),
        "timestamp": np.tile(np.arange(events), users),
    }
    return Tables(pa.table(columns), source="planted successors")


def write_world(tables: Tables, folder: Path) -> Path:
    """Write a world as a folder of Parquet files, which is then a valid DATA."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("interactions", tables.interactions), ("items", tables.items), ("users", tables.users)):
        if table is not None:
            pq.write_table(table, folder / f"{name}.parquet")
    return folder


def _items(count: int, groups: int) -> pa.Table:
    numbers = np.arange(count)
    return pa.table(
        {
            "item_id": numbers + 100,
            "title": [f"Item {number}" for number in numbers],
            "categories": [[f"group {number % groups}"] for number in numbers],
            "year": 1950 + numbers,
        }
    )


def _users(count: int) -> pa.Table:
    return pa.table(
        {
            "user_id": [f"u{index:03d}" for index in range(count)],
            "gender": ["F" if index % 2 else "M" for index in range(count)],
            "age": 20.0 + np.arange(count) % 37,
        }
    )
