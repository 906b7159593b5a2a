"""Answers as dictionaries, as tables, and a model as one line or a small HTML table."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.api.arguments import is_missing
from sparcode.api.snapshot import Snapshot
from sparcode.data.ids import IdMap
from sparcode.types import NO_ITEM, Hits


def described(now: Snapshot, hits: Hits) -> list[list[dict[str, Any]]]:
    """Return, for each query, its answers best first: item_id, score (None where it is no number), title, filled."""
    ids, filled = now.external(hits.ids), hits.filled
    return [
        [
            {
                "item_id": ids[row, place],
                "score": _finite(float(hits.scores[row, place])),
                "title": now.title(int(hits.ids[row, place])),
                "filled": bool(filled[row, place]),
            }
            for place in np.flatnonzero(hits.ids[row] != NO_ITEM).tolist()
        ]
        for row in range(len(ids))
    ]


def answer_table(now: Snapshot, hits: Hits, first_query: int = 0) -> pa.Table:
    """Return one row an answer: query, rank, item_id, score, title, filled; ``first_query``: number of the first."""
    rows, ranks = np.nonzero(hits.ids != NO_ITEM)
    internal, scores = hits.ids[rows, ranks], hits.scores[rows, ranks]
    titles = now.dataset.titles
    names = pa.array([None if titles is None else titles[item] for item in internal.tolist()], pa.string())
    columns = {
        "query": pa.array(rows + first_query, pa.int64()),
        "rank": pa.array(ranks, pa.int32()),
        "item_id": id_column(now.dataset.item_ids).take(pa.array(internal)),
        "score": pa.array(scores, pa.float32(), mask=~np.isfinite(scores)),
        "title": names,
        "filled": pa.array(hits.filled[rows, ranks]),
    }
    return pa.table(columns)


def id_column(ids: IdMap) -> pa.Array:
    """Return the external ids by internal id: int64, or string, which every reader of files knows."""
    return ids.external if ids.is_integer else ids.external.cast(pa.string())


def labels(known: IdMap, values: list[Any]) -> pa.Array:
    """Return external ids as given, in the type the run's own have; text if some cannot be (unknown ids)."""
    missing = [is_missing(value) for value in values]
    if known.is_integer:
        try:
            whole = [None if absent else int(value) for value, absent in zip(values, missing, strict=True)]
            return pa.array(whole, pa.int64())
        except (ValueError, OverflowError):
            pass
    return pa.array(
        [None if absent else str(value) for value, absent in zip(values, missing, strict=True)], pa.string()
    )


def facts(now: Snapshot) -> dict[str, Any]:
    """Return what tells one model from another: folder, sizes, seed, training date, index generation and MB."""
    index = now.pipeline.searcher.index
    held = index.cache_bytes + now.pipeline.rescorer.bytes + now.pipeline.encoder_bytes
    return {
        "folder": str(now.run.folder),
        "items": now.pipeline.item_count,
        "users": len(now.dataset.user_ids),
        "megabytes": round(held / 1e6, 2),
        "seed": now.run.config.seed,
        "trained": now.run.record.get("created"),
        "model": now.run.model_hash[:12],
        "index_generation": now.pipeline.searcher.manifest.get("generation"),
    }


def one_line(content: dict[str, Any]) -> str:
    """Return facts as ``SparCode(folder='runs/a', items=...)``."""
    return f"SparCode({', '.join(f'{name}={value!r}' for name, value in content.items())})"


def as_html(content: dict[str, Any]) -> str:
    """Return facts as an HTML table, every value escaped."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name.replace('_', ' '))}</th>"
        f"<td style='text-align:left'>{html.escape(_printable(value))}</td></tr>"
        for name, value in content.items()
    )
    return f"<table><caption>SparCode</caption>{cells}</table>"


def _printable(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None
