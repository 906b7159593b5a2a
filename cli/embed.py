"""``sparcode embed``: vectors of items from text, features, behaviour, or several of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import options
from .output import in_json, note

Items = Annotated[
    str,
    typer.Argument(
        metavar="ITEMS",
        help="A table of items (Parquet, CSV, TSV, RecBole .item), or DATA as for `sparcode train`.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", metavar="E", help="*.parquet, *.npy, *.safetensors, or a new folder.", show_default=False),
]
TextColumns = Annotated[
    str | None,
    typer.Option("--text-columns", metavar="NAMES", help="Embed their text: title,description; auto: all with words."),
]
TextModel = Annotated[
    str | None,
    typer.Option(
        "--text-model", metavar="MODEL", help="sentence-transformers model, name or path, for TF-IDF and SVD."
    ),
]
Features = Annotated[
    str | None,
    typer.Option("--features", metavar="NAMES", help="Embed categories, numbers, tags, vectors; auto: all that fit."),
]
Behaviour = Annotated[
    Literal["counts", "item2vec"] | None,
    typer.Option("--behaviour", help="Embed from training histories: factorised co-occurrences, or skip-grams."),
]
FromRun = Annotated[Path | None, typer.Option("--run", metavar="RUN", help="Item vectors of a trained run.")]
RunVectors = Annotated[
    Literal["sparcode", "two-tower", "additive"], typer.Option("--run-vectors", help="Which vectors of the run.")
]
Fuse = Annotated[
    Literal["concat", "project"],
    typer.Option("--fuse", help="Several sources: standardised and concatenated, or projected to the width."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="Also write how it was made, for new items: *.safetensors."),
]
Like = Annotated[
    Path | None, typer.Option("--like", metavar="FILE", help="Embed new items as a recipe says; sources are its own.")
]
DEFAULT_WIDTH = 128
Width = Annotated[int, typer.Option("--width", min=1, metavar="N", help="Columns of every source.")]


def embed_command(
    items: Items,
    out: Out,
    text_columns: TextColumns = None,
    text_model: TextModel = None,
    features: Features = None,
    behaviour: Behaviour = None,
    run: FromRun = None,
    run_vectors: RunVectors = "sparcode",
    fuse: Fuse = "concat",
    width: Width = DEFAULT_WIDTH,
    recipe: RecipeFile = None,
    like: Like = None,
    columns: options.Columns = None,
    where: options.Where = None,
    min_rating: options.MinRating = None,
    k_core: options.KCore = None,
    split_by: options.SplitBy = None,
    time_cut: options.TimeCut = None,
    seed: options.Seed = None,
    json: options.Json = None,
) -> None:
    """Make a vector for every item: text, features, behaviour.

    From text by default; sources that are named together are fused.
    """
    given: dict[str, Any] = {
        "text_columns": _names(text_columns), "text_model": text_model, "features": _names(features),
        "behaviour": behaviour, "run": run, "run_vectors": run_vectors, "fusion": fuse, "width": width,
    }  # fmt: skip
    changes = options.data_changes(columns, where, min_rating, k_core, split_by, time_cut)
    if changes.keys() - {"data.columns"} and behaviour is None:
        raise typer.BadParameter(
            "they choose the events of --behaviour, which was not asked for; leave them out",
            param_hint="--where, --min-rating, --k-core, --split-by, --time-cut",
        )
    if like is not None:
        changed = (width, fuse, run_vectors, seed) != (DEFAULT_WIDTH, "concat", "sparcode", None)
        if changed or any((text_columns, text_model, features, behaviour, run, recipe)):
            raise typer.BadParameter("the recipe names its sources; leave the other options out", param_hint="--like")
        summary = embed_like(items, out, like, changes)
    else:
        summary = embed(items, out, given, changes, seed or 0, recipe)
    if in_json(summary, json):
        return
    for name, source in summary["sources"].items():
        note(f"{name}: {_about(source)}")
    for sentence in summary["notes"]:
        note(f"note: {sentence}")
    note(f"wrote {out}: {summary['items']:,} items x {summary['width']}")


def embed(
    items: str, out: Path, given: dict[str, Any], changes: dict[str, Any], seed: int, recipe: Path | None = None
) -> dict[str, Any]:
    """Make the embeddings, write them to ``out`` (and the recipe) and return how they were made."""
    from sparcode.files import require_writable
    from sparcode.semantic_id.embeddings import require_kind, write_embeddings
    from sparcode.semantic_id.sources import Sources, embed_fitted

    require_kind(out)
    if recipe is not None:
        _require_recipe(recipe, out, given)
        require_writable(recipe)
    config = options.resolve_config(None, None, changes)
    embeddings, made = embed_fitted(items, Sources(**given, seed=seed, data=config.data))
    write_embeddings(out, embeddings)
    if recipe is not None:
        made.save(recipe)
    return {"out": str(out), **made.about}


def embed_like(items: str, out: Path, like: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Embed new items by a recipe, write them to ``out`` and return what was made."""
    from sparcode.semantic_id.embeddings import require_kind, write_embeddings
    from sparcode.semantic_id.recipe import Recipe
    from sparcode.semantic_id.sources import embed_like as embed_by

    require_kind(out)
    embeddings = embed_by(items, Recipe.load(like), options.resolve_config(None, None, changes).data)
    write_embeddings(out, embeddings)
    notes = embeddings.facts(alike=True).notes()
    return {"out": str(out), "items": len(embeddings), "width": embeddings.width, "sources": {}, "notes": notes}


def _require_recipe(recipe: Path, out: Path, given: dict[str, Any]) -> None:
    if recipe.suffix != ".safetensors" or recipe.absolute() == out.absolute():
        raise typer.BadParameter(
            f"{recipe}: expected a name of its own that ends with .safetensors", param_hint="--recipe"
        )
    content = [given[name] for name in ("text_columns", "text_model", "features")]
    if content == [None] * 3 and (given["behaviour"] or given["run"]):
        raise typer.BadParameter(
            "behaviour and runs know nothing of new items, so that the recipe could embed none; add --text-columns or "
            "--features, or leave it out",
            param_hint="--recipe",
        )


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _about(source: dict[str, Any]) -> str:
    shown = {key: value for key, value in source.items() if key not in ("ignored", "model_hash")}
    parts = (f"{key} {', '.join(value) if isinstance(value, list) else value}" for key, value in shown.items())
    return ", ".join(parts).replace("_", " ")
