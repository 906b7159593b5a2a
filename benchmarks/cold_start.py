"""How good is sparcode where others know nothing: new items, new users, rare items?

Part ``items``: a share of the items is withheld. Their events are in no training or validation set; the items stay in
the catalogue and can be known by content alone. Every user with a withheld event gives one query: the target is the
last such event, the history what the user did before it, withheld items left out. It is answered over all items and
among the withheld items only; the validation targets of the same run (ordinary items) stand beside it.

Part ``users``: an ordinary run. Its test queries with the history cut to the last 0, 1, 2, 3 and 5 events; and, with
whole histories, NDCG@10 by the number of training events of the target.

Finished runs are reused, finished cells are not measured again.

    python benchmarks/cold_start.py ml-100k --seeds 0,1,2
    python benchmarks/cold_start.py DATA --part items --share 10 --retrievers sparcode,all-to-all,two-tower
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from shared import Results, Row, config_of, folders, hold_run, label, notes, parser_of, table, trained

from sparcode.config import Config, DataConfig, updated
from sparcode.data.cleaning import clean
from sparcode.data.dataset import Dataset
from sparcode.data.features import with_user_features
from sparcode.data.tables import Tables, read_tables
from sparcode.errors import DataError
from sparcode.eval.bootstrap import paired_difference, percentile_intervals
from sparcode.eval.evaluate import EvaluationResult, evaluate
from sparcode.eval.machine import one_thread
from sparcode.eval.run import evaluation_set_of
from sparcode.index.arrays import Arrays, read_arrays, write_arrays
from sparcode.index.build import build_index
from sparcode.index.searcher import open as open_searcher
from sparcode.retrievers.learned import SparcodeRetriever
from sparcode.retrievers.registry import available, open_retrievers
from sparcode.run import Run
from sparcode.seeding import generator
from sparcode.types import NO_ITEM, EvaluationSet, Hits, Queries, Retriever

OURS, CACHE, THEIRS = "sparcode", "sparcode-cache", "two-tower"
METRICS = ("recall@10", "ndcg@10", "recall@50")
METRIC, CUTOFF = "ndcg@10", 10
OF_ITEMS = (OURS, CACHE, THEIRS, "additive", "content-knn", "counts", "popular")
OF_USERS = (OURS, THEIRS, "content-knn", "recent-popular", "popular")
SHARE = 5.0
"""Percent of the items that are withheld."""
SPLIT = "cold_start_split"
"""Column of parts in the table that the run of part ``items`` is trained on."""
EVENTS = (0, 1, 2, 3, 5, None)
"""Events known of a new user; None: all."""
SLICES = ((0, 0), (1, 5), (6, 20), (21, 100), (101, None))
"""Least and greatest number of training events of a target."""
VALUES = "cold_start-{}.safetensors"
"""Per-query values of a cell, kept in its run: ``SET/users`` int32 and ``SET/RETRIEVER/METRIC`` float64."""
SETS = {
    "withheld": "withheld items, ranked among all items",
    "among": "withheld items, ranked among the withheld",
    "ordinary": "ordinary items (validation), ranked among all",
}
BUILT = ("policy", "codes", "density_percent", "cache_bytes", "postings_per_query", "items_in_no_list", "build_s")


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure the cells that are missing, write JSON and Markdown, print the tables."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2], metavar="S,...")
    parser.add_argument("--part", choices=("items", "users"), help="absent: both")
    parser.add_argument("--share", type=_percent, default=SHARE, metavar="P", help="percent of the items withheld")
    parser.add_argument("--gains", type=_factors, default=[], metavar="X,...", help="families.item.new_gain to compare")
    parser.add_argument("--retrievers", metavar="NAME,...", help="part items; absent: " + ", ".join(OF_ITEMS))
    options = parser.parse_args(arguments)
    work, out = folders(options, "cold_start")
    config = updated(config_of(options), {"baselines.two_tower": True})
    names = options.retrievers.split(",") if options.retrievers else None
    question = f"{label(options.data)}: new items, new users, rare items; seeds {options.seeds}"
    results = Results(out, question, lambda rows: markdown_of(rows, work))
    for seed in options.seeds:
        seeded = updated(config, {"seed": seed})
        if options.part != "users":
            run = trained_cold(options.data, work, seeded, options.share)
            key = {"share": options.share, "retrievers": names, "from": seeded.data.model_dump()}
            _cell(results, options.data, run, "items", key, lambda run, values: measure_items(run, values, names))
            for gain in options.gains:
                identity = {"data": label(options.data), "part": "gain", "gain": gain, "model_hash": run.model_hash}
                results.cell(identity, partial(measure_gain, run, gain))
        if options.part != "items":
            run = trained(options.data, work, f"seed-{seed}", seeded, baselines=True)
            _cell(results, options.data, run, "users", {}, measure_users)
    results.show()
    return results


def _cell(results: Results, data: str, run: Run, part: str, key: Row, measure: Callable[[Run, Path], Row]) -> None:
    given = {"data": label(data), "part": part, **key, "run": run.config.model_dump(), "model_hash": run.model_hash}
    values = VALUES.format(_digest(given))
    identity = json.loads(json.dumps({**given, "folder": run.folder.name, "values": values}))
    if not (run.folder / values).exists():  # the intervals need every query's values: measure again
        results.rows = [row for row in results.rows if row["config"] != identity]
    results.cell(identity, lambda: measure(run, run.folder / values))


def _digest(content: Row) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def trained_cold(data: str, work: Path, config: Config, share: float) -> Run:
    """Train on ``data`` less the events of ``share`` percent of the items, or open that run when it is finished."""
    digest = _digest({"data": label(data), "config": config.model_dump(), "share": share})
    folder = work / f"withheld-{share:g}-seed-{config.seed}-{digest}"
    if (folder / "run.json").exists():
        return Run.open(folder)
    from sparcode.train.run import train_run

    tables = cold_tables(read_tables(data, config.data.columns.values()), config.data, share, config.seed)
    print(f"training {folder}", flush=True)
    return train_run(tables, folder, cold_config(config), resume=True, baselines=True)


def cold_config(config: Config) -> Config:
    """Return ``config`` for ``cold_tables``: parts by column; filters are off, for they were applied."""
    applied = {"data.where": None, "data.min_rating": None, "data.k_core": 0, "data.time_cut": None}
    columns = {**config.data.columns, "split": SPLIT}
    return updated(config, {**applied, "data.split_by": "column", "data.columns": columns})


def cold_tables(tables: Tables, config: DataConfig, share: float, seed: int) -> Tables:
    """Clean ``tables`` and add the column ``SPLIT``, in which events of withheld items are test.

    All of them stay in the table, so that no item leaves the catalogue. Of the others a user's last event is
    validation, if there are two or more, and the rest train. DataError when there is no table of items.
    """
    if tables.items is None:
        raise DataError(f"{tables.source} holds no items table; items that nobody knows yet need content to be found")
    events, _ = clean(tables.interactions, config.model_copy(update={"split_by": "none"}))
    withheld = choose_items(events.items, len(events.item_ids), share, seed)
    parts = parts_of(events.users, withheld[events.items])
    rows = tables.interactions.take(pa.array(events.rows)).append_column(SPLIT, pa.array(parts))
    return Tables(rows, tables.items, tables.users, source=f"{tables.source}, {share:g} % of the items withheld")


def choose_items(items: np.ndarray, item_count: int, share: float, seed: int) -> np.ndarray:
    """Return (item_count,) bool: ``share`` percent, at least one, of the items that occur in ``items``, at random."""
    present = np.unique(items)
    count = max(1, round(share / 100 * len(present)))
    withheld = np.zeros(item_count, np.bool_)
    withheld[generator(seed, "withheld items").choice(present, count, replace=False)] = True
    return withheld


def parts_of(users: np.ndarray, withheld: np.ndarray) -> np.ndarray:
    """Return the part of each event, (events,) text; events are sorted by user and time."""
    parts = np.where(withheld, "test", "train").astype("<U5")
    known = np.flatnonzero(~withheld)
    ends = np.flatnonzero(np.append(users[known][1:] != users[known][:-1], True))
    counts = np.diff(ends, prepend=-1)
    parts[known[ends[counts >= 2]]] = "valid"
    return parts


def withheld_items(dataset: Dataset) -> np.ndarray:
    """Return (n,) bool: items of a run on ``cold_tables`` that occur in neither training nor validation."""
    withheld = np.asarray(dataset.popularity) == 0
    if dataset.validation is not None:
        withheld[dataset.validation.target_items] = False
    return withheld


def cold_queries(run: Run) -> tuple[EvaluationSet, int]:
    """Return a query for every user with a withheld event, and how many users are left out for want of a history.

    Target: the last withheld event. History: the events before it whose items are not withheld.
    """
    serving, users = run.dataset.serving, run.dataset.user_count
    hidden = withheld_items(run.dataset)[serving.items]
    owners = np.repeat(np.arange(users), np.diff(serving.indptr))
    last = np.full(users, -1, np.int64)
    np.maximum.at(last, owners[hidden], np.flatnonzero(hidden))
    kept = ~hidden & (np.arange(len(owners)) < last[owners])
    sizes = np.bincount(owners[kept], minlength=users)
    asked = np.flatnonzero(sizes)
    places = last[asked]
    times = serving.times[places] if len(serving.times) else None
    queries = Queries(np.concatenate(([0], np.cumsum(sizes[asked]))).astype(np.int64), serving.items[kept], times=times)
    targets = np.arange(len(asked) + 1, dtype=np.int64)
    held = EvaluationSet(asked.astype(np.int32), queries, targets, serving.items[places])
    if not len(held):
        raise DataError(f"{run.folder}: no user has a withheld event after another one; raise --share")
    return _with_features(run, held), int((last >= 0).sum()) - len(held)


def _with_features(run: Run, held: EvaluationSet) -> EvaluationSet:
    ordinary, features = run.held_out("validation"), run.dataset.user_features
    if ordinary is None or ordinary.queries.user_features is None or features is None:
        return held  # the model reads none
    return with_user_features(held, features)


class Among:
    """A retriever that may answer with ``allowed`` (n,) bool items only.

    SparCode gets them as its allow list, so that it finds what its lists hold and fills up by popularity, which for
    items without training events is a random order. Any other retriever ranks everything, and the rest is struck out.
    """

    def __init__(self, retriever: Retriever, allowed: np.ndarray) -> None:
        self.retriever, self.allowed, self.name = retriever, allowed, retriever.name

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits, padded where fewer than k items are allowed."""
        inner = self.retriever
        if isinstance(inner, SparcodeRetriever):
            pipeline: Any = inner.pipeline
            answer: Hits = pipeline.retrieve(
                queries, k, rescore=inner.rescore, include_seen=include_seen, allow=self.allowed
            )
            return answer
        return first_allowed(inner.retrieve(queries, len(self.allowed), include_seen=include_seen), self.allowed, k)


