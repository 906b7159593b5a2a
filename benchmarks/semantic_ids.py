"""Which semantic-ID method keeps what an embedding knows, on real items?

For items embedded from text, from behaviour (co-occurrences in training histories) and from both, every method is fit
with several seeds: use of the codewords, collisions before and after handling (items of equal vectors apart),
reconstruction, recall of the 10 nearest neighbours, purity of prefixes against categories, and agreement with held-out
co-purchases (last training item, next item), the last two as multiples of chance. Random codes and base conversion
are the control rows.

    python benchmarks/semantic_ids.py DATA [--sources text,behaviour,fused] [--seeds 0,1,2] [--methods rq-kmeans,rq-vae]
    python benchmarks/semantic_ids.py DATA --plum      # each option of PLUM's RQ-VAE switched on, beside off
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from shared import ROOT, Results, Row, label, table

from sparcode.config import DataConfig
from sparcode.data.dataset import load_dataset
from sparcode.data.storage import Dataset
from sparcode.data.tables import read_tables
from sparcode.errors import DataError, QueryError
from sparcode.eval.machine import one_thread
from sparcode.semantic_id.embeddings import Embeddings
from sparcode.semantic_id.report import report
from sparcode.semantic_id.sources import AUTO, Items, Sources, embed, open_items
from sparcode.semantic_id.tokenizer import SemanticIdTokenizer
from sparcode.types import Sequences

Choice = tuple[str, str, dict[str, Any]]
"""Name of a row, method, arguments of the tokenizer."""

METHODS: list[Choice] = [
    ("RQ-KMeans 4x256", "rq-kmeans", {"codebooks": 4, "codebook_size": 256}),
    ("RQ-VAE 4x256", "rq-vae", {"codebooks": 4, "codebook_size": 256}),
    ("RQ-KMeans 8x256", "rq-kmeans", {"codebooks": 8, "codebook_size": 256}),
    ("RQ-VAE 8x256", "rq-vae", {"codebooks": 8, "codebook_size": 256}),
    ("VQ-VAE 1x4096", "vq-vae", {"codebooks": 1, "codebook_size": 4096}),
    ("PQ 4x256", "pq", {"codebooks": 4, "codebook_size": 256}),
    ("OPQ 4x256", "opq", {"codebooks": 4, "codebook_size": 256}),
    ("FSQ 4x256", "fsq", {"codebooks": 4, "codebook_size": 256}),
    ("hierarchical k-means", "hierarchical-kmeans", {}),
    ("LSH 4x256", "lsh", {"codebooks": 4, "codebook_size": 256}),
    ("category prefix, 3 + 3", "category-prefix", {"codebooks": 6, "category_digits": 3}),
    ("base conversion (control)", "base", {"codebooks": 4, "codebook_size": 256}),
    ("random (control)", "random", {"codebooks": 4, "codebook_size": 256}),
]
_RQ_VAE = {"codebooks": 4, "codebook_size": 256}
PLUM: list[Choice] = [
    ("RQ-VAE, none of them", "rq-vae", _RQ_VAE),
    ("+ InfoNCE", "rq-vae", _RQ_VAE | {"contrastive_weight": 0.1}),
    ("+ multi-resolution", "rq-vae", {"codebooks": 4, "codebook_size": [1024, 512, 128, 64]}),
    ("+ progressive masking", "rq-vae", _RQ_VAE | {"progressive_masking": True}),
    (
        "+ all three",
        "rq-vae",
        {"codebooks": 4, "codebook_size": [1024, 512, 128, 64], "contrastive_weight": 0.1, "progressive_masking": True},
    ),
]
SOURCES: dict[str, dict[str, Any]] = {
    # All columns with words, as usual; where categories are among them, purity is easier than for titles alone.
    "text": {"text_columns": [AUTO]},
    "title": {"text_columns": ["title"]},
    "behaviour": {"behaviour": "counts"},
    "fused": {"text_columns": [AUTO], "behaviour": "counts"},
}
READS_CATEGORIES = ("category-prefix",)
SAME_FOR_EVERY_SEED = ("base", "category-prefix")


@dataclass(frozen=True)
class World:
    """What a table needs of one data set, by row of the embeddings."""

    embeddings: Embeddings
    categories: list[str | None]
    broad: list[str | None]
    train: Sequences
    held_out: Sequences


@one_thread("torch")
def main(arguments: list[str] | None = None) -> Results:
    """Fit and measure every method, source and seed; print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="a folder with interactions.* and items.*")
    parser.add_argument("--sources", default="text,behaviour", help="of text, title, behaviour, fused")
    parser.add_argument("--methods", help="kinds, e.g. rq-kmeans,pq; absent: all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--width", type=int, default=128, help="columns of an embedding")
    parser.add_argument("--depth", type=int, default=3, help="levels of a category path that purity is measured for")
    parser.add_argument("--collisions", default="extra-digit", help="how collisions are handled")
    parser.add_argument("--plum", action="store_true", help="the table of RQ-VAE options")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/semantic_ids[_plum]-DATA.json")
    given = parser.parse_args(arguments)
    name = "semantic_ids_plum" if given.plum else "semantic_ids"
    out = given.out or ROOT / "benchmarks" / "results" / f"{name}-{label(given.data)}.json"
    results = Results(out, (__doc__ or "").splitlines()[0], rendered)
    for source in given.sources.split(","):
        world = open_world(given.data, source, given.width, given.depth)
        for choice in chosen(given):
            for seed in map(int, given.seeds.split(",")):
                if seed == 0 or choice[1] not in SAME_FOR_EVERY_SEED:
                    results.cell(*cell(world, given, source, choice, seed))
    results.show()
    return results


