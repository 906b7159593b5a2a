"""What an item is embedded from: its text, its structured features, the behaviour of users, or several of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.config import DataConfig
from sparcode.data.columns import find_id_column, looks_like
from sparcode.data.ids import IdMap, as_id_array
from sparcode.data.joins import FEW, align
from sparcode.data.metadata import documents, encode, is_list, is_text, plain_array, text_columns
from sparcode.data.tables import Tables, kind_of, read_file, read_tables, table_of, without_row_numbers
from sparcode.data.text import FEWEST_ROWS, FEWEST_TERMS, TextEncoder
from sparcode.errors import DataError, RunError
from sparcode.semantic_id.behaviour import BehaviourOptions, Method, item_vectors
from sparcode.semantic_id.embeddings import Embeddings
from sparcode.semantic_id.fusion import Fusion, How, Part
from sparcode.semantic_id.items import Items
from sparcode.semantic_id.recipe import Recipe
from sparcode.semantic_id.transforms import FeatureTransform, TextTransform, Transform, Unknown, filled
from sparcode.wording import warn

AUTO = "auto"
"""Stands for all columns that fit, where names of columns are asked for."""
_RUN_VECTORS = {"sparcode": "rescorer", "two-tower": "two_tower", "additive": "additive"}
RUN_VECTORS = tuple(_RUN_VECTORS)
Made = tuple[Part, Transform, dict[str, Any]]
"""What a source gives: the vectors, how others are made, and a JSON-able description."""


@dataclass(frozen=True)
class Sources:
    """What to embed from. ``text_columns``, ``features``: names of columns, [AUTO], or None to leave the source out.

    ``text_model``: name or path of a sentence-transformers model; None: TF-IDF and truncated SVD. ``behaviour``:
    how histories of the data become vectors. ``run``: a trained run, and ``run_vectors`` which of its vectors.
    ``width``: of every source, and of the whole where ``fusion`` is "project".
    """

    text_columns: Sequence[str] | None = None
    text_model: str | None = None
    features: Sequence[str] | None = None
    behaviour: Method | None = None
    run: Path | None = None
    run_vectors: str = "sparcode"
    fusion: How = "concat"
    width: int = 128
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    behaviour_options: BehaviourOptions = field(default_factory=BehaviourOptions)


def embed(items: Any, sources: Sources) -> tuple[Embeddings, dict[str, Any]]:
    """Return checked embeddings of ``items`` and a JSON-able description; see ``embed_fitted``."""
    embeddings, recipe = embed_fitted(items, sources)
    return embeddings, recipe.about


def embed_fitted(items: Any, sources: Sources) -> tuple[Embeddings, Recipe]:
    """Return checked embeddings of ``items`` and the recipe that embeds others like them; its ``about`` describes it.

    ``items``: a table of items (a file, or in memory), or DATA: a folder or fetched name that holds interactions.
    Behaviour reads training events only. Raises DataError, RunError, MissingExtraError.
    """
    if sources.width < 1:
        raise DataError(f"width {sources.width}: expected at least 1")
    chosen = open_items(items, sources)
    parts: list[Part] = []
    transforms: list[Transform] = []
    about: dict[str, Any] = {"items": len(chosen.ids), "sources": {}}
    for name, make in _makers(sources).items():
        part, transform, more = make(chosen, sources)
        parts.append(part)
        transforms.append(transform)
        unknown = int((~part.known).sum())
        about["sources"][name] = {"width": part.vectors.shape[1], "unknown_items": unknown, **more}
    fusion = Fusion.fit(parts, sources.fusion, sources.width)
    embeddings = Embeddings(np.ascontiguousarray(fusion.apply(parts)), chosen.ids.external)
    about |= {"width": embeddings.width, "notes": embeddings.facts().notes(), "seed": sources.seed}
    if fusion.standardisers:
        about["fusion"] = sources.fusion
    return embeddings, Recipe(transforms, fusion, about)


def embed_like(items: Any, recipe: Recipe, data: DataConfig | None = None) -> Embeddings:
    """Return checked embeddings of new items as a recipe makes them; ``data.columns`` may name the id column."""
    embeddings = recipe.apply(open_items(items, Sources(data=data or DataConfig())))
    embeddings.facts(alike=True)
    return embeddings


def open_items(items: Any, sources: Sources) -> Items:
    """Find the items: those of the table of items where there is one, else those of the training data or the run.

    A table with a column of users is one of interactions where behaviour is asked for.
    """
    is_table_file = isinstance(items, str | Path) and Path(items).is_file() and kind_of(Path(items)) is not None
    named = frozenset(sources.data.columns.values())
    if is_table_file or not isinstance(items, str | Path | Mapping | Tables):
        table = read_file(Path(items), named) if is_table_file else table_of(items, "items")
        if sources.behaviour is None or not _has_users(table, sources):
            return _with_table(without_row_numbers(table, named), sources, None)
        items = table
    tables = read_tables(items, sources.data.columns.values())
    if tables.items is not None:
        return _with_table(tables.items, sources, tables)
    if not _has_users(tables.interactions, sources):
        return _with_table(without_row_numbers(tables.interactions, named), sources, None)
    column = find_id_column(tables.interactions.column_names, "item", sources.data.columns.get("item", "item_id"))
    known = as_id_array(tables.interactions[column], "item").unique().drop_null()
    return Items(IdMap(known.take(pc.sort_indices(known)), kind="item"), None, tables)


def _has_users(table: pa.Table, sources: Sources) -> bool:
    given = sources.data.columns.get("user")
    return any(name == given or looks_like(name, "user") for name in table.column_names)


def _with_table(table: pa.Table, sources: Sources, data: Any) -> Items:
    key = find_id_column(table.column_names, "item", sources.data.columns.get("item", "item_id"))
    ids = IdMap(as_id_array(table[key], "item").drop_null().unique(), kind="item")
    if len(ids) == 0:
        raise DataError(f"the table of items has no id in column {key!r}; expected one row an item")
    return Items(ids, align(table, key, ids)[0].drop_columns([key]), data)


def _makers(sources: Sources) -> dict[str, Any]:
    """Return the sources that were asked for; text where none was."""
    wanted: dict[str, Any] = {}
    nothing = sources.features is None and sources.behaviour is None and sources.run is None
    if sources.text_columns is not None or sources.text_model is not None or nothing:
        wanted["text"] = from_text
    if sources.features is not None:
        wanted["features"] = from_features
    if sources.behaviour is not None:
        wanted["behaviour"] = from_behaviour
    if sources.run is not None:
        wanted["run"] = from_run
    return wanted


def from_text(items: Items, sources: Sources) -> Made:
    """Embed the joined text of the chosen columns: TF-IDF and SVD, or a sentence-transformers model."""
    table = _table(items, "text")
    fitting = text_columns(table)
    names = _columns(table, sources.text_columns, fitting, "--text-columns", "text")
    texts = documents(table, None, names)
    count = sum(bool(text.strip()) for text in texts)
    if not count:
        raise DataError(f"columns {', '.join(names)} hold no text; name others with --text-columns")
    if sources.text_model is not None:
        transform = TextTransform(names, None, sources.text_model)
        return transform.apply(table), transform, {"columns": names, "model": sources.text_model}
    found = TextEncoder.fit_transform(texts, sources.width)
    if found is None:
        why = f"{count:,} items have any, at least {FEWEST_ROWS} are needed"
        if count >= FEWEST_ROWS:
            why = f"under {FEWEST_TERMS} words stand in two of its {count:,} texts and in no more than half of them"
        raise DataError(
            f"too little text in columns {', '.join(names)} for TF-IDF ({why}); use other columns, --text-model, "
            "--features or --behaviour"
        )
    encoder, vectors = found
    part = Part("text", vectors, filled(vectors))
    return part, TextTransform(names, encoder), {"columns": names, "terms": len(encoder.terms)}


def from_features(items: Items, sources: Sources) -> Made:
    """Embed categories, numbers and vectors: every column weighs alike, then principal directions where it is wide."""
    table = _table(items, "features")
    if sources.features is not None and list(sources.features) != [AUTO]:
        names = _columns(table, sources.features, [], "--features", "features")
        table = table.select(names)
    features, ignored, _ = encode(table)
    if features is None:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in ignored.items()) or "there are no columns"
        raise DataError(f"no column of the items can be a feature: {reasons}")
    transform = FeatureTransform.fit(features, sources.width)
    return transform.of(features), transform, {"columns": transform.columns, "ignored": ignored}


def from_behaviour(items: Items, sources: Sources) -> Made:
    """Embed from training events of the data, see ``behaviour``."""
    from sparcode.data.dataset import load_dataset

    if items.data is None:
        raise DataError("--behaviour needs interactions: give a table of them, or a folder that holds interactions.*")
    config = sources.data.model_copy(update={"text_width": 0})
    dataset = load_dataset(items.data, config, seed=sources.seed)
    options = BehaviourOptions(**{**vars(sources.behaviour_options), "width": sources.width})
    method = sources.behaviour or "counts"
    vectors = item_vectors(dataset.train, dataset.item_count, method, options, sources.seed)
    part = _placed("behaviour", items.ids, dataset.item_ids, vectors)
    about = {"method": method, "training_events": len(dataset.train.items), "split_by": config.split_by}
    return part, Unknown("behaviour", vectors.shape[1]), about


def from_run(items: Items, sources: Sources) -> Made:
    """Take the item vectors of a trained run: those that rescore, or the two-tower's, or the additive model's."""
    from sparcode.run import Run

    run = Run.open(Path(sources.run or ""))
    vectors = run_item_vectors(run.model_folder, sources.run_vectors)
    part = _placed(f"the run {sources.run}", items.ids, run.dataset.item_ids, vectors)
    about = {"run": str(sources.run), "vectors": sources.run_vectors, "model_hash": run.model_hash}
    return part, Unknown("run", vectors.shape[1]), about


def run_item_vectors(folder: Path, which: str) -> np.ndarray:
    """Return float32 (n, d) by internal id; several tokens of an item follow one another."""
    from sparcode.index.arrays import read_arrays
    from sparcode.query.rescore.item_vectors import decoded

    if which not in _RUN_VECTORS:
        raise DataError(f"unknown item vectors {which!r} of a run; expected one of {', '.join(RUN_VECTORS)}")
    path = folder / f"{_RUN_VECTORS[which]}.safetensors"
    if not path.exists():
        present = [name for name, stem in _RUN_VECTORS.items() if (folder / f"{stem}.safetensors").exists()]
        raise RunError(f"{folder} has no vectors of {which}; it has those of: {', '.join(present) or 'no model'}")
    arrays = read_arrays(path)
    if which == "two-tower":
        return np.array(arrays["item_vectors_out"], np.float32)
    if which == "additive":
        return np.array(arrays["targets"], np.float32)
    tokens = arrays["item_tokens"].reshape(len(arrays["item_tokens"]), -1)
    if "item_scales" in arrays:
        return decoded((tokens, arrays["item_scales"]))
    return np.array(tokens, np.float32)


def _placed(name: str, wanted: IdMap, have: IdMap, vectors: np.ndarray) -> Part:
    """Return vectors in the order of the wanted ids, zeros where there is none."""
    place = have.join(wanted.external)
    known = place >= 0
    if not known.any():
        raise DataError(f"{name} knows none of the {len(wanted):,} items; do the ids belong to the same data?")
    if known.mean() < FEW:
        line = (
            f"{name} knows only {int(known.sum()):,} of the {len(wanted):,} items; do the ids belong to the same data?"
        )
        warn(line, UserWarning, stacklevel=4)
    result = np.zeros((len(wanted), vectors.shape[1]), np.float32)
    result[known] = vectors[place[known]]
    return Part(name, result, filled(result))


def _table(items: Items, purpose: str) -> pa.Table:
    if items.table is None:
        raise DataError(f"embedding from {purpose} needs a table of items (items.*), and the data have none")
    return items.table


def _has_text(table: pa.Table, name: str) -> bool:
    array = plain_array(table[name])
    return is_text(array.type) or (is_list(array.type) and is_text(array.type.value_type))


def _columns(table: pa.Table, given: Sequence[str] | None, fitting: list[str], option: str, what: str) -> list[str]:
    if given is None or list(given) == [AUTO]:
        if not fitting:
            raise DataError(f"no column of the items holds {what}; its columns: {', '.join(table.column_names)}")
        return fitting
    if not given:
        raise DataError(f"{option} names no column; columns of the items: {', '.join(table.column_names)}")
    for name in given:
        if name not in table.column_names:
            near = difflib.get_close_matches(name, table.column_names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"{option} {name}: no such column{hint}; columns of the items: {', '.join(table.column_names)}"
            )
        if what == "text" and not _has_text(table, name):
            raise DataError(f"{option} {name}: holds {table[name].type}, expected text or lists of text")
    return list(given)