def first_allowed(hits: Hits, allowed: np.ndarray, k: int) -> Hits:
    """Return the first k hits of each row whose items are allowed, in their order."""
    kept = (hits.ids != NO_ITEM) & allowed[hits.ids]
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept, ids, scores = (np.take_along_axis(array, order, axis=1) for array in (kept, hits.ids, hits.scores))
    missing = ((0, 0), (0, max(k - order.shape[1], 0)))
    ids = np.pad(np.where(kept, ids, NO_ITEM), missing, constant_values=NO_ITEM)
    scores = np.pad(np.where(kept, scores, -np.inf), missing, constant_values=-np.inf)
    return Hits(ids.astype(np.int32), scores.astype(np.float32))


def measure_items(run: Run, values: Path, names: list[str] | None) -> Row:
    """Build the index of a run on ``cold_tables``, ask for withheld and for ordinary items, and write ``values``."""
    print(f"{run.folder.name}: building and evaluating", flush=True)
    names = names or [name for name in OF_ITEMS if name in available(run)]
    withheld = withheld_items(run.dataset)
    cold, without_history = cold_queries(run)
    with one_thread():
        built = build_index(run.folder)
        opened = open_retrievers(run, names)
        found = {
            "withheld": _evaluated(run, opened, cold),
            "among": _evaluated(run, [Among(each, withheld) for each in opened], cold),
            "ordinary": _evaluated(run, opened, evaluation_set_of(run, "validation")),
        }
    write_arrays(values, values_of(found), {})
    return {
        **_facts(run, built, found),
        "items": len(withheld),
        "withheld": int(withheld.sum()),
        "items_without_training": run.dataset.summary["items_without_training"],
        "users_without_history": without_history,
        "reach": reach(run, withheld),
    }