def chosen(given: argparse.Namespace) -> list[Choice]:
    """Return the rows of the table."""
    rows = PLUM if given.plum else METHODS
    kinds = None if given.methods is None else given.methods.split(",")
    return [row for row in rows if kinds is None or row[1] in kinds]


def cell(
    world: World, given: argparse.Namespace, source: str, choice: Choice, seed: int
) -> tuple[Row, Callable[[], Row]]:
    """Return what is measured and how."""
    name, method, options = choice
    digest = hashlib.sha256(world.embeddings.vectors.tobytes()).hexdigest()[:12]
    config = {
        "data": label(given.data), "source": source, "embeddings": digest, "name": name, "method": method,
        "options": options, "seed": seed, "collisions": given.collisions, "depth": given.depth,
    }  # fmt: skip
    return config, partial(measure, world, method, options, given.collisions, seed)


def open_world(data: str, source: str, width: int, depth: int) -> World:
    """Embed the items of ``data`` and number categories and histories by the rows of the embeddings."""
    sources = Sources(**SOURCES[source], width=width)
    embeddings, about = embed(data, sources)
    print(f"{source}: {about}", flush=True)
    dataset = load_dataset(read_tables(data), DataConfig(text_width=0), seed=0)
    items = open_items(data, sources)
    rows = items.ids.join(dataset.item_ids.external)
    paths = category_paths(items)
    broad = [None if path is None else " > ".join(path.split(" > ")[:depth]) for path in paths]
    return World(embeddings, paths, broad, _renumbered(dataset.train, rows), held_out_pairs(dataset, rows))


def category_paths(items: Items) -> list[str | None]:
    """Return the first category of every item; None where it has none."""
    name = next((name for name in ("categories", "category") if items.table and name in items.table.column_names), None)
    if items.table is None or name is None:
        return [None] * len(items.ids)
    values: list[Any] = items.table[name].to_pylist()
    return [(value[0] if value else None) if isinstance(value, list) else value for value in values]


def _renumbered(sequences: Sequences, rows: np.ndarray) -> Sequences:
    return Sequences(sequences.indptr, rows[sequences.items].astype(np.int32), sequences.times)


def held_out_pairs(dataset: Dataset, rows: np.ndarray) -> Sequences:
    """Return rows of two items: the last of a history and the one held out behind it, of validation and test."""
    pairs: list[tuple[int, int]] = []
    for held in (dataset.validation, dataset.test):
        for place in range(0 if held is None else len(held)):
            assert held is not None
            history, targets = held.queries.history(place), held.targets(place)
            if len(history) and len(targets):
                pairs.append((int(history[-1]), int(targets[0])))
    if not pairs:
        raise DataError("the data hold out no event; co-purchases are measured on held-out events")
    flat = rows[np.array(pairs, np.int64).ravel()].astype(np.int32)
    return Sequences(np.arange(len(pairs) + 1, dtype=np.int64) * 2, flat, np.zeros(0))


