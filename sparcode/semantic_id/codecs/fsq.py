"""Finite scalar quantization: principal coordinates, tanh-bounded and rounded; a digit packs some of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from sparcode.errors import ConfigError
from sparcode.quantize import scalar
from sparcode.quantize.scalar import Scalar
from sparcode.semantic_id.codec import BaseCodec, FitContext, digit_sizes, take_options

Levels = list[list[int]]


class FiniteScalar(BaseCodec):
    """``levels``: for every digit the levels of the coordinates it packs, the first the most significant."""

    kind = "fsq"

    def __init__(self, fitted: Scalar, levels: Levels, options: Mapping[str, Any]) -> None:
        flat = [level for digit in levels for level in digit]
        if [len(values) for values in fitted.values] != flat or fitted.axes.shape != (len(fitted.mean), len(flat)):
            raise ValueError(f"{len(fitted.values)} coordinates for levels {levels}")
        self.fitted, self.levels, self.width = fitted, levels, len(fitted.mean)
        self.sizes = tuple(math.prod(digit) for digit in levels)
        self.options = dict(options)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32 of vectors (n, d); a row's code depends on that row alone."""
        scalars = scalar.encode(self.checked_vectors(vectors), self.fitted)
        bounds = np.cumsum([len(digit) for digit in self.levels])[:-1]
        parts = np.split(scalars, bounds, axis=1)
        packed = [part @ _weights(digit) for part, digit in zip(parts, self.levels, strict=True)]
        return np.stack(packed, axis=1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 of the coordinates' cell means."""
        codes = self.checked_codes(codes)
        parts = [
            column[:, None] // _weights(digit) % np.array(digit)
            for column, digit in zip(codes.T, self.levels, strict=True)
        ]
        return scalar.decode(np.concatenate(parts, axis=1), self.fitted)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the map to coordinates, the edges of their cells and what cells decode to."""
        edges, values = np.concatenate(self.fitted.edges), np.concatenate(self.fitted.values)
        return {"mean": self.fitted.mean, "axes": self.fitted.axes, "edges": edges, "values": values}

    def spec(self) -> dict[str, Any]:
        """Return the spec; the levels are part of it."""
        return super().spec() | {"levels": self.levels}


def _weights(levels: Sequence[int]) -> np.ndarray:
    """Return (len(levels),) int64: what one step of each coordinate adds to a digit."""
    return np.array([*accumulate(levels[:0:-1], initial=1, func=lambda a, b: a * b)][::-1], np.int64)


def factors(size: int) -> list[int]:
    """Return numbers of at least 4 with product ``size``, as small as they can be; [size] where there are none.

    >>> factors(256), factors(32), factors(240), factors(7)
    ([4, 4, 4, 4], [8, 4], [5, 4, 4, 3], [7])
    """
    found: list[int] = []
    while size % 4 == 0:
        found, size = [*found, 4], size // 4
    for prime in range(2, int(math.sqrt(size)) + 1):
        while size % prime == 0:
            found, size = [*found, prime], size // prime
    found += [size] if size > 1 else []
    found.sort()
    if len(found) > 1 and found[0] == 2:
        found = [*found[1:-1], 2 * found[-1]]
    return sorted(found, reverse=True)


def fit(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> FiniteScalar:
    """Fit to vectors (n, d) float32. Nothing is random.

    Options: ``levels``, one list a digit, e.g. [[8, 6, 5], [8, 6, 5]], or of numbers, one coordinate a digit; absent:
    ``codebook_size`` is split into small factors, 256 into 4 coordinates of 4 levels, as far as d has coordinates.
    ``gain`` (1.15): how steep tanh is; more makes outer cells larger.
    """
    taken = take_options("fsq", options, codebooks=4, codebook_size=256, levels=None, gain=scalar.GAIN)
    levels = _levels(taken, options, vectors.shape[1])
    gain = taken["gain"]
    if isinstance(gain, bool) or not isinstance(gain, (int, float)) or not 0 < gain < 100:
        raise ConfigError(f"gain={gain!r}: a number above 0 and below 100 expected")
    fitted = scalar.fit(vectors, [level for digit in levels for level in digit], float(gain))
    return FiniteScalar(fitted, levels, {"gain": float(gain)})


def _levels(taken: dict[str, Any], given: dict[str, Any], width: int) -> Levels:
    if taken["levels"] is not None:
        if "codebooks" in given or "codebook_size" in given:
            raise ConfigError("fsq: levels say how many digits there are and of what size; leave codebooks away")
        levels = _checked_levels(taken["levels"])
    else:
        sizes = digit_sizes(taken["codebooks"], taken["codebook_size"])
        levels = [factors(size) for size in sizes]
        if sum(map(len, levels)) > width:
            levels = [[size] for size in sizes]
    if sum(map(len, levels)) > width:
        raise ConfigError(f"fsq: {sum(map(len, levels))} coordinates asked for, the vectors have {width}")
    return levels


def _checked_levels(levels: Any) -> Levels:
    nested = [digit if isinstance(digit, (list, tuple)) else [digit] for digit in levels]
    if not nested or not all(
        digit and all(isinstance(level, int) and level >= 2 for level in digit) for digit in nested
    ):
        raise ConfigError(f"levels={levels!r}: whole numbers from 2 expected, one list a digit")
    digit_sizes(len(nested), [math.prod(digit) for digit in nested])
    return [list(digit) for digit in nested]


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FiniteScalar:
    """Open a fitted codec."""
    levels = [list(map(int, digit)) for digit in spec["levels"]]
    flat = np.array([level for digit in levels for level in digit])
    if arrays["edges"].shape != ((flat - 1).sum(),) or arrays["values"].shape != (flat.sum(),):
        raise ValueError(f"edges {arrays['edges'].shape} and values {arrays['values'].shape} for levels {levels}")
    edges = np.split(arrays["edges"], np.cumsum(flat - 1)[:-1])
    values = np.split(arrays["values"], np.cumsum(flat)[:-1])
    return FiniteScalar(Scalar(arrays["mean"], arrays["axes"], edges, values), levels, spec["options"])