def measure_gain(run: Run, gain: float) -> Row:
    """Build a copy of a run on ``cold_tables`` with one gain of new items; means over queries, by set and system."""
    print(f"{run.folder.name}: gain {gain:g}", flush=True)
    copy = run.folder.with_name(f"{run.folder.name}-gain")
    hold_run(run.folder, copy)
    run = Run.open(copy)
    sets = {"withheld": cold_queries(run)[0], "ordinary": evaluation_set_of(run, "validation")}
    with one_thread():
        build_index(run.folder, overrides={"families.item.new_gain": gain})
        opened = open_retrievers(run, [OURS, CACHE])
        found = {name: _evaluated(run, opened, held) for name, held in sets.items()}
    return {
        name: {each.retriever: {key: each.metrics[key] for key in METRICS} for each in results}
        for name, results in found.items()
    }


def reach(run: Run, withheld: np.ndarray) -> Row:
    """Say for each code family how well lists hold items: share of items in any list, mean lists an item is in."""
    index = open_searcher(run.index_folder).index
    rows: Row = {}
    for family in index.families:
        low, high = int(index.indptr[family.first_row]), int(index.indptr[family.stop_row])
        lists = np.bincount(np.asarray(index.postings[low:high]) >> 8, minlength=len(withheld))
        rows[family.name] = {
            name: {"in_any_list": float((lists[mask] > 0).mean()), "lists_an_item": float(lists[mask].mean())}
            for name, mask in (("withheld", withheld), ("others", ~withheld))
        }
    return rows


