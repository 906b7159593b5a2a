"""Plots of a benchmark: quality against latency, bytes, and the recall curve of the graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparcode.errors import MissingExtraError
from sparcode.files import atomic_path
from sparcode.report.tables import system_label

_COLOURS = {"sparcode": "#c0392b", "sparcode-cache": "#e67e22", "two-tower-exact": "#2c3e50"}
_OTHERS = {"two-tower-faiss-hnsw": "#2980b9", "two-tower-hnswlib": "#16a085"}
_MARKERS = "osD^"
_BYTES = {"cache_bytes": "#e67e22", "rescoring_bytes": "#c0392b", "encoder_bytes": "#7f8c8d"}


def plot_benchmark(document: dict[str, Any], folder: Path, *, stem: str = "benchmark") -> list[Path]:
    """Write the PNG files of a benchmark document into ``folder`` and return their paths.

    Raises MissingExtraError without matplotlib.
    """
    drawings: dict[str, Callable[[Any, dict[str, Any]], None]] = {
        "quality-latency": _quality_latency,
        "bytes": _bytes,
    }
    if document.get("curves"):
        drawings["recall-ef"] = _recall_curve
    return [_save(draw, document, Path(folder) / f"{stem}-{name}.png") for name, draw in drawings.items()]


def _save(draw: Callable[[Any, dict[str, Any]], None], document: dict[str, Any], path: Path) -> Path:
    figure_class, canvas_class = _matplotlib()
    figure = figure_class(figsize=(8.5, 5), layout="constrained")
    canvas_class(figure)  # the Agg canvas, without pyplot: no global state, no display
    draw(figure.add_subplot(), document)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=140)
    return path


def save_figure(path: Path, columns: int, draw: Callable[[list[Any]], None]) -> Path:
    """Write a PNG of ``columns`` axes side by side, drawn by ``draw(axes)``. MissingExtraError without matplotlib."""
    figure_class, canvas_class = _matplotlib()
    figure = figure_class(figsize=(max(6.0, 5.5 * columns), 4.8), layout="constrained")
    canvas_class(figure)
    draw([figure.add_subplot(1, columns, place + 1) for place in range(columns)])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "drawing plots") from None
    return Figure, FigureCanvasAgg


def _quality_latency(axes: Any, document: dict[str, Any]) -> None:
    metric = f"ndcg@{document.get('settings', {}).get('k', 10)}"
    marks: dict[str, int] = {}
    for row in document["rows"]:
        total, value = row["latency_us"]["total"], row["metrics"][metric]
        low, high = row.get("intervals", {}).get(metric, (value, value))
        error = [[max(value - low, 0)], [max(high - value, 0)]]
        tail = [[0], [max(total["p95"] - total["p50"], 0)]]
        marks[row["system"]] = marks.get(row["system"], -1) + 1  # points of one graph differ by their marker
        marker = _MARKERS[marks[row["system"]] % len(_MARKERS)]
        style = {"fmt": marker, "capsize": 3, "elinewidth": 0.8, "color": _colour(row["system"])}
        axes.errorbar(total["p50"], value, yerr=error, xerr=tail, label=system_label(row), **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("whole query, µs (p50, whisker to p95; one thread, encoding included)")
    axes.set_ylabel(f"{metric} (95 % interval)")
    axes.set_title("Quality against latency")
    axes.grid(alpha=0.3, which="both")
    axes.figure.legend(loc="outside lower center", ncols=3, fontsize=8)


def _bytes(axes: Any, document: dict[str, Any]) -> None:
    rows = document["rows"]
    left = [0.0] * len(rows)
    labels = [system_label(row) for row in rows]
    for part, colour in _BYTES.items():
        widths = [row[part] / 1e6 for row in rows]
        axes.barh(range(len(rows)), widths, left=left, color=colour, label=part.removesuffix("_bytes"))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, total in enumerate(left):
        axes.annotate(f" {total:.2f}", (total, place), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("MB (10^6 bytes)")
    axes.set_title("Bytes the online path opens")
    axes.figure.legend(loc="outside lower center", ncols=3, fontsize=8)


def _recall_curve(axes: Any, document: dict[str, Any]) -> None:
    for library, curve in document["curves"].items():
        points = [(point["ef"], point["index_recall"]) for point in curve]
        axes.plot(*zip(*points, strict=True), marker="o", label=library, color=_colour(f"two-tower-{library}"))
    for value in (0.95, 0.99):
        axes.axhline(value, color="#7f8c8d", linewidth=0.8, linestyle="--")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("ef (candidates kept while searching)")
    axes.set_ylabel(f"index_recall@{document.get('settings', {}).get('k', 10)}")
    axes.set_title("Recall of the graphs against exact search")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _colour(system: str) -> str:
    return (_COLOURS | _OTHERS).get(system, "#8e44ad")
