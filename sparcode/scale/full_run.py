"""From a model trained on a sample of users to a run over the whole catalogue of a world.

The tokenizer is that of the sample. Item vectors come from content, codebooks and codes from the queries of all
users, so the run is what `sparcode build-index` and every retriever of this package read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.build.items.transitions import count_transitions
from sparcode.build.traffic import code_traffic
from sparcode.config import Config, to_toml, updated
from sparcode.data.ids import IdMap
from sparcode.data.storage import Dataset, save_dataset
from sparcode.errors import RunError
from sparcode.files import write_json, write_text
from sparcode.index.arrays import Arrays, export_encoder, open_encoder_files, read_arrays, write_arrays
from sparcode.quantize import product
from sparcode.query.encoder.encoder import Encoder
from sparcode.query.rescore.item_vectors import stored_arrays
from sparcode.run import FORMAT, Run, hash_model
from sparcode.scale.content import Catalogue
from sparcode.seeding import derive, generator
from sparcode.types import EvaluationSet, Queries, Sequences

MOST_QUERIES = 1_000_000
"""Training queries whose codes are stored."""
FITTED_QUERIES = 200_000
"""Of these, as many fit the codebooks."""
_BATCH = 4096


@dataclass(frozen=True)
class Codes:
    """``books`` M, ``codewords`` N of a book.

    Of the run that reads learned lists alone: ``probes`` nearest codes a query reads, ``length`` postings a code.
    """

    books: int = 2
    codewords: int = 64
    probes: int = 8
    length: int = 256


def write_full_run(catalogue: Catalogue, sample: Run, codes: Codes, out: Path) -> Run:
    """Write the run ``out`` without an index: data, model, record. RunError when the sample has no content map."""
    dataset = dataset_of(catalogue)
    save_dataset(dataset, out / "data")
    config = updated(sample.config, {"quantizer.books": codes.books, "quantizer.codewords": codes.codewords})
    write_text(out / "config.toml", to_toml(config))
    _write_towers(catalogue, sample, out / "model")
    _write_codes(dataset.train, catalogue.world.items, config, codes, out / "model")
    lists = count_transitions(dataset.train, dataset.item_count, config.families.item)
    write_arrays(out / "model" / "transitions.safetensors", lists._asdict())
    record = {
        "format": FORMAT, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_hash": hash_model(out / "model"), "items": dataset.item_count, "users": dataset.user_count,
        "training": sample.record["training"],
    }  # fmt: skip
    write_json(out / "run.json", record)
    return Run.open(out)


def dataset_of(catalogue: Catalogue) -> Dataset:
    """Return the world as a dataset, last event of a user test, the one before validation."""
    world, events = catalogue.world, catalogue.events
    items = catalogue.internal[events.items]
    lengths = np.diff(events.indptr)
    training = catalogue.training
    indptr = np.concatenate([[0], np.cumsum(lengths - 2)]).astype(np.int64)
    times = events.times[training]
    return Dataset(
        item_ids=IdMap(list(map(int, catalogue.order)), kind="item"),
        user_ids=IdMap(list(range(world.users)), kind="user"),
        train=Sequences(indptr, items[training], times),
        serving=Sequences(events.indptr, items, events.times),
        validation=_held_out(events.indptr, items, 2),
        test=_held_out(events.indptr, items, 1),
        titles=None, item_features=None, user_features=None,
        popularity=catalogue.popularity[catalogue.order].astype(np.int64),
        summary={"source": "a scale world", "columns": {"user": "user_id", "item": "item_id", "time": "timestamp"}},
    )  # fmt: skip


def _held_out(indptr: np.ndarray, items: np.ndarray, back: int) -> EvaluationSet:
    """Return the set whose targets are the events ``back`` before the end, whose queries what came before them."""
    users, stops = len(indptr) - 1, indptr[1:] - back
    lengths = stops - indptr[:-1]
    kept = np.arange(indptr[-1]) < np.repeat(stops, np.diff(indptr))
    queries = Queries(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items[kept])
    return EvaluationSet(np.arange(users, dtype=np.int32), queries, np.arange(users + 1, dtype=np.int64), items[stops])


def _write_towers(catalogue: Catalogue, sample: Run, folder: Path) -> None:
    """Write encoder, rescorer, two-tower and additive model with the vectors of every item."""
    served = _vectors(catalogue, _content_map(sample, "item_content"))
    spec, arrays = _opened(sample, "encoder", len(served))
    export_encoder(folder, "encoder", spec, arrays | {"item_vectors": served})
    spec, arrays = _opened(sample, "rescorer", len(served))
    tokens = stored_arrays(_unit(served)[:, None], sample.config.query.item_vectors)
    export_encoder(folder, "rescorer", spec, arrays | tokens | {"item_bias": np.zeros(len(served), np.float32)})
    spec, arrays = _opened(sample, "two_tower", len(served))
    dense = _vectors(catalogue, _content_map(sample, "two_tower_content"))
    export_encoder(folder, "two_tower", spec, arrays | {"item_vectors": dense, "item_vectors_out": _unit(dense)})
    if (sample.model_folder / "additive.json").exists():
        content = _content_map(sample, "additive_content")
        spec, arrays = _opened(sample, "additive", len(served))
        targets = _vectors(catalogue, content)
        sides = {"sources": targets @ content["source_map"], "targets": _unit(targets)}
        export_encoder(folder, "additive", spec, arrays | sides)


def _opened(sample: Run, stem: str, items: int) -> tuple[dict[str, Any], Arrays]:
    spec, arrays = open_encoder_files(sample.model_folder, stem)
    return dict(spec) | {"items": items}, dict(arrays)


def _content_map(sample: Run, stem: str) -> Arrays:
    path = sample.model_folder / f"{stem}.safetensors"
    if not path.exists():
        raise RunError(f"{path} does not exist; train the sample with model.item_ids=false")
    return read_arrays(path)


def _vectors(catalogue: Catalogue, content: Arrays) -> np.ndarray:
    vectors = np.empty((catalogue.world.items, content["linear"].shape[1]), np.float32)
    for run, known in catalogue.blocks():
        vectors[run] = known @ content["linear"]
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)


def _write_codes(train: Sequences, items: int, config: Config, codes: Codes, folder: Path) -> None:
    """Fit codebooks to a sample of training queries, add them to the encoder and write the codes of the queries."""
    spec, arrays = open_encoder_files(folder, "encoder")
    encoder = Encoder(dict(spec) | {"quantizer": None}, arrays)
    queries, targets = _prefixes(train, config.seed)
    tokens = np.concatenate([
        encoder.tokens(queries.slice(low, min(low + _BATCH, len(queries))))[:, 0]
        for low in range(0, len(queries), _BATCH)
    ])  # fmt: skip
    books = product.fit(tokens[:FITTED_QUERIES], codes.books, codes.codewords, derive(config.seed, "scale codebooks"))
    quantizer = {"kind": "product", "books": codes.books, "codewords": codes.codewords}
    export_encoder(folder, "encoder", dict(spec) | {"quantizer": quantizer}, dict(arrays) | {"codebooks": books})
    found = code_traffic(product.encode(tokens, list(books)), targets, items)
    write_arrays(folder / "codes.safetensors", found)


def _prefixes(train: Sequences, seed: int) -> tuple[Queries, np.ndarray]:
    """Return prefixes of training sequences, at most MOST_QUERIES in random order, and the item after each."""
    lengths = np.diff(train.indptr)
    row = np.repeat(np.arange(len(train)), np.maximum(lengths - 1, 0))
    start = train.indptr[:-1][row]
    stop = start + 1 + np.arange(len(row)) - np.repeat(np.cumsum(lengths - 1) - (lengths - 1), lengths - 1)
    chosen = generator(seed, "scale training queries").permutation(len(row))[:MOST_QUERIES]
    start, stop = start[chosen], stop[chosen]
    size = stop - start
    indptr = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    places = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - start, size)
    return Queries(indptr, train.items[places]), train.items[stop]
