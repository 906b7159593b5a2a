"""The tokenizers whose stored bytes are kept in ``tests/semantic_id/golden``, and what they give.

``python -m tests.semantic_id.golden_tokenizers FOLDER`` fits and writes those of the present format version. Files that
are committed never change: a new version gets a new folder. Vectors are made by arithmetic alone; the codebooks are
what training once gave, which no test repeats.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

GOLDEN = Path(__file__).parent / "golden"
ITEMS, WIDTH, NEW = 14, 6, 4
"""Items, columns, and the vectors behind those of the items, on which no tokenizer was fitted."""
NAMES = [f"größe {number}" for number in range(ITEMS)]

_BOOKS: dict[str, Any] = {"codebooks": 2, "codebook_size": 4, "seed": 5}
_NETWORK: dict[str, Any] = {"hidden_dims": [5], "latent_dim": 4, "codebook_dim": 3, "epochs": 30, "warmup_epochs": 2}
METHODS: dict[str, dict[str, Any]] = {
    "rq-kmeans": {**_BOOKS, "collisions": "extra-digit", "extra_size": 9},
    "rq-vae": {**_BOOKS, **_NETWORK, "collisions": "none", "standardise": "columns", "device": "cpu"},
    "opq": {**_BOOKS, "codebook_size": [4, 12], "collisions": "next-best"},
    "fsq": {"collisions": "none", "codebook_size": [3, 4]},
    "hierarchical-kmeans": {**_BOOKS, "collisions": "none"},
    "category-prefix": {**_BOOKS, "codebooks": 3, "collisions": "extra-digit", "standardise": "none"},
}


def vectors() -> np.ndarray:
    """Return float32 (ITEMS + NEW, WIDTH) of eighths, exact on every machine; items 3 and 11 have one vector."""
    row, column = np.arange(ITEMS + NEW)[:, None], np.arange(WIDTH)
    found = ((row * row * 3 + row * column * 5 + 7 * column * column) % 23 - 11).astype(np.float32) / 8
    found[11] = found[3]
    return found


def categories(method: str, rows: int) -> list[str | None] | None:
    """Return the category of every item, for the method that wants them."""
    return [f"Küche > {'abc'[row % 3]}" for row in range(rows)] if method == "category-prefix" else None


def answers(method: str, tokenizer: SemanticIdTokenizer) -> dict[str, Any]:
    """Return what a tokenizer gives, JSON-able: codes of all vectors, SIDs of items, vectors of the first codes.

    ``appended``: the SIDs of new items, which are not kept.
    """
    x, names = vectors(), [*NAMES, *(f"new {number}" for number in range(NEW))]
    codes = tokenizer.encode(x, categories(method, len(x)))
    grown = tokenizer.assign(x, names, categories(method, len(x)))
    return {
        "fingerprint": tokenizer.fingerprint,
        "codes": codes.tolist(),
        "sids": tokenizer.semantic_ids.codes.tolist(),
        "appended": grown.codes[ITEMS:].tolist(),
        "vectors": [[float(f"{value:.6g}") for value in row] for row in tokenizer.decode(codes[:2])],
    }


def write(folder: Path) -> None:
    """Fit every tokenizer and write it to ``folder/METHOD``, and ``folder/answers.json``."""
    found = {}
    for method, settings in METHODS.items():
        tokenizer = SemanticIdTokenizer(method, **settings)
        tokenizer.fit(vectors()[:ITEMS], NAMES, categories(method, ITEMS)).save(folder / method)
        found[method] = answers(method, tokenizer)
    text = ",\n ".join(f"{json.dumps(method)}: {json.dumps(answer)}" for method, answer in found.items())
    (folder / "answers.json").write_text(f"{{{text}}}\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
