"""Plots of ``sparcode benchmark --scale``: recall, latency and bytes; growth with the items; opening; threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparcode.report.plots import save_figure

Size = dict[str, Any]
_OURS = {"sparcode-learned": "#e67e22", "sparcode-default": "#c0392b"}
_PALETTE = ("#2980b9", "#16a085", "#8e44ad", "#2c3e50", "#7f8c8d", "#27ae60", "#d35400", "#34495e", "#1abc9c")


def plot_scale(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write the PNG files into ``folder`` and return their paths. Raises MissingExtraError without matplotlib."""
    sizes = document["sizes"]
    drawings: dict[str, tuple[Callable[[Any, list[Size]], None], int]] = {
        "recall-latency": (_recall_latency, len(sizes)),
        "quality-latency-bytes": (_quality_latency, len(sizes)),
        "growth": (_growth, 3),
        "opening": (_opening, len(sizes)),
        "threads": (_threads, 1),
    }
    return [
        save_figure(Path(folder) / f"scale-{name}.png", columns, lambda axes, draw=draw: draw(axes, sizes))  # type: ignore[misc]
        for name, (draw, columns) in drawings.items()
    ]


def _recall_latency(axes: list[Any], sizes: list[Size]) -> None:
    """Curves of the dense engines at k = 10; ours are points, at their share of the two-tower's best."""
    for place, size in zip(axes, sizes, strict=True):
        for name, cell in _measured(size).items():
            place.plot(
                *zip(*_front(cell["10"]["curve"]), strict=True),
                marker=".",
                label=name,
                color=_colour(size, name),
                linewidth=1,
            )
        for name, colour in _OURS.items():
            time = size["retrieval"]["latency_us"]["10"][name]["p50"]
            recall = size["retrieval"]["index_recall"]["10"][name]
            place.plot(time, recall, marker="*", markersize=14, color=colour, label=name, linestyle="")
        _latency_axis(place, size, "share of the exact two-tower's best 10")
    _legend(axes)


def _quality_latency(axes: list[Any], sizes: list[Size]) -> None:
    """Whole queries: NDCG against p50; the area of a mark grows with the bytes that are opened."""
    for place, size in zip(axes, sizes, strict=True):
        for row in size["whole"]:
            if row["latency_us"] is None:
                continue
            name, opened = row["system"], _opened_bytes(size, row["system"])
            low, high = row["intervals"]["ndcg@10"]
            value, time = row["metrics"]["ndcg@10"], row["latency_us"]["total"]["p50"]
            colour = _OURS.get(name.removesuffix("-cache"), "#2980b9")
            place.errorbar(time, value, yerr=[[value - low], [high - value]], color=colour, capsize=2, linewidth=0.8)
            marker = "o" if name in _OURS else "^" if name.endswith("-cache") else "s"
            label = f"{name}, {opened / 1e6:.1f} MB"
            place.scatter(
                time, value, s=20 + 60 * (opened / 1e6) ** 0.5, color=colour, alpha=0.6, marker=marker, label=label
            )
        _latency_axis(place, size, "NDCG@10 (95 % interval)")
    _legend(axes, markerscale=0.5)


def _growth(axes: list[Any], sizes: list[Size]) -> None:
    items = [size["items"] for size in sizes]
    for name, colour in _OURS.items():
        short = name.removeprefix("sparcode-")
        built = [size["index"][short] for size in sizes]
        axes[0].plot(items, [each["build_s"] for each in built], marker="o", color=colour, label=name)
        axes[1].plot(items, [each["peak_bytes"] / 2**30 for each in built], marker="o", color=colour, label=name)
        axes[2].plot(
            items, [size["postings_of"][short]["cache_bytes"] / 1e6 for size in sizes], marker="o", color=colour
        )
    for name in sorted({name for size in sizes for name in _measured(size)}):
        there = [size for size in sizes if name in _measured(size)]
        places, colour = [size["items"] for size in there], _colour(sizes[0], name)
        axes[0].plot(
            places, [size["dense"][name]["build_seconds"] for size in there], marker=".", label=name, color=colour
        )
        axes[2].plot(places, [size["dense"][name]["bytes"] / 1e6 for size in there], marker=".", color=colour)
    for place, label in zip(
        axes, ("build, seconds (one thread)", "peak memory of the build, GiB", "index, MB"), strict=True
    ):
        place.set(xscale="log", yscale="log", xlabel="items", ylabel=label)
        place.grid(alpha=0.3)
    _legend(axes[:1])


def _opening(axes: list[Any], sizes: list[Size]) -> None:
    for place, size in zip(axes, sizes, strict=True):
        times = {name: each for name, each in size["opening"].items() if name != "sparcode_process"}
        for shift, key in enumerate(("open_warm_s", "answer_warm_s", "answer_cold_s")):
            places = [row + 0.25 * shift for row in range(len(times))]
            label = key.removesuffix("_s").replace("_", ", ")
            place.barh(places, [1e3 * each[key] for each in times.values()], height=0.25, label=label)
        place.set_yticks([row + 0.25 for row in range(len(times))], list(times), fontsize=7)
        place.invert_yaxis()
        place.set(xscale="log", xlabel="milliseconds", title=f"{size['items']:,} items")
    _legend(axes[:1])


def _threads(axes: list[Any], sizes: list[Size]) -> None:
    for size, colour in zip(sizes, _PALETTE, strict=False):
        rates = size["retrieval"]["batch_qps"]["10"]
        ours = {1: rates["sparcode-learned"], 2: rates.get("sparcode-learned-2-threads")}
        known = [(threads, rate) for threads, rate in ours.items() if rate]
        axes[0].plot(*zip(*known, strict=True), marker="o", label=f"{size['items']:,} items", color=colour)
    axes[0].set(xlabel="threads", ylabel="queries/s, k=10, 8 lists of 256", xticks=[1, 2], ylim=(0, None))
    axes[0].grid(alpha=0.3)
    _legend(axes)


def _front(curve: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return (p50, index recall) of the points that no faster one beats."""
    front: list[tuple[float, float]] = []
    for point in sorted(curve, key=lambda point: (point["p50"], -point["values"]["index_recall"])):
        if not front or point["values"]["index_recall"] > front[-1][1]:
            front.append((point["p50"], point["values"]["index_recall"]))
    return front


def _latency_axis(place: Any, size: Size, label: str) -> None:
    place.set(xscale="log", xlabel="p50, µs (one thread)", ylabel=label, title=f"{size['items']:,} items")
    place.xaxis.set_major_formatter("{x:g}")
    place.xaxis.set_minor_formatter("")
    place.grid(alpha=0.3, which="both")


def _measured(size: Size) -> dict[str, Any]:
    return {
        name: cell for name, cell in size["dense"].items() if "missing" not in cell and len(cell["10"]["curve"]) > 0
    }


def _colour(size: Size, name: str) -> str:
    names = list(size["dense"])
    return _PALETTE[(names.index(name) if name in names else len(name)) % len(_PALETTE)]


def _opened_bytes(size: Size, system: str) -> int:
    short = system.removeprefix("sparcode-").removesuffix("-cache")
    if short in size["postings_of"]:
        parts = size["postings_of"][short]
        return int(parts["cache_bytes"] + (0 if system.endswith("-cache") else parts["rescorer_bytes"]))
    name = system.removeprefix("two-tower-")
    return int(size["dense"][name]["bytes"]) if name in size["dense"] else int(256 * size["items"])


def _legend(axes: list[Any], markerscale: float = 1.0) -> None:
    for place in axes:
        place.legend(fontsize=6, markerscale=markerscale)
