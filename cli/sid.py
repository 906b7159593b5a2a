"""``sparcode sid``: semantic IDs of items from their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import options
from .command import group
from .output import in_json, is_quiet, note, print_pairs
from .sid_progress import FitProgress

app = group("Make and use semantic IDs of items.")

METHODS = "rq-kmeans, rq-vae, vq-vae, pq, opq, fsq, hierarchical-kmeans, lsh, category-prefix, base, random"

EmbeddingsFile = Annotated[
    Path,
    typer.Argument(
        metavar="EMBEDDINGS",
        help="One vector an item: .npy, .parquet, .safetensors, .pt, or a folder of `sparcode embed`.",
        show_default=False,
    ),
]
SidFolder = Annotated[Path, typer.Argument(metavar="SID", help="Folder written by `sparcode sid fit`.")]
Column = Annotated[
    str | None,
    typer.Option("--column", metavar="NAME", help="Which column or tensor of EMBEDDINGS, if there are several."),
]
ItemsTable = Annotated[
    Path | None, typer.Option("--items", metavar="FILE", help="Table of items that has their categories.")
]
CategoryColumn = Annotated[
    str, typer.Option("--category-column", metavar="NAME", help="Its column: a text such as 'A > B', or a list.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="codebooks, codebook_size (a number or [512,256]), collisions (none, extra-digit, next-best, "
        "sinkhorn-last), standardise (global, columns, none), fit_rows, extra_size, or an option of the method; "
        "may be repeated.",
    ),
]


@app.command("fit")
def fit_command(
    embeddings: EmbeddingsFile,
    out: Annotated[Path, typer.Option("--out", metavar="SID", help="Folder to write or replace.", show_default=False)],
    method: Annotated[str, typer.Option("--method", metavar="NAME", help=METHODS + ".")] = "rq-kmeans",
    settings: Settings = None,
    column: Column = None,
    items: ItemsTable = None,
    category_column: CategoryColumn = "categories",
    histories: Annotated[
        str | None,
        typer.Option("--histories", metavar="RUN|DATA", help="Training histories, for methods that learn from them."),
    ] = None,
    device: options.Device = "auto",
    seed: options.Seed = None,
    json: options.Json = None,
) -> None:
    """Learn semantic IDs from embeddings and give every item one."""
    given = parse_settings(settings or [])
    if "device" in given:
        raise typer.BadParameter("give the device with --device", param_hint="--set")
    given |= {"device": device} if seed is None else {"device": device, "seed": seed}
    summary = fit(
        embeddings,
        out,
        method,
        given,
        column=column,
        categories=categories_of(items, category_column),
        histories=histories,
        quiet=json is not None or is_quiet(),
    )
    if in_json(summary, json):
        return
    print_pairs(readable(summary))
    note(f"wrote {out}; next: sparcode sid export {out} --format parquet --out items.parquet")


@app.command("encode")
def encode_command(
    sid: SidFolder,
    embeddings: EmbeddingsFile,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="*.parquet, *.json, or a folder for arrays.", show_default=False),
    ],
    column: Column = None,
    append: Annotated[bool, typer.Option("--append", help="Keep new items in SID.")] = False,
    items: ItemsTable = None,
    category_column: CategoryColumn = "categories",
    json: options.Json = None,
) -> None:
    """Write the SIDs of items; known items keep theirs, new ones get free ones."""
    known, new = encode(
        sid, embeddings, out, column=column, append=append, categories=categories_of(items, category_column)
    )
    if not in_json({"out": out, "known": known, "new": new}, json):
        note(f"wrote {out}: {known:,} known items, {new:,} new ones{' (kept)' if append and new else ''}")


@app.command("decode")
def decode_command(
    sid: SidFolder,
    codes: Annotated[
        Path,
        typer.Argument(
            metavar="CODES", help="A mapping (.parquet, .json, folder) or SIDs (n, L) as .npy.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="E.npy", help="File to write.", show_default=False)],
    json: options.Json = None,
) -> None:
    """Write the vectors that SIDs stand for."""
    rows, width = decode(sid, codes, out)
    if not in_json({"out": out, "vectors": rows, "width": width}, json):
        note(f"wrote {out}: {rows:,} vectors of width {width}")


@app.command("info")
def info_command(
    sid: SidFolder,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="Show the SID of this item.")] = None,
    code: Annotated[
        str | None, typer.Option("--sid", metavar="1-2-3", help="Show the items of this SID or prefix.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option("--embeddings", metavar="FILE", help="Vectors of the items: adds what their codes keep of them."),
    ] = None,
    column: Column = None,
    items: ItemsTable = None,
    category_column: CategoryColumn = "categories",
    histories: Annotated[
        str | None,
        typer.Option("--histories", metavar="RUN|DATA", help="Adds how well codes agree with training histories."),
    ] = None,
    json: options.Json = None,
) -> None:
    """Describe a tokenizer: sizes, fill, collisions, quality; or look one item or SID up."""
    beside = any(given is not None for given in (embeddings, items, histories))
    if (item is not None) + (code is not None) + beside > 1:
        raise typer.BadParameter("ask for one item, one SID, or the quality", param_hint="--item, --sid, --embeddings")
    categories = categories_of(items, category_column)
    content = info(sid, item, code, embeddings, column=column, categories=categories, histories=histories)
    if not in_json(content, json):
        print_pairs(content if item or code else readable(content))


@app.command("export")
def export_command(
    sid: SidFolder,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="File, or folder for llm and npy, to write or replace.", show_default=False
        ),
    ],
    format: Annotated[
        Literal["parquet", "json", "npy", "llm"],
        typer.Option("--format", help="llm: added tokens, items and histories as JSONL for language models."),
    ] = "parquet",
    histories: Annotated[
        str | None, typer.Option("--histories", metavar="RUN|DATA", help="Whose histories go along (llm).")
    ] = None,
    json: options.Json = None,
) -> None:
    """Write items and SIDs for other programs."""
    if histories is not None and format != "llm":
        raise typer.BadParameter("histories are written with --format llm only", param_hint="--histories")
    written = export(sid, out, format, histories)
    if not in_json({"lines": written}, json):
        note("wrote " + ", ".join(f"{name} ({count:,} lines)" for name, count in written.items()))


def fit(
    embeddings: Path,
    out: Path,
    method: str,
    settings: dict[str, Any],
    *,
    column: str | None = None,
    categories: tuple[Path, str] | None = None,
    histories: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fit a tokenizer, save it to ``out`` and return its description; ``quiet``: without progress."""
    from sparcode.semantic_id.store import check_target
    from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

    check_target(out)
    tokenizer = _with_settings(SemanticIdTokenizer, method, settings)
    _warn_of_unread(method, settings, categories, histories)
    with FitProgress(quiet) as progress:
        progress.stage("reading embeddings")
        x, ids = read(embeddings, column)
        sequences = None if histories is None else _training_histories(histories, ids)
        given = (x, ids, _categories(categories, ids), sequences)
        tokenizer.fit(*given, report=progress.epoch, stage=progress.stage)
        progress.stage("writing")
        tokenizer.save(out)
    return dict(tokenizer.info())


