"""The plot of the costs: dots where something was measured, lines where the formulas say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from costing.choose import points_of, usual_width, varied_points
from costing.fits import MODELS, predicted
from sparcode.files import atomic_path

Point = dict[str, Any]
Document = dict[str, Any]


def plot(document: Document, path: Path) -> None:
    """Draw measured points and the lines of the formulas, six panels, as one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Callable[[Any, Document], None]] = [
        _draw_items, _draw_read, _draw_graphs, _draw_beams, _draw_candidates, _draw_scoring,
    ]  # fmt: skip
    for axes, draw in zip(figure.subplots(2, 3).ravel(), panels, strict=True):
        draw(axes, document)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _ticks(axes.xaxis)
        _ticks(axes.yaxis)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def _ticks(axis: Any) -> None:
    """Label 1, 2 and 5 of each decade, in plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _curve(
    axes: Any, document: Document, model: str, points: list[Point], x: Callable[[Point], float], label: str
) -> None:
    """Dots where it was measured, a line where the formula says."""
    points = sorted(points, key=x)
    places = [x(point) for point in points]
    value = MODELS[model].value
    [line] = axes.plot(places, [predicted(model, document["fits"], point) for point in points], linewidth=1)
    axes.plot(places, [point[value] for point in points], "o", markersize=4, color=line.get_color(), label=label)


def _draw_items(axes: Any, document: Document) -> None:
    retrieval = document["curves"]["retrieval"]
    _curve(axes, document, "search", varied_points(retrieval, "items"), _items, "SparCode")
    _curve(axes, document, "scan", points_of(retrieval, "exact", width=usual_width(retrieval)), _items, "scan")
    for ef in sorted({point["ef"] for point in points_of(retrieval, "hnsw")}):
        _curve(axes, document, "walk", points_of(retrieval, "hnsw", ef=ef), _items, f"HNSW, ef = {ef}")
    axes.set_title("A query over items (dots measured, lines formula)", fontsize=9)
    axes.set_xlabel("n")
    axes.set_ylabel("µs, p50")


def _items(point: Point) -> float:
    return float(point["items"])


def _draw_read(axes: Any, document: Document) -> None:
    retrieval = document["curves"]["retrieval"]
    for what, label in (("tokens", "K_u varied"), ("list", "p varied"), ("codes", "C varied")):
        _curve(axes, document, "search", varied_points(retrieval, what), lambda point: float(point["read"]), label)
    axes.set_title("SparCode over postings read", fontsize=9)
    axes.set_xlabel("postings")
    axes.set_ylabel("µs, p50")


def _draw_graphs(axes: Any, document: Document) -> None:
    _curve(axes, document, "graph", document["curves"]["graphs"], _items, "HNSW")
    axes.set_title("Building a graph", fontsize=9)
    axes.set_xlabel("n")
    axes.set_ylabel("s")


def _draw_beams(axes: Any, document: Document) -> None:
    for layers in (0, 4):
        points = [point for point in document["curves"]["decoding"] if point["layers"] == layers]
        label = f"{layers} decoder layers" if layers else "output layers alone"
        _curve(axes, document, "decoding", points, lambda point: float(point["beams"]), label)
    axes.set_title("Decoding semantic IDs", fontsize=9)
    axes.set_xlabel("beams")
    axes.set_ylabel("µs, p50")


def _draw_candidates(axes: Any, document: Document) -> None:
    for kind in ("dot", "hadamard"):
        points = [point for point in document["curves"]["rescoring"] if point["kind"] == kind]
        _curve(axes, document, "rescoring", points, lambda point: float(point["candidates"]), kind)
    axes.set_title("Rescoring over candidates", fontsize=9)
    axes.set_xlabel("R")
    axes.set_ylabel("µs, p50")


def _draw_scoring(axes: Any, document: Document) -> None:
    for item_tokens in (1, 4):
        points = [point for point in document["curves"]["scoring"] if point["item_tokens"] == item_tokens]
        most = max(point["hidden"] for point in points)
        same = [point for point in points if point["hidden"] == most]
        _curve(axes, document, "scoring", same, lambda point: float(point["codes"]), f"H = {most}, K_c = {item_tokens}")
    axes.set_title("Offline scoring of an item over codes", fontsize=9)
    axes.set_xlabel("C")
    axes.set_ylabel("µs an item")
