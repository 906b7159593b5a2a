"""``sparcode export``: the query tokenizer of a run for those who serve elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.data.storage import Dataset
from sparcode.errors import ConfigError, RunError
from sparcode.files import atomic_paths, require_writable, write_bytes, write_json
from sparcode.index.arrays import open_encoder_files
from sparcode.model.tokenizers.graph import tokenizer_graph
from sparcode.query.encoder.encoder import Encoder
from sparcode.run import Run
from sparcode.types import Queries

SAMPLE = 200
"""Histories on which the written file is compared with the encoder."""
TOLERANCE = 1e-4
"""Largest difference of a coordinate of a unit token that rounding explains."""


def export_onnx(folder: str | Path, out: str | Path) -> dict[str, Any]:
    """Write ``out`` (see ``model.tokenizers.graph``) and ``<out>.items.json``, the external id of every internal one.
    Both are replaced if they exist, once the new ones are known to be right.

    Where onnxruntime is installed the file is run on real histories and compared with the served encoder. Returns
    {"file", "items_file", "bytes", "kind", "inputs", "tokens", "largest_difference" (None: not compared)}.
    Raises RunError, MissingExtraError without onnx, QueryError when a model cannot be exported.
    """
    run, out = Run.open(folder), Path(out)
    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: expected a file name that ends in .onnx")
    items_file = out.with_name(out.name + ".items.json")
    for path in (out, items_file):
        require_writable(path)
    spec, arrays = open_encoder_files(run.model_folder, "encoder")
    encoder = Encoder(spec, arrays, source=str(run.model_folder / "encoder.safetensors"))
    model = tokenizer_graph(spec, arrays)
    facts = {"model_hash": run.model_hash, "history": encoder.history, "items": len(run.dataset.item_ids)}
    for name, value in facts.items():
        model.metadata_props.add(key=f"sparcode.{name}", value=json.dumps(value))
    content = model.SerializeToString(deterministic=True)
    difference = largest_difference(content, encoder, run.dataset)
    with atomic_paths([out, items_file]) as (graph, items):
        write_bytes(graph, content)
        write_json(items, _plain_ids(run.dataset))
    return {
        "file": str(out), "items_file": str(items_file), "bytes": len(content), "kind": spec["tokenizer"]["kind"],
        "inputs": [part.name for part in model.graph.input], "tokens": [encoder.heads, encoder.width],
        "largest_difference": difference,
    }  # fmt: skip


def largest_difference(content: bytes, encoder: Encoder, dataset: Dataset) -> float | None:
    """Return the largest difference between a model's tokens and the encoder's, None without onnxruntime.

    Raises RunError when it is more than rounding explains: such a file would answer differently.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    queries = _sample(encoder, dataset)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(["tokens"], onnx_inputs(queries, encoder.history, encoder.feature_width))[0]
    difference = float(np.abs(found - encoder.tokens(queries)).max())
    if not difference <= TOLERANCE:
        raise RunError(
            f"the exported tokenizer differs from the served one by {difference:.1e}, at most {TOLERANCE:.0e} was "
            "expected; nothing was written: export with other versions of onnx and onnxruntime"
        )
    return difference


def onnx_inputs(queries: Queries, history: int, feature_width: int) -> dict[str, np.ndarray]:
    """Return queries as the model reads them: the last ``history`` events of each, oldest first, padded with 0."""
    lengths = np.minimum(np.diff(queries.indptr), history).astype(np.int64)
    items = np.zeros((len(queries), max(1, int(lengths.max(initial=0)))), np.int64)
    for row, length in enumerate(lengths):
        items[row, :length] = queries.items[queries.indptr[row + 1] - length : queries.indptr[row + 1]]
    inputs: dict[str, np.ndarray] = {"items": items, "lengths": lengths}
    if feature_width:
        given = queries.user_features
        none = np.zeros((len(queries), feature_width), np.float32)
        inputs["features"] = none if given is None else given.astype(np.float32)
    return inputs


def _sample(encoder: Encoder, dataset: Dataset) -> Queries:
    """Return histories of users spread over the file, one of them without events, and their features."""
    serving = dataset.serving
    users = np.unique(np.linspace(0, len(serving) - 1, min(SAMPLE, len(serving))).astype(np.int64))
    rows = [np.zeros(0, np.int32), *(serving.row(int(user)) for user in users)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    known, features = dataset.user_features, None
    if encoder.feature_width and known is not None:
        own = known.dense(users)
        features = np.concatenate([np.zeros_like(own[:1]), own])
    return Queries(indptr, np.concatenate(rows).astype(np.int32), features)


def _plain_ids(dataset: Dataset) -> list[Any]:
    ids = dataset.item_ids.to_external(np.arange(len(dataset.item_ids)))
    return [item.item() if isinstance(item, np.generic) else item for item in ids]