def encode(
    sid: Path,
    embeddings: Path,
    out: Path,
    *,
    column: str | None = None,
    append: bool = False,
    categories: tuple[Path, str] | None = None,
) -> tuple[int, int]:
    """Write the SIDs of the items of ``embeddings``; returns how many were known and how many are new."""
    from sparcode.semantic_id.mapping_files import check_mapping_path, require_target, write_mapping
    from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

    require_target(out, check_mapping_path(out))
    tokenizer = SemanticIdTokenizer.load(sid)
    _warn_of_unread(tokenizer.method, {}, categories, None)
    x, ids = read(embeddings, column, alike=True)
    known = int((tokenizer.semantic_ids.rows_of(ids) >= 0).sum())
    give = tokenizer.append if append else tokenizer.assign
    given = give(x, ids, _categories(categories, ids))
    if append and known < len(ids):
        # Kept before they are told: a SID that somebody read is never given to another item.
        tokenizer.save(sid)
    write_mapping(given, out)
    return known, len(ids) - known


def decode(sid: Path, codes: Path, out: Path) -> tuple[int, int]:
    """Write the reconstructions; returns their shape."""
    from sparcode.files import require_writable
    from sparcode.semantic_id.mapping_files import read_codes, write_array
    from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

    if out.suffix != ".npy":
        raise typer.BadParameter(f"{out}: expected a name that ends with .npy", param_hint="--out")
    require_writable(out)
    vectors = SemanticIdTokenizer.load(sid).decode(read_codes(codes))
    write_array(out, vectors)
    return int(vectors.shape[0]), int(vectors.shape[1])


def info(
    sid: Path,
    item: str | None = None,
    code: str | None = None,
    embeddings: Path | None = None,
    *,
    column: str | None = None,
    categories: tuple[Path, str] | None = None,
    histories: str | None = None,
) -> dict[str, Any]:
    """Describe the tokenizer, beside vectors, categories and histories if they are given, or answer one look-up."""
    from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

    tokenizer = SemanticIdTokenizer.load(sid)
    if item is not None:
        return {"item_id": item, "sid": "-".join(map(str, tokenizer.semantic_ids.code_of(item)))}
    if code is not None:
        return {"sid": code, "items": tokenizer.semantic_ids.items_under([parse_sid(code)])[0]}
    if embeddings is None and categories is None and histories is None:
        return dict(tokenizer.info())
    ids = tokenizer.semantic_ids.ids
    quality = tokenizer.quality(
        None if embeddings is None else _aligned(embeddings, column, tokenizer.codec.width, ids),
        _categories(categories, ids),
        None if histories is None else _training_histories(histories, ids),
    )
    found = {name: value for name, value in quality.as_dict().items() if value is not None and name != "digits"}
    return dict(tokenizer.info()) | {"quality": found, "notes": quality.notes()}