def measure_users(run: Run, values: Path) -> Row:
    """Build the index of an ordinary run, ask with short histories and by target, and write ``values``."""
    print(f"{run.folder.name}: building and evaluating", flush=True)
    full = evaluation_set_of(run, "test")
    with one_thread():
        built = build_index(run.folder)
        opened = open_retrievers(run, [name for name in OF_USERS if name in available(run)])
        found = {_known(events): _evaluated(run, opened, cut_histories(full, events)) for events in EVENTS}
    slices = slices_of(found[_known(None)], np.asarray(run.dataset.popularity))
    write_arrays(values, values_of(found) | slices, {})
    return {
        **_facts(run, built, found),
        "slices": {_slice(*bounds): _slice_row(slices, _slice(*bounds)) for bounds in SLICES},
    }


def cut_histories(held: EvaluationSet, events: int | None) -> EvaluationSet:
    """Return the queries with the last ``events`` of their histories (None: all); targets stay."""
    if events is None:
        return held
    queries = held.queries
    sizes = np.minimum(np.diff(queries.indptr), events)
    indptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    places = np.arange(indptr[-1]) + np.repeat(queries.indptr[1:] - indptr[1:], sizes)
    cut = Queries(indptr, queries.items[places], queries.user_features, queries.times)
    return EvaluationSet(held.users, cut, held.target_indptr, held.target_items)


def slices_of(results: list[EvaluationResult], popularity: np.ndarray) -> Arrays:
    """Return users and NDCG@10 of the targets of every slice, as in ``VALUES``; every target is a query of its own."""
    held = results[0].evaluation_set
    users = np.repeat(held.users, np.diff(held.target_indptr))
    events = popularity[held.target_items]
    gains = {result.retriever: gains_of(result.ranks) for result in results if result.retriever in (OURS, THEIRS)}
    arrays: Arrays = {}
    for low, high in SLICES:
        inside = (events >= low) & (events <= (np.inf if high is None else high))
        arrays[f"{_slice(low, high)}/users"] = users[inside]
        arrays |= {f"{_slice(low, high)}/{name}/{METRIC}": values[inside] for name, values in gains.items()}
    return arrays


