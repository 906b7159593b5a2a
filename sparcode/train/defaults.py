"""Sizes chosen from the data where the configuration leaves them open."""

from __future__ import annotations

import math

from sparcode.config import Config, updated
from sparcode.data.dataset import Dataset
from sparcode.errors import ConfigError


def resolve(config: Config, dataset: Dataset) -> Config:
    """Return ``config`` with every open size filled in from the size of the data."""
    events = int(dataset.train.indptr[-1])
    density = events / max(dataset.item_count, 1)
    blocks = config.model.blocks or (2 if events >= 500_000 else 1)
    chosen = {
        "model.heads": config.model.heads or 1,
        "model.blocks": blocks,
        "model.attention_heads": config.model.attention_heads or blocks,
        "model.dropout": dropout(density) if config.model.dropout is None else config.model.dropout,
        "quantizer.books": config.quantizer.books or 1,
        "quantizer.codewords": config.quantizer.codewords or codewords(dataset.item_count, config.quantizer.books or 1),
        "train.epochs": config.train.epochs or epochs(events),
    }
    if chosen["quantizer.codewords"] ** chosen["quantizer.books"] >= 2**62:
        raise ConfigError(
            f"quantizer.codewords={chosen['quantizer.codewords']} with quantizer.books={chosen['quantizer.books']}: "
            "N^M must stay below 2^62, because a code is one 64-bit integer; lower one of them"
        )
    resolved = updated(config, chosen)
    _check_widths(resolved)
    return resolved


def _check_widths(config: Config) -> None:
    # The layers check this too, but only when an earlier run has already given way.
    width, heads, books = config.model.width, config.model.attention_heads or 1, config.quantizer.books or 1
    if config.quantizer.kind == "product" and width % books:
        raise ConfigError(f"quantizer.books={books} does not divide model.width={width}; change one of them")
    if config.model.tokenizer == "sasrec" and width % heads:
        raise ConfigError(f"model.attention_heads={heads} does not divide model.width={width}; change one of them")


def dropout(events_per_item: float) -> float:
    """Choose the dropout: vectors of rarely seen items overfit first (measured on Beauty, ml-100k and ml-1m)."""
    if events_per_item < 40:
        return 0.4
    return 0.3 if events_per_item < 150 else 0.2


def codewords(items: int, books: int) -> int:
    """Choose N so that N^M codes are near a tenth of the items, between 256 and 65,536 codes.

    The bytes of an index grow with codes x list length; a list must hold some hundred items to be useful, so the
    number of codes, not the codec, decides the size (benchmarks of this kind: codes x length <= 20 n).
    """
    wanted = min(max(items / 10, 256.0), 65536.0)
    size = 2 ** round(math.log2(wanted) / books)
    return int(min(max(size, 8), 65536))


def epochs(events: int) -> int:
    """Choose the number of epochs: about three million training positions, between 12 and 40 epochs."""
    return int(min(max(round(3_000_000 / max(events, 1)), 12), 40))