def export(sid: Path, out: Path, format: str, histories: str | None = None) -> dict[str, int]:
    """Write ``out`` and return the lines of every file."""
    from sparcode.semantic_id.llm import FILES, write_llm
    from sparcode.semantic_id.mapping_files import require_target, write_mapping
    from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

    require_target(out, format, *([FILES] if format == "llm" else []))
    mapping = SemanticIdTokenizer.load(sid).semantic_ids
    if format != "llm":
        write_mapping(mapping, out, format)
        return {str(out): len(mapping)}
    from sparcode.semantic_id.histories import read_histories

    events = None if histories is None else read_histories(histories, mapping.ids)
    return {str(out / name): count for name, count in write_llm(mapping, out, events).items()}


def read(path: Path, column: str | None, *, alike: bool = False) -> tuple[Any, Any]:
    """Return vectors (n, d) and ids (n); ``alike``: all vectors may be equal."""
    from sparcode.semantic_id.embeddings import read_embeddings

    embeddings = read_embeddings(path, column=column, alike=alike)
    return embeddings.vectors, embeddings.ids


def parse_settings(overrides: list[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` texts; values are written as in TOML, anything else is text."""
    from sparcode.config import parse_value

    settings: dict[str, Any] = {}
    for override in overrides:
        key, separator, text = (part.strip() for part in override.partition("="))
        if not separator or not key:
            raise typer.BadParameter(f"{override!r}: expected KEY=VALUE, e.g. codebooks=4", param_hint="--set")
        settings[key.replace("-", "_")] = parse_value(text)
    return settings


def parse_sid(text: str) -> list[int]:
    """Parse ``12-7-255``."""
    try:
        return [int(digit) for digit in text.split("-")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: expected digits joined by '-', e.g. 12-7-255", param_hint="--sid"
        ) from None


def categories_of(items: Path | None, column: str) -> tuple[Path, str] | None:
    """Return where categories are read from, None when no table was given."""
    return None if items is None else (items, column)


def readable(content: dict[str, Any]) -> dict[str, Any]:
    """Return the description with counts that people read: 4,294,967,296 rather than digits in a row."""
    shown = dict(content) | {name: f"{content[name]:,}" for name in ("items", "distinct", "capacity")}
    settings = {name: value for name, value in shown.pop("settings").items() if value is not None}
    shown["sizes"] = " x ".join(map(str, content["sizes"]))
    for name in ("usage", "perplexity"):
        shown[name] = " ".join(f"{value:.3g}" for value in content[name])
    notes, fitted, quality = shown.pop("notes"), shown.pop("when_fitted"), shown.pop("quality", {})
    # Lists of the training are of its codebooks; those of the digits stand above.
    training = {name: value for name, value in shown.pop("training", {}).items() if not isinstance(value, list)}
    shown |= {"notes": "; ".join(notes)} if notes else {}
    shown |= {"quality": quality, "settings": settings, "collisions when fitted": fitted}
    return shown | ({"training": training} if training else {})


def _with_settings(factory: Any, method: str, settings: dict[str, Any]) -> Any:
    if {"method", "self"} & set(settings):
        raise typer.BadParameter("give the method with --method", param_hint="--set")
    return factory(method, **settings)


def _aligned(path: Path, column: str | None, width: int, ids: Any) -> Any:
    from sparcode.semantic_id.embeddings import read_embeddings

    vectors = read_embeddings(path, column=column, alike=True)
    vectors.require_width(width)
    return vectors.aligned(ids)


def _warn_of_unread(method: str, settings: dict[str, Any], categories: Any, histories: str | None) -> None:
    import warnings

    if categories is not None and method != "category-prefix":
        warnings.warn(f"{method} reads no categories: --items changes nothing (category-prefix does)", stacklevel=2)
    if histories is not None and not settings.get("contrastive_weight"):
        warnings.warn(
            "--histories changes nothing: rq-vae and vq-vae read them with --set contrastive_weight=0.1 or another "
            "weight above 0",
            stacklevel=2,
        )


def _training_histories(source: str, ids: Any) -> Any:
    from sparcode.semantic_id.histories import read_histories

    return read_histories(source, ids).train


def _categories(source: tuple[Path, str] | None, ids: Any) -> list[str | None] | None:
    if source is None:
        return None
    from sparcode.semantic_id.histories import read_categories

    return read_categories(*source, ids)