def measure(world: World, method: str, options: dict[str, Any], collisions: str, seed: int) -> Row:
    """Fit one method and return all figures."""
    vectors = np.ascontiguousarray(world.embeddings.vectors)
    categories = world.categories if method in READS_CATEGORIES else None
    tokenizer = SemanticIdTokenizer(method, collisions=collisions, seed=seed, **options)
    started = time.perf_counter()
    tokenizer.fit(vectors, world.embeddings.ids, categories, world.train if options.get("contrastive_weight") else None)
    seconds = time.perf_counter() - started
    content = tokenizer.semantic_ids.codes[:, : tokenizer.semantic_ids.content_digits]
    if collisions in ("none", "extra-digit") and method != "base":
        assert np.array_equal(content, tokenizer.encode(vectors, categories)), "SIDs and codes differ"
    try:
        decoded = tokenizer.decode(content)
    except QueryError:
        decoded = None
    found = report(
        content, tokenizer.codec.sizes, vectors=vectors, decoded=decoded, categories=world.broad,
        histories=world.held_out,
    )  # fmt: skip
    after = tokenizer.semantic_ids
    return {
        "sizes": list(tokenizer.codec.sizes), "fit_seconds": seconds, "report": found.as_dict(),
        "collisions_after": after.collision_rate, "sid_sizes": list(after.sizes), "handling": tokenizer.report,
    }  # fmt: skip


def rendered(rows: list[Row]) -> str:
    """Return one table a source, a row a method: means over seeds, with the range where they differ."""
    parts = []
    for source in dict.fromkeys(row["config"]["source"] for row in rows):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row["config"]["source"] == source:
                groups.setdefault(row["config"]["name"], []).append(row)
        body = [[name, *(figure(group) for figure in FIGURES.values())] for name, group in groups.items()]
        first = next(iter(groups.values()))[0]["report"]["collisions"]
        title = f"**{source}**: {first['items']:,} items, {first['duplicate_rate']:.2%} of them equal an earlier vector"
        parts.append(f"{title}\n\n{table(['method', *FIGURES], body)}")
    return "\n".join(parts)


def spread(value: Callable[[Row], float | None], form: str = ".3f") -> Callable[[list[Row]], str]:
    """Return a function that gives the mean of a figure over seeds and its range in brackets."""

    def text(rows: list[Row]) -> str:
        values = [found for found in map(value, rows) if found is not None]
        if not values:
            return ""
        low, high = min(values), max(values)
        mean = format(sum(values) / len(values), form)
        return mean if format(low, form) == format(high, form) else f"{mean} [{low:{form}}, {high:{form}}]"

    return text


def _lift(name: str, length: int) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        agreement = row["report"][name]
        return None if agreement is None or length > len(agreement["lift"]) else agreement["lift"][length - 1]

    return value


def _neighbour(name: str) -> Callable[[Row], float | None]:
    return lambda row: row["report"]["neighbours"][name]


FIGURES: dict[str, Callable[[list[Row]], str]] = {
    "seeds": lambda rows: str(len(rows)),
    "digits": lambda rows: "x".join(map(str, rows[0]["sizes"])),
    "least usage": spread(lambda row: min(digit["usage"] for digit in row["report"]["digits"])),
    "least perplexity / size": spread(
        lambda row: min(digit["perplexity"] / digit["size"] for digit in row["report"]["digits"])
    ),
    "collisions": spread(lambda row: row["report"]["collisions"]["rate"], ".4f"),
    "of distinct vectors": spread(lambda row: row["report"]["collisions"]["rate_apart"], ".4f"),
    "after handling": spread(lambda row: row["collisions_after"], ".4f"),
    "variance explained": spread(lambda row: row["report"]["explained"]),
    "neighbours by distance": spread(_neighbour("by_distance")),
    "by prefix": spread(_neighbour("by_prefix")),
    "by digits": spread(_neighbour("by_digits")),
    "purity 1 digit, x chance": spread(_lift("purity", 1), ".2f"),
    "2 digits": spread(_lift("purity", 2), ".2f"),
    "co-purchase 1 digit, x chance": spread(_lift("co_purchase", 1), ".2f"),
    "co-purchase 2": spread(_lift("co_purchase", 2), ".2f"),
    "fit, s": spread(lambda row: row["fit_seconds"], ".1f"),
}


if __name__ == "__main__":
    main()
