"""Small worlds of the model, training and pipeline tests: configurations, planted data, random parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.config import Config, updated
from sparcode.data.synthetic import planted_groups
from sparcode.types import Queries, Sequences

TINY: dict[str, Any] = {
    "model.width": 16,
    "model.heads": 2,
    "model.history": 8,
    "model.blocks": 1,
    "model.attention_heads": 1,
    "model.dropout": 0.1,
    "quantizer.books": 2,
    "quantizer.codewords": 8,
    "quantizer.warmup": 0.34,
    "scorer.kind": "hadamard",
    "scorer.hidden": 6,
    "loss.negatives": 12,
    "train.epochs": 3,
    "train.batch_positions": 256,
    "train.learning_rate": 1e-2,
    "train.threads": 1,
    "train.warm_start": False,
    "query.rescore": 20,
}
"""A configuration that trains in a second, with codes from the second epoch on."""


def tiny_config(**changes: Any) -> Config:
    """Return the tiny configuration with dotted keys replaced: ``tiny_config(**{"model.heads": 1})``."""
    return updated(Config(), TINY | changes)


def planted_table(users: int = 60, items: int = 40, seed: int = 0, noise: float = 0.1) -> pa.Table:
    """Return interactions in which users follow a noisy cycle of the items of their group."""
    return planted_groups(users, items, 4, 10, noise=noise, seed=seed).interactions


def sequences_of(rows: list[list[int]]) -> Sequences:
    """Return lists of items as sequences without times."""
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Sequences(indptr, np.array(sum(rows, []), np.int32), np.empty(0))


def queries_of(histories: list[list[int]], features: np.ndarray | None = None) -> Queries:
    """Return histories as a batch of queries."""
    rows = sequences_of(histories)
    return Queries(rows.indptr, rows.items, features)


def random_sequences(rng: np.random.Generator, rows: int, longest: int, items: int) -> Sequences:
    """Return sequences of random lengths 0..longest."""
    lengths = rng.integers(0, longest + 1, rows)
    return sequences_of([rng.integers(0, items, length).tolist() for length in lengths])


def random_pipeline(
    items: int = 23, *, seed: int = 0, stored: int = 12, longest: int = 9, learned: bool = True, family: bool = True,
    table: bool = False, features: int = 0, settings: Any = None, **changes: Any,
) -> Any:  # fmt: skip
    """Return a Pipeline over random arrays: an untrained model's encoder and rescorer, random posting lists."""
    import torch

    from sparcode.index.layout import Family, composite, make_index, pack
    from sparcode.model.item_tokens import unit
    from sparcode.model.sparcode import SparCodeModel
    from sparcode.query.codes import decode, nearest_stored
    from sparcode.query.encoder.encoder import Encoder
    from sparcode.query.pipeline import Pipeline, QuerySettings
    from sparcode.query.rescore.rescorer import Rescorer
    from sparcode.query.search.searcher import Searcher
    from sparcode.train.export import encoder_arrays, rescorer_arrays

    torch.manual_seed(seed)
    model = SparCodeModel(tiny_config(**{"model.user_features": features > 0} | changes), items, None, features)
    for parameter in [*model.scorer.parameters(), model.items.embedding]:
        torch.nn.init.normal_(parameter, std=0.5)
    assert model.quantizer is not None
    model.quantizer.start(unit(torch.randn(100, 16)), seed=0)
    spec, arrays = encoder_arrays(model)
    books, kind = arrays["codebooks"], spec["quantizer"]["kind"]
    every = np.stack(np.unravel_index(np.arange(books.shape[1] ** len(books)), [books.shape[1]] * len(books)), axis=1)
    random = np.random.default_rng(seed)
    codes = every[np.sort(random.choice(len(every), stored, replace=False))].astype(np.uint16)
    lists = [
        np.sort(random.choice(items, min(random.integers(0, longest + 1), items), replace=False))
        for _ in range(stored * learned + items * family)
    ]
    families = [Family("learned", 0, stored)] if learned else []
    families += [Family("item", stored * learned, items)] if family else []
    ids = np.concatenate(lists).astype(np.int64)
    rows = nearest_stored(decode(every, books, kind), decode(codes, books, kind)) if table and learned else None
    assert (composite(every, books.shape[1]) == np.arange(len(every))).all()
    index = make_index(
        np.cumsum([0, *map(len, lists)]), pack(ids, random.integers(1, 256, len(ids))), items, 0.01, families,
        code_table=codes if learned else None, code_rows=rows,
    )  # fmt: skip
    settings = settings or QuerySettings(3, 2, (16, 11, 8, 0, 4), 0.7)
    return Pipeline(
        Encoder(spec, arrays), Searcher(index), Rescorer(*rescorer_arrays(model)), settings,
        rescore=8, codebooks=books, codebook_kind=kind,
    )  # fmt: skip
