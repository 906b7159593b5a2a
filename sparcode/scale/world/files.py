"""A planted scale world as files: attributes of items, and a folder of Parquet files that is whole or absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.folder import whole_folder
from sparcode.files import atomic_path, write_json
from sparcode.scale.world.catalogue import Catalogue

ARGUMENTS = "world.json"


def write_folder(
    folder: Path, interactions: Iterator[pa.Table], items: Iterator[pa.Table], arguments: dict[str, Any]
) -> Path:
    """Write a folder that is a valid DATA under a temporary name and rename it.

    DataError, before anything is drawn, when the folder holds something already.
    """
    with whole_folder(folder) as temporary:
        _write_parquet(temporary / "interactions.parquet", interactions)
        _write_parquet(temporary / "items.parquet", items)
        write_json(temporary / ARGUMENTS, arguments)
    return folder


def item_table(catalogue: Catalogue, items: np.ndarray) -> pa.Table:
    """Return attributes of items: ``category`` (topic), ``department`` (group of topics), ``year``, ``price``.

    Year and price grow with the first and second coordinate of the style part of z_c.
    """
    topic = catalogue.topic[items]
    style = catalogue.styles[catalogue.style[items], :2] + catalogue.offset[items, :2]
    style = style * np.sqrt(catalogue.styles.shape[1])
    topics = pa.array([f"topic {number}" for number in range(len(catalogue.topics))])
    groups = pa.array([f"department {number}" for number in range(catalogue.group_of_topic.max() + 1)])
    return pa.table(
        {
            "item_id": items.astype(np.int64),
            "category": topics.take(pa.array(topic)),
            "department": groups.take(pa.array(catalogue.group_of_topic[topic])),
            "year": np.clip(np.rint(1995 + 12 * style[:, 0]), 1950, 2025).astype(np.int64),
            "price": np.round(np.exp(3 + 0.7 * style[:, 1]), 2),
        }
    )


def _write_parquet(path: Path, tables: Iterator[pa.Table]) -> None:
    import pyarrow.parquet as pq

    first = next(tables)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
