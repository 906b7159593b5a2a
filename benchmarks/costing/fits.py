"""Cost models: a time is a sum of counts, each times a constant in nanoseconds, fitted to a measured curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Point = dict[str, Any]
Terms = dict[str, float]

LAST_CACHE = 16e6
"""Bytes that stay in the last cache between two scans; of more, nothing does."""


def decades(point: Point) -> float:
    """Return log10(n / 10^4): how many times the data of an item grew beyond the near caches."""
    return math.log10(point["items"] / 1e4)


def search_terms(point: Point) -> Terms:
    """A call, K_u lists (dearer the more bytes all lists take), postings (dearer the larger the accumulator), k."""
    far = max(math.log10(4 * point["postings"] / 1e6), 0.0)
    return {
        "call": 1.0, "list": point["tokens"], "list · log10(4 P / 10⁶)": point["tokens"] * far,
        "posting": point["read"],
        "posting · log10(n / 10⁴)": point["read"] * max(decades(point), 0.0), "result": point["k"],
    }  # fmt: skip


def scan_terms(point: Point) -> Terms:
    """A call, n d products, n items looked at for the best k, and all bytes again where they outgrow the last cache."""
    size = 4 * point["items"] * point["width"]
    return {
        "call": 1.0, "product": point["items"] * point["width"], "item": point["items"],
        "byte from memory": size if size > LAST_CACHE else 0.0,
    }  # fmt: skip


def walk_terms(point: Point) -> Terms:
    """A call, distances (dearer as vectors and links leave the near caches), ef pops, each a look at ef candidates."""
    return {
        "call": 1.0, "distance": point["distances"],
        "distance · log10(n / 10⁴)": point["distances"] * max(decades(point), 0.0), "ef²": point["ef"] ** 2,
    }  # fmt: skip


def decoding_terms(point: Point) -> Terms:
    """Levels (dozens of small numpy calls a layer), products, and b N sums among which the best b are chosen."""
    return {
        "level": point["levels"], "level and layer": point["levels"] * point["layers"],
        "product": point["logit_products"] + point["layer_products"],
        "sum b N": point["entering"] * point["codewords"],
    }  # fmt: skip


def rescoring_terms(point: Point) -> Terms:
    """A call, tokens folded into the first layer, products and candidates (each a row somewhere in memory)."""
    pairs = point["candidates"] * point["tokens"]
    return {
        "call": 1.0, "candidate and token": pairs, "product": point["products"],
    }  # fmt: skip


def scoring_terms(point: Point) -> Terms:
    """An item: products to fold it, products of W partial sums, C pairs of H units, C scores."""
    return {
        "fold product": point["item_tokens"] * point["width"] * point["hidden"],
        "partial product": point["words"] * point["depth"] * point["hidden"],
        "pair and unit": point["codes"] * point["hidden"], "pair": point["codes"],
    }  # fmt: skip


def graph_terms(point: Point) -> Terms:
    """n insertions, each a search that grows with log n."""
    return {"item": point["items"], "item · log10(n / 10⁴)": point["items"] * max(decades(point), 0.0)}


def distance_powers(point: Point) -> Terms:
    """Distances of a search go about with a power of ef (neighbours were seen before) and one of n."""
    return {"ef": point["ef"] / 100, "n": point["items"] / 1e4}


class Model(NamedTuple):
    """Which points of which curve are explained by which terms; ``value`` is the key of what is explained."""

    curve: str
    system: str
    terms: Callable[[Point], Terms]
    value: str = "p50_us"
    unit: float = 1e3
    """Constants are told in units of 1 / ``unit`` of the value: nanoseconds for microseconds."""
    power: bool = False
    """The value is a factor times each term to the power of its constant, instead of a sum."""


MODELS = {
    "search": Model("retrieval", "sparcode", search_terms),
    "scan": Model("retrieval", "exact", scan_terms),
    "walk": Model("retrieval", "hnsw", walk_terms),
    "distances": Model("retrieval", "hnsw", distance_powers, "distances", 1.0, power=True),
    "decoding": Model("decoding", "semantic-id", decoding_terms),
    "rescoring": Model("rescoring", "sparcode", rescoring_terms),
    "scoring": Model("scoring", "sparcode", scoring_terms),
    "graph": Model("graphs", "hnsw", graph_terms, "seconds", 1e9),
}


def fit_all(curves: dict[str, list[Point]]) -> dict[str, dict[str, Any]]:
    """Return constants and the ratios measured / predicted of every model."""
    return {name: fit(model, curves) for name, model in MODELS.items()}


def fit(model: Model, curves: dict[str, list[Point]]) -> dict[str, Any]:
    """Fit one model by least squares of relative errors, no constant of a sum below zero."""
    points = fitted_points(model, curves)
    terms = [model.terms(point) for point in points]
    values = np.array([point[model.value] for point in points], np.float64)
    matrix = np.array([list(each.values()) for each in terms], np.float64)
    solve = powers if model.power else sums
    told = {
        name: float(f"{value * (1 if model.power else model.unit):.4g}")
        for name, value in zip((*(["factor"] if model.power else []), *terms[0]), solve(matrix, values), strict=True)
    }
    ratios = values / np.array([explained(model, told, point) for point in points])
    return {
        "constants": told, "points": len(points), "ratio_low": round(float(ratios.min()), 3),
        "ratio_median": round(float(np.median(ratios)), 3), "ratio_high": round(float(ratios.max()), 3),
    }  # fmt: skip


def sums(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return x >= 0 with matrix x about ``values``."""
    return non_negative(matrix / values[:, None], np.ones(len(values)))


def powers(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a factor and exponents: ``values`` are about factor * product of columns to their exponents."""
    logs = np.column_stack([np.ones(len(values)), np.log(matrix)])
    found = np.linalg.lstsq(logs, np.log(values), rcond=None)[0]
    return np.array([math.exp(found[0]), *found[1:]])


def explained(model: Model, constants: Terms, point: Point) -> float:
    """Return what a formula with given constants says of a point, in the unit of its value; never zero."""
    terms = model.terms(point)
    if model.power:
        return constants["factor"] * math.prod(count ** constants[name] for name, count in terms.items())
    return max(sum(constants[name] * count for name, count in terms.items()) / model.unit, 1e-12)


def fitted_points(model: Model, curves: dict[str, list[Point]]) -> list[Point]:
    """Return the points a model is fitted to."""
    points = [point for point in curves[model.curve] if point["system"] == model.system]
    return [point for point in points if not point.get("held_out")]


def predicted(name: str, fits: dict[str, dict[str, Any]], point: Point) -> float:
    """Return what the formula with the fitted (and rounded) constants says of a point, in the unit of its value."""
    return explained(MODELS[name], fits[name]["constants"], point)


def non_negative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return x >= 0 that about minimises |matrix x - target|: the most negative constant is left out, and again."""
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-300)
    kept = list(range(matrix.shape[1]))
    while kept:
        found = np.linalg.lstsq(matrix[:, kept] / scale[kept], target, rcond=None)[0]
        if found.min() >= 0:
            break
        kept.pop(int(found.argmin()))
    whole = np.zeros(matrix.shape[1])
    if kept:
        whole[kept] = found / scale[kept]
    return whole
