"""Choosing points of curves by their sizes."""

from __future__ import annotations

from typing import Any

Point = dict[str, Any]


def points_of(points: list[Point], system: str, **wanted: Any) -> list[Point]:
    """Return the points of a system whose sizes are the ``wanted`` ones."""
    return [p for p in points if p["system"] == system and all(p.get(key) == value for key, value in wanted.items())]


def varied_points(points: list[Point], varied: str) -> list[Point]:
    """Return SparCode's points that differ from the first one (the base) in ``varied`` alone, in rising order."""
    ours = points_of(points, "sparcode", held_out=False)
    fixed = {key: ours[0][key] for key in ("items", "codes", "list", "tokens", "k") if key != varied}
    return sorted(points_of(ours, "sparcode", **fixed), key=lambda point: point[varied])


def usual_width(points: list[Point]) -> int:
    """Return the width d of the graphs, that of all curves that do not vary it."""
    return next(point["width"] for point in points if point["system"] == "hnsw")
