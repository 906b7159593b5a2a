"""Sizes chosen from the data where the configuration leaves them open."""

from __future__ import annotations

import math
from typing import Any

from sparcode.config import Config, updated
from sparcode.data.dataset import Dataset
from sparcode.errors import ConfigError

SPARSE = 40
"""Training events an item below which data count as sparse."""
FINE_TUNE_RATE = 0.5


def resolve(config: Config, dataset: Dataset) -> Config:
    """Return ``config`` with every open size filled in from the size of the data."""
    events = int(dataset.train.indptr[-1])
    # Items that no event names take part in no training: they do not make data sparser, nor a model larger.
    items = max(dataset.item_count - dataset.items_without_event, 1)
    density = events / items
    content = dataset.item_features is not None if config.model.item_content is None else config.model.item_content
    chosen = _model(config, events, density, content) | _codes(config, items)
    chosen |= _additive(config, events, density, content, chosen)
    _check_families(config, dataset)
    if not (config.model.item_ids or content):
        raise ConfigError("model.item_ids=false, but the data hold no usable item columns (items.* file)")
    if chosen["quantizer.codewords"] ** chosen["quantizer.books"] >= 2**62:
        raise ConfigError(
            f"quantizer.codewords={chosen['quantizer.codewords']} with quantizer.books={chosen['quantizer.books']}: "
            "N^M must stay below 2^62, because a code is one 64-bit integer; lower one of them"
        )
    resolved = updated(config, chosen)
    _check_widths(resolved)
    return resolved


def _model(config: Config, events: int, density: float, content: bool) -> dict[str, Any]:
    """Choose what the two-tower and SparCode share."""
    model, train = config.model, config.train
    blocks = model.blocks or (2 if events >= 500_000 else 1)
    heads = model.attention_heads or (2 if model.width % 2 == 0 else 1)
    length = train.epochs or epochs(events)
    fine_tune = math.ceil(0.4 * length) if _has_untrained_parts(config) else 0
    return {
        "model.heads": model.heads or 1,
        "model.blocks": blocks,
        "model.attention_heads": heads,
        "model.dropout": dropout(density) if model.dropout is None else model.dropout,
        "model.temperature": model.temperature or temperature(density),
        "model.item_content": content,
        "train.epochs": length,
        "train.fine_tune_epochs": fine_tune if train.fine_tune_epochs is None else train.fine_tune_epochs,
    }


def _has_untrained_parts(config: Config) -> bool:
    """Whether SparCode holds weights that a two-tower does not, or a ReLU that it was not trained for."""
    more_tokens = (config.model.heads or 1) > 1 or config.model.item_tokens > 1
    steered = config.sparsity.target_density is not None or config.sparsity.bias is not None
    return more_tokens or steered or config.scorer.kind not in ("dot", "counts")


def _codes(config: Config, items: int) -> dict[str, Any]:
    books = config.quantizer.books or 1
    return {
        "quantizer.books": books,
        "quantizer.codewords": config.quantizer.codewords or codewords(items, books),
    }


def _check_families(config: Config, dataset: Dataset) -> None:
    """Raise ConfigError when a family is asked for whose words the data lack."""
    category, segment = config.families.category, config.families.segment
    if category.enabled and not (dataset.item_features is not None and dataset.item_features.vocabulary):
        raise ConfigError("families.category.enabled=true, but the data hold no categories of items (items.* file)")
    described = dataset.user_features is not None and bool(dataset.user_features.vocabulary)
    if segment.enabled and not described:
        raise ConfigError("families.segment.enabled=true, but the data hold no categories of users (users.* file)")


def _additive(config: Config, events: int, density: float, content: bool, shared: dict[str, Any]) -> dict[str, Any]:
    """Choose the training of the additive model; what is not its own is as in the model beside it."""
    own = config.additive
    # Where events are few it stops long before it overfits, and hidden ids only slow it down.
    hidden = 0.1 if content and density >= SPARSE else 0.0
    return {
        "additive.width": own.width or config.model.width,
        "additive.history": own.history or config.model.history,
        "additive.epochs": own.epochs or max(8, round(0.7 * shared["train.epochs"])),
        "additive.dropout": dropout(density) if own.dropout is None else own.dropout,
        "additive.temperature": own.temperature or shared["model.temperature"],
        "additive.item_id_dropout": hidden if own.item_id_dropout is None else own.item_id_dropout,
    }


def config_of(system: str, config: Config, warm: bool = False) -> Config:
    """Return the configuration under which one system of a run is trained, from the resolved one of the run.

    ``warm``: SparCode starts from trained weights; its schedule is then that of fine-tuning, with codes from the start.
    """
    if system == "additive":
        return _additive_config(config)
    if system == "sparcode" and warm:
        return updated(
            config,
            {
                "quantizer.warmup": 0.0,
                "train.epochs": max(config.train.fine_tune_epochs or 0, 1),
                "train.stop_after": config.train.fine_tune_stop_after,
                "train.learning_rate": FINE_TUNE_RATE * config.train.learning_rate,
            },
        )
    return config


def _additive_config(config: Config) -> Config:
    own = config.additive.model_dump()
    model = {f"model.{key}": own[key] for key in ("width", "history", "dropout", "temperature", "item_id_dropout")}
    train = ("epochs", "stop_after", "history_dropout", "learning_rate", "weight_decay")
    return updated(config, model | {f"train.{key}": own[key] for key in train})


def _check_widths(config: Config) -> None:
    # The layers check this too, but only when an earlier run has already given way.
    width, heads, books = config.model.width, config.model.attention_heads or 1, config.quantizer.books or 1
    if config.quantizer.kind == "product" and width % books:
        raise ConfigError(f"quantizer.books={books} does not divide model.width={width}; change one of them")
    if config.model.tokenizer == "sasrec" and width % heads:
        raise ConfigError(f"model.attention_heads={heads} does not divide model.width={width}; change one of them")


def dropout(events_per_item: float) -> float:
    """Choose the dropout: vectors of rarely seen items overfit first (measured on Beauty, ml-100k and ml-1m)."""
    if events_per_item < SPARSE:
        return 0.5
    return 0.3 if events_per_item < 150 else 0.2


def temperature(events_per_item: float) -> float:
    """Choose what divides cosine scores: sharper where an item is known from few events (Beauty against ml-1m)."""
    return 0.07 if events_per_item < SPARSE else 0.1


def codewords(items: int, books: int) -> int:
    """Choose N so that N^M codes are near a third of the items, between 256 and 8,192 codes.

    The bytes of an index grow with codes x list length: at a third of the items and 128 postings a code the learned
    lists cost less than the graph of an HNSW index over the same items.
    """
    wanted = min(max(items / 3, 256.0), 8192.0)
    size = 2 ** round(math.log2(wanted) / books)
    return int(min(max(size, 8), 65536))


def epochs(events: int) -> int:
    """Choose the number of epochs: about twelve million training positions, between 12 and 24 epochs."""
    return int(min(max(round(12_000_000 / max(events, 1)), 12), 24))
