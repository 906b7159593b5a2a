"""The published counts of real sets, where a copy of them is present."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sparcode.config import DataConfig
from sparcode.data.dataset import load_dataset

ROOT = Path(os.environ.get("SPARCODE_TEST_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
# The published counts are of items with an event; the table of ml-1m holds more films.
POSITION: dict[str, Any] = {"columns": {"time": "position"}, "where": "in_sasrec=true", "catalogue_items": False}
COLUMN: dict[str, Any] = {"split_by": "column"}


@pytest.mark.filterwarnings("ignore:no time column")
@pytest.mark.parametrize(
    ("name", "options", "users", "items", "events", "queries"),
    [
        ("ml-100k", {}, 943, 1682, 100_000, 943),
        ("ml-1m", POSITION, 6040, 3416, 999_611, 6040),
        ("amazon14-beauty", {}, 22_363, 12_101, 198_502, 22_363),
        ("amazon14-office", {}, 4905, 2420, 53_258, 4905),
        ("yelp-s3rec", {}, 30_431, 20_033, 316_354, 30_431),
        ("gowalla-lightgcn", COLUMN, 29_858, 40_981, 1_027_370, 29_858),
        ("diginetica-gcegnn", COLUMN, 202_633, 43_097, 982_961, 60_858),
    ],
)
def test_counts(name: str, options: dict[str, Any], users: int, items: int, events: int, queries: int) -> None:
    if not (ROOT / name).is_dir():
        pytest.skip(f"no copy of {name}: set SPARCODE_TEST_DATA to a folder that holds it")
    found = load_dataset(ROOT / name, DataConfig(**options), seed=0)
    assert found.test is not None
    assert (found.user_count, found.item_count) == (users, items)
    assert (len(found.serving.items), len(found.test)) == (events, queries)
