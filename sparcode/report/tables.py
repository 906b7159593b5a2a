"""Evaluation and benchmark documents as Markdown and as tables for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparcode.data.repeats import repeats_line

if TYPE_CHECKING:
    from rich.table import Table

EVALUATION_METRICS = ("recall@10", "ndcg@10", "recall@50", "ndcg@50", "hit_rate@10", "mrr", "coverage@10")
# What makes cells, tags, entities and links. ``*`` and ``_`` stay: names of ours have them, and emphasis hides nothing.
_MARKUP = re.compile(r"[\\|]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<=\])[(\[:]")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
Rows = tuple[list[str], list[list[str]]]


def evaluation_rows(document: dict[str, Any]) -> Rows:
    """Return header and cells of the JSON of ``sparcode evaluate``; ndcg@10 carries its interval."""
    header = ["retriever", *EVALUATION_METRICS, "queries"]
    body = [
        [result["retriever"], *(_metric(result, name) for name in EVALUATION_METRICS), f"{result['queries']:,}"]
        for result in document["results"]
    ]
    return header, body


def benchmark_rows(document: dict[str, Any]) -> Rows:
    """Return header and cells of the JSON of ``sparcode benchmark``; times in microseconds, p50 / p95."""
    k = document.get("settings", {}).get("k", 10)
    header = ["system", f"recall@{k}", f"ndcg@{k}", f"index_recall@{k}", "cache MB", "rescoring MB", "encoder MB"]
    header += ["build s", "encode µs", "retrieve µs", "rescore µs", "total µs p50 / p95", "batch queries/s"]
    return header, [_benchmark_row(row, k) for row in document["rows"]]


def system_label(row: dict[str, Any]) -> str:
    """Return the name of a benchmark row, with its ef where it has one."""
    return f"{row['system']} (ef {row['ef']})" if "ef" in row else str(row["system"])


def markdown(rows: Rows) -> str:
    """Return a Markdown table: first column left, the others right."""
    header, body = rows
    lines = [_markdown_row(header), "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *map(_markdown_row, body)]) + "\n"


def markdown_text(text: str) -> str:
    """Return text for Markdown that shows what it is: no table, tag, image or line of its own comes from a name in it.

    Control characters become ``?``, blanks of any kind a space.
    """
    plain = "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), plain)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def evaluation_markdown(document: dict[str, Any]) -> str:
    """Return the table of an evaluation and the notes its results carry."""
    text = markdown(evaluation_rows(document))
    return text + _notes(evaluation_notes(document))


def benchmark_markdown(document: dict[str, Any]) -> str:
    """Return the table of a benchmark, what it ran on, and its warnings."""
    return markdown(benchmark_rows(document)) + _notes(benchmark_notes(document))


def evaluation_notes(document: dict[str, Any]) -> list[str]:
    """Return what belongs under the table of an evaluation: split, samples, held-out items that are repeats."""
    notes = [f"split: {document['split']}; brackets: 95 % bootstrap interval over users, each with all its queries"]
    results: Sequence[dict[str, Any]] = document["results"]
    notes += [f"{result['retriever']}: {result['note']}" for result in results if result.get("note")]
    return notes + _repeat_notes(results, "--include-seen ranks them, query.include_seen=true trains for them")


def benchmark_notes(document: dict[str, Any]) -> list[str]:
    """Return what belongs under the table of a benchmark: machine, settings, operating points, repeats, warnings."""
    machine, settings = document["machine"], document.get("settings", {})
    where = f"{machine.get('cpu')}, {machine.get('cores')} cores, one thread used; Python {machine.get('python')}"
    notes = [where, f"commit {document.get('commit') or 'unknown'}; MB = 10^6 bytes; total includes encoding"]
    if "timed_users" in settings:
        notes.append(f"{settings['timed_users']:,} users timed, {settings['rounds']} rounds, systems interleaved")
    for row in document["rows"]:
        if row.get("operating_points"):
            notes.append(f"{system_label(row)}: smallest ef for {', '.join(row['operating_points'])}")
        if row.get("not_reached"):
            notes.append(f"{system_label(row)}: did not reach {', '.join(row['not_reached'])}")
    if any(row.get("include_seen") for row in document["rows"]):
        notes.append("quality ranks items of the history too (query.include_seen); timed searches leave them out")
    notes += _repeat_notes(document["rows"], "sparcode evaluate --include-seen ranks them")
    if any(_stages_exceed_total(row) for row in document["rows"]):
        notes.append("stages are timed one by one, total as the one call that users make; so stages may sum to more")
    return notes + document.get("warnings", [])


def rich_table(rows: Rows, title: str | None = None) -> Table:
    """Return the same rows for a terminal."""
    from rich.table import Table

    header, body = rows
    table = Table(title=title)
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for cells in body:
        table.add_row(*cells)
    return table


def _metric(result: dict[str, Any], name: str) -> str:
    value = result["metrics"].get(name)
    if value is None:
        return "-"
    interval = result.get("intervals", {}).get(name) if name == "ndcg@10" else None
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else f"{value:.4f}"


def _benchmark_row(row: dict[str, Any], k: int) -> list[str]:
    latency = row["latency_us"]
    megabytes = [f"{row[part] / 1e6:.2f}" for part in ("cache_bytes", "rescoring_bytes", "encoder_bytes")]
    build = "-" if row["build_s"] is None else f"{row['build_s']:.1f}"
    stages = [f"{latency[stage]['p50']:.0f}" for stage in ("encode", "retrieve", "rescore")]
    total = f"{latency['total']['p50']:.0f} / {latency['total']['p95']:.0f}"
    quality = [_metric(row, f"recall@{k}"), _metric(row, f"ndcg@{k}"), f"{row['index_recall']:.3f}"]
    return [system_label(row), *quality, *megabytes, build, *stages, total, f"{row['batch_qps']:,.0f}"]


def _repeat_notes(rows: Sequence[dict[str, Any]], remedy: str) -> list[str]:
    """State how many held-out items are repeats; rows of samples hold fewer, so the largest row speaks."""
    row = max(rows, key=lambda each: each.get("repeats", 0), default={})
    if not row.get("repeats") or row.get("include_seen"):
        return []
    if "targets" not in row:  # a document of an earlier version
        return [f"{row['repeats']:,} held-out items already stand in their history and count as misses; {remedy}"]
    return [repeats_line(row["repeats"], row["targets"], "held-out items", remedy)]


def _stages_exceed_total(row: dict[str, Any]) -> bool:
    latency = row["latency_us"]
    stages = sum(latency[stage]["p50"] for stage in ("encode", "retrieve", "rescore"))
    return bool(stages > latency["total"]["p50"])


def _notes(lines: list[str]) -> str:
    return "\n" + "".join(f"- {markdown_text(line)}\n" for line in lines)