def _slice_row(slices: Arrays, name: str) -> Row:
    values = {system: slices[f"{name}/{system}/{METRIC}"] for system in (OURS, THEIRS)}
    means = {system: float(array.mean()) if len(array) else None for system, array in values.items()}
    return {"targets": len(values[OURS]), METRIC: means}


def gains_of(ranks: np.ndarray) -> np.ndarray:
    """Return the NDCG@10 of single targets from their 0-based ranks, -1 where they were not found."""
    found = (ranks >= 0) & (ranks < CUTOFF)
    return np.where(found, 1.0 / np.log2(np.maximum(ranks, 0) + 2.0), 0.0)


def _known(events: int | None) -> str:
    return "all events" if events is None else f"last {events}"


def _slice(low: int, high: int | None) -> str:
    return f">{low - 1}" if high is None else f"{low}-{high}" if high > low else str(low)


def _evaluated(run: Run, retrievers: Sequence[Retriever], held: EvaluationSet) -> list[EvaluationResult]:
    # Small batches: ``Among`` asks for whole rankings.
    return [evaluate(each, held, run.dataset.item_count, seed=run.config.seed, batch=256) for each in retrievers]


def _facts(run: Run, built: Row, found: dict[str, list[EvaluationResult]]) -> Row:
    return {
        "seed": run.config.seed,
        "training": run.record["training"],
        "index": {key: built[key] for key in BUILT if key in built},
        "results": {name: [result.to_json() for result in results] for name, results in found.items()},
    }


def values_of(found: dict[str, list[EvaluationResult]]) -> Arrays:
    """Return the per-query values of all sets and retrievers under the names of ``VALUES``."""
    arrays: Arrays = {}
    for name, results in found.items():
        arrays[f"{name}/users"] = results[0].evaluation_set.users
        for result in results:
            arrays |= {f"{name}/{result.retriever}/{metric}": result.values[metric] for metric in METRICS}
    return arrays


def pooled(files: Sequence[Arrays], name: str, key: str) -> np.ndarray:
    """Return (users,) means of ``RETRIEVER/METRIC`` over a user's queries of one set in all seeds, by user."""
    users = np.concatenate([file[f"{name}/users"] for file in files])
    values = np.concatenate([file[f"{name}/{key}"] for file in files])
    place = np.unique(users, return_inverse=True)[1].reshape(-1)
    return np.bincount(place, values) / np.maximum(np.bincount(place), 1)


def markdown_of(rows: list[Row], work: Path) -> str:
    """Return the tables of the parts that were measured."""
    texts = []
    for part, render in (("items", _items_text), ("users", _users_text)):
        mine = [row for row in rows if row["config"]["part"] == part]
        if mine:
            files = [work / row["config"]["folder"] / row["config"]["values"] for row in mine]
            texts.append(render(mine, [read_arrays(file) for file in files]))
    texts += [gains_text([row for row in rows if row["config"]["part"] == "gain"])]
    return "\n".join(text for text in texts if text)


def gains_text(rows: list[Row]) -> str:
    """Return a table of gains by sets and systems, means over the seeds."""
    if not rows:
        return ""
    pairs = [(name, system) for name in ("withheld", "ordinary") for system in (CACHE, OURS)]
    body = []
    for gain in sorted({row["config"]["gain"] for row in rows}):
        mine = [row for row in rows if row["config"]["gain"] == gain]
        cells = [f"{np.mean([row[name][system][METRIC] for row in mine]):.4f}" for name, system in pairs]
        body.append([f"{gain:g}", *cells, str(len(mine))])
    lines = ["families.item.new_gain: factor of items without training events in item lists; ordinary: validation"]
    header = ["gain", *(f"{name} {system} {METRIC}" for name, system in pairs), "seeds"]
    return table(header, body) + notes(lines)


