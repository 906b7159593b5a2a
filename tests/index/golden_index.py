"""The index whose stored bytes are kept in ``tests/index/golden``, made by arithmetic alone, and what it answers.

``python -m tests.index.golden_index FOLDER`` writes the files of the present format version. Files that are
committed are never written again: a store of an old version must stay readable, and only new versions are added.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.index.layout import Family, Index, make_index, pack
from sparcode.index.store import publish
from sparcode.query.search.searcher import Searcher

GOLDEN = Path(__file__).parent / "golden"
ITEMS, CODEWORDS, LEARNED = 40, 4, 8
SCALE = 0.0625
FAMILIES = (Family("learned", 0, LEARNED), Family("item", LEARNED, ITEMS, 0.375))
HEADER: dict[str, Any] = {
    "model_hash": "5eed" * 16,
    "config_hash": "c0de" * 16,
    "info": {"policy": "golden", "note": "größer als ASCII", "numbers": [1, 2.5, None, True]},
}
QUERIES = (
    ([0, 3, 8, 21], [1, 1, 2, 3], 10),
    ([7, 7, 47, 13, 2], [1, 2, 5, 1, 9], 45),
    ([1, 4, 30], [65535, 300, 7], 12),
    ([5], [1], 3),
)
"""(rows, weights, k); the third needs the 32-bit accumulator."""


def golden_index() -> Index:
    """Return the index: 8 learned rows and 40 item rows over 40 items, all five arrays; rows 6 and 9 are empty."""
    lists = [_list(row) for row in range(LEARNED + ITEMS)]
    ids = np.array([item for items in lists for item in items], np.int64)
    rows = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
    impacts = 1 + (rows * 31 + ids * 17) % 255
    codes = [(row // 2 % CODEWORDS, (3 * row + row // 4) % CODEWORDS) for row in range(LEARNED)]
    return make_index(
        np.cumsum([0, *(len(items) for items in lists)]),
        pack(ids, impacts),
        ITEMS,
        SCALE,
        FAMILIES,
        code_table=codes,
        code_rows=[(5 * key + 2) % LEARNED for key in range(CODEWORDS**2)],
        scores=impacts * SCALE + 0.015625,
    )


def _list(row: int) -> list[int]:
    if row in (6, 9):
        return []
    return [item for item in range(ITEMS) if (row * 7 + item * item * 5 + 3 * row * item) % 23 < 5]


def answers(searcher: Searcher) -> list[dict[str, Any]]:
    """Return queries and what they answer as JSON-able dictionaries."""
    found = []
    for rows, weights, k in QUERIES:
        ids, sums = searcher.search_one(np.array(rows, np.int32), np.array(weights, np.int32), k)
        found.append({"rows": rows, "weights": weights, "k": k, "ids": ids.tolist(), "sums": sums.tolist()})
    return found


def write(folder: Path) -> None:
    """Write ``folder/index`` and ``folder/answers.json``."""
    publish(folder / "index", golden_index(), **HEADER)
    (folder / "index" / "LOCK").unlink()
    text = ",\n ".join(json.dumps(answer) for answer in answers(Searcher(golden_index())))
    (folder / "answers.json").write_text(f"[{text}]\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
