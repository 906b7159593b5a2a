"""From torch modules to plain arrays: the only place where a trained model leaves torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparcode.build.items.transitions import count_transitions
from sparcode.build.items.words import write_word_lists
from sparcode.build.traffic import code_traffic
from sparcode.config import Config
from sparcode.data.dataset import Dataset
from sparcode.index.arrays import export_encoder, write_arrays
from sparcode.model.additive import AdditiveModel
from sparcode.model.scorers.base import PerceptronScorer
from sparcode.model.scorers.mixture import MixtureScorer
from sparcode.model.sparcode import SparCodeModel
from sparcode.query.rescore.item_vectors import stored_arrays
from sparcode.train.batches import epoch_batches
from sparcode.train.objective import Objective
from sparcode.types import Sequences

Arrays = dict[str, np.ndarray]


def export_sparcode(model: SparCodeModel, folder: Path) -> None:
    """Write the served encoder and the rescorer of a trained model."""
    spec, arrays = encoder_arrays(model)
    export_encoder(folder, "encoder", spec, arrays)
    spec, arrays = rescorer_arrays(model)
    export_encoder(folder, "rescorer", spec, arrays)
    export_content_map(model, folder / "item_content.safetensors")


def export_two_tower(model: SparCodeModel, folder: Path) -> None:
    """Write the encoder of the two-tower with its item vectors (n, d), unit rows, as ``item_vectors_out``."""
    spec, arrays = encoder_arrays(model)
    with torch.no_grad():
        arrays["item_vectors_out"] = to_array(model.items.tokens(model.items.table())[:, 0])
    export_encoder(folder, "two_tower", spec | {"temperature": model.scorer.temperature}, arrays)
    export_content_map(model, folder / "two_tower_content.safetensors")


@torch.no_grad()
def export_additive(model: AdditiveModel, folder: Path) -> None:
    """Write the additive model: ``sources`` and unit ``targets`` (n, d), ``age_weights`` (history,), all float32."""
    model.eval()
    table = model.items.table()
    arrays = {
        "sources": to_array(model.source_vectors(table)),
        "targets": to_array(model.items.tokens(table)[:, 0]),
        "age_weights": to_array(model.age_weights()),
    }
    items, width = arrays["sources"].shape
    spec = {"temperature": model.scorer.temperature, "width": width, "items": items}
    export_encoder(folder, "additive", spec | {"history": len(arrays["age_weights"])}, arrays)
    export_content_map(model, folder / "additive_content.safetensors", source_map=to_array(model.source_map))


def export_content_map(model: SparCodeModel, path: Path, **more: np.ndarray) -> None:
    """Write what makes vectors of items from their content, where content is all a model knows of them.

    Arrays: ``categories`` (vocabulary, d), ``linear`` (numbers + given vectors, d), float32: the vector of an item is
    the mean of its categories' rows plus its dense row times ``linear``.
    """
    content = model.items.content
    if model.items.embedding is not None or content is None:
        return
    width = model.config.model.width
    linear = np.zeros((0, width), np.float32) if content.linear is None else to_array(content.linear.weight.T)
    write_arrays(path, {"categories": to_array(content.categories), "linear": linear} | more)


@torch.no_grad()
def encoder_arrays(model: SparCodeModel) -> tuple[dict[str, Any], Arrays]:
    """Return spec and arrays of the query encoder: tokenizer, item vectors, codebooks."""
    model.eval()
    config = model.config
    quantizer = model.quantizer
    arrays = dict(model.tokenizer.arrays()) | {"item_vectors": to_array(model.items.table())}
    if quantizer is not None:
        arrays["codebooks"] = to_array(quantizer.codebooks())
    spec = {
        "tokenizer": model.tokenizer.spec(),
        "normalise": True,
        "width": config.model.width,
        "heads": config.model.heads,
        "history": config.model.history,
        "items": model.item_count,
        "feature_width": model.feature_width,
        "quantizer": quantizer
        and {"kind": quantizer.kind, "books": config.quantizer.books, "codewords": config.quantizer.codewords},
    }
    return spec, arrays


@torch.no_grad()
def rescorer_arrays(model: SparCodeModel) -> tuple[dict[str, Any], Arrays]:
    """Return spec and arrays of the all-to-all scorer and the item tokens."""
    model.eval()
    scorer, config = model.scorer, model.config
    tokens = to_array(model.items.tokens(model.items.table()))
    arrays = stored_arrays(tokens, config.query.item_vectors) | {"item_bias": to_array(scorer.item_bias)}
    layers = 0
    if isinstance(scorer, PerceptronScorer):
        layers = 1 + len(scorer.middle)
        arrays |= {"mlp.0.weight": to_array(scorer.first_weight), "mlp.0.bias": to_array(scorer.first_bias)}
        for number, layer in enumerate(scorer.middle, start=1):
            assert isinstance(layer, torch.nn.Linear)
            arrays |= {f"mlp.{number}.weight": to_array(layer.weight), f"mlp.{number}.bias": to_array(layer.bias)}
        arrays |= {"mlp.out.weight": to_array(scorer.out_weight), "mlp.out.bias": to_array(scorer.out_bias)}
    parts = {}
    if isinstance(scorer, MixtureScorer):
        layers = 1
        arrays |= {name: to_array(array) for name, array in scorer.arrays().items()}
        parts = {name: getattr(config.scorer, name) for name in ("query_components", "item_components")}
    spec = {
        "kind": scorer.kind,
        "lists": "counts" if config.scorer.kind == "counts" else scorer.kind,
        "hidden": config.scorer.hidden if layers else 0,
        "layers": layers,
        "skip": scorer.skip,
        "temperature": scorer.temperature,
        "item_tokens": config.model.item_tokens,
        "width": config.model.width,
        "items": model.item_count,
        "item_vectors": config.query.item_vectors,
        "bias": float(model.bias) if model.sparse else None,
        # Rescoring never cuts: ReLU belongs to the lists, which take b~ from "bias".
        "activation": "none",
    }
    return spec | parts, arrays


def export_codes(
    model: SparCodeModel, objective: Objective, sequences: Sequences, config: Config, folder: Path
) -> dict[str, int]:
    """Write the codes training queries use, with their traffic, and what followed them.

    Every training position and the end of every training sequence is a query. Arrays as in ``code_traffic``.
    """
    codes, targets = _codes_of_positions(model, objective, sequences, config)
    arrays = code_traffic(codes, targets, model.item_count)
    write_arrays(folder / "codes.safetensors", arrays)
    return {"occupied_codes": len(arrays["codes"]), "training_queries": int(arrays["traffic"].sum())}


def export_transitions(sequences: Sequences, item_count: int, config: Config, folder: Path) -> None:
    """Write the counted item -> next-item lists of the ``item`` family."""
    indptr, items, values = count_transitions(sequences, item_count, config.families.item)
    write_arrays(folder / "transitions.safetensors", {"indptr": indptr, "items": items, "values": values}, {})


def export_word_lists(dataset: Dataset, config: Config, folder: Path) -> None:
    """Write the counted lists of the ``category`` and ``segment`` families, where they are on."""
    write_word_lists(dataset, config.families, folder)


def export_fill_order(popularity: np.ndarray, folder: Path) -> None:
    """Write the items by falling training popularity where that is not the order of their ids (``--like``)."""
    order = np.lexsort((np.arange(len(popularity)), -popularity)).astype(np.int32)
    if not (order == np.arange(len(order))).all():
        write_arrays(folder / "popularity.safetensors", {"order": order}, {})


@torch.no_grad()
def _codes_of_positions(
    model: SparCodeModel, objective: Objective, sequences: Sequences, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (X, M) of all training queries and the item that followed each, -1 at a sequence's end."""
    assert model.quantizer is not None
    model.eval()
    table, codes, targets = model.items.table(), [], []
    ended = with_end(sequences, model.item_count)
    for batch in epoch_batches(ended, config.model.history, config.train.batch_positions, config.seed, 0):
        tokens, next_items = objective.queries_of(table, batch)
        codes.append(model.quantizer.encode(tokens.flatten(0, 1)).cpu().numpy())
        targets.append(next_items.cpu().numpy().repeat(tokens.shape[1]))
    following = np.concatenate(targets)
    return np.concatenate(codes), np.where(following < model.item_count, following, -1)


def with_end(sequences: Sequences, item_count: int) -> Sequences:
    """Append the pseudo item ``item_count`` to every sequence, so that its last event is a query's context too."""
    indptr = sequences.indptr + np.arange(len(sequences.indptr))
    items = np.insert(sequences.items, sequences.indptr[1:], item_count).astype(np.int32)
    return Sequences(indptr, items, np.empty(0))


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a contiguous float32 numpy copy."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