def _items_text(rows: list[Row], files: list[Arrays]) -> str:
    texts = []
    for name, title in SETS.items():
        body = []
        for result in rows[0]["results"][name]:
            system = result["retriever"]
            cells = [_interval(pooled(files, name, f"{system}/{metric}")) for metric in METRICS]
            body.append([system, *cells, _fill_rate(rows, name, system)])
        texts.append(table([title, *METRICS, "filled"], body))
    return "\n".join(texts) + notes(_items_notes(rows))


def _items_notes(rows: list[Row]) -> list[str]:
    counts = [f"{row['withheld']:,} of {row['items']:,}" for row in rows]
    queries = ", ".join(f"{row['results']['withheld'][0]['queries']:,}" for row in rows)
    without = ", ".join(f"{row['users_without_history']:,}" for row in rows)
    chance = np.mean([min(1.0, CUTOFF / row["withheld"]) for row in rows])
    return [
        f"withheld, drawn at random: {', '.join(dict.fromkeys(counts))} items; none of their events is in training, "
        "validation or a history",
        f"queries for withheld items, one a user, by seed: {queries}; history: what came before the target; users "
        f"left out because nothing did: {without}",
        f"a random order of the withheld items has recall@10 {chance:.4f} among them (popular is one)",
        "among the withheld: SparCode answers with an allow list and fills up in random order what its lists do not "
        "hold; the others rank all items and the rest is struck out; filled: share of the first 10 places",
        "the ordinary figures are of validation, which selected epochs and weights of sparcode",
        INTERVALS,
        *_reach_notes(rows),
    ]


INTERVALS = (
    "in brackets the 95 % bootstrap interval over users, whose values are averaged over the seeds first: it is about "
    "users, for these runs and these items"
)


def _reach_notes(rows: list[Row]) -> list[str]:
    lines = []
    for family in rows[0]["reach"]:
        cells = []
        for kind in ("withheld", "others"):
            share, lists = (
                np.mean([row["reach"][family][kind][key] for row in rows]) for key in ("in_any_list", "lists_an_item")
            )
            cells.append(f"{share:.0%} of the {kind} in any, {lists:.1f} lists an item")
        lines.append(f"lists of the {family} family: {'; '.join(cells)}")
    return lines


def _fill_rate(rows: list[Row], name: str, system: str) -> str:
    rates = [each["fill_rate"] for row in rows for each in row["results"][name] if each["retriever"] == system]
    return f"{np.mean(rates):.0%}"


def _users_text(rows: list[Row], files: list[Arrays]) -> str:
    systems = [result["retriever"] for result in rows[0]["results"][_known(None)]]
    body = []
    for name in rows[0]["results"]:
        body.append([name, *(_interval(pooled(files, name, f"{system}/{METRIC}")) for system in systems)])
    queries = rows[0]["results"][_known(None)][0]["queries"]
    lines = [
        f"{METRIC} on test, {queries:,} queries; users with fewer events are asked with what they have",
        "the answers leave out the known events only, so a longer history also rules out more wrong items; features of "
        "users, where a system reads them, are known from the first",
        INTERVALS,
    ]
    return table(["events known", *systems], body) + notes(lines) + "\n" + _slices_text(rows, files)


def _slices_text(rows: list[Row], files: list[Arrays]) -> str:
    body = []
    for bounds in SLICES:
        name = _slice(*bounds)
        ours, theirs = (pooled(files, name, f"{system}/{METRIC}") for system in (OURS, THEIRS))
        targets = np.mean([row["slices"][name]["targets"] for row in rows])
        body.append([name, f"{targets:,.0f}", _interval(ours), _interval(theirs), _difference(ours, theirs)])
    header = ["training events of the target", "targets", f"{OURS} {METRIC}", f"{THEIRS} {METRIC}", "difference"]
    return table(header, body) + notes(["test, whole histories; targets: mean over the seeds; " + INTERVALS])


def _interval(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    low, high = percentile_intervals({"value": values})["value"]
    return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    if not len(ours):
        return "-"
    found = paired_difference(ours, theirs)
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers, e.g. 0,1,2") from None


def _factors(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected factors, e.g. 1,1.3,1.5") from None


def _percent(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected percent of the items, above 0 and below 100")
    return share


if __name__ == "__main__":
    main()
