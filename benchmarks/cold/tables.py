"""Tables of the cold start benchmark, with intervals over users."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shared import Row, notes, table

from cold.users import SLICES, known, slice_of
from cold.values import CACHE, CUTOFF, METRIC, METRICS, OURS, THEIRS, pooled
from sparcode.eval.bootstrap import paired_difference, percentile_intervals
from sparcode.index.arrays import Arrays, read_arrays

SETS = {
    "withheld": "withheld items, ranked among all items",
    "among": "withheld items, ranked among the withheld",
    "ordinary": "ordinary items (validation), ranked among all",
}
INTERVALS = (
    "in brackets the 95 % bootstrap interval over users, whose values are averaged over the seeds first: it is about "
    "users, for these runs and these items"
)


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
    systems = [result["retriever"] for result in rows[0]["results"][known(None)]]
    body = []
    for name in rows[0]["results"]:
        body.append([name, *(_interval(pooled(files, name, f"{system}/{METRIC}")) for system in systems)])
    queries = rows[0]["results"][known(None)][0]["queries"]
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
        name = slice_of(*bounds)
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
