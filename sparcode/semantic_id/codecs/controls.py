"""Control rows of every comparison: codes that know nothing of content.

``base`` writes the item's number in base N, most significant digit first, so that a prefix is a range of numbers.
``random`` draws each digit from a hash of the vector: equal vectors share their code, nothing else is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparcode.errors import ConfigError, DataError
from sparcode.seeding import derive
from sparcode.semantic_id.codec import BaseCodec, FitContext, digit_sizes, take_options
from sparcode.semantic_id.rows import row_hashes


class BaseConversion(BaseCodec):
    """Items by number. ``hashes`` (n,) uint64 sorted and ``numbers`` (n,) int64 find the number of a fitted vector."""

    kind = "base"
    one_to_one = True

    def __init__(self, sizes: Sequence[int], width: int, hashes: np.ndarray, numbers: np.ndarray) -> None:
        if hashes.shape != numbers.shape:
            raise ValueError(f"{hashes.shape} hashes for {numbers.shape} numbers")
        self.sizes, self.width, self.options = tuple(sizes), width, {}
        self._hashes, self._numbers = hashes, numbers

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes of fitted vectors; of equal vectors the first item's. DataError for a vector not fitted."""
        hashes = row_hashes(self.checked_vectors(vectors))
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        unknown = np.flatnonzero(self._hashes[places] != hashes)
        if len(unknown):
            raise DataError(
                f"row {unknown[0]} is no vector the numbers were given to: base conversion encodes items by their "
                "number, not by content; append new items with their ids"
            )
        return self._digits(self._numbers[places])

    def encode_items(
        self, vectors: np.ndarray, *, numbers: np.ndarray | None = None, categories: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return the digits of ``numbers`` (n,) when they are given, else as ``encode``."""
        return self.encode(vectors) if numbers is None else self._digits(np.asarray(numbers, np.int64))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the hashes of the fitted vectors and their numbers."""
        return {"hashes": self._hashes, "numbers": self._numbers}

    def _digits(self, numbers: np.ndarray) -> np.ndarray:
        if len(numbers) and int(numbers.max()) >= math.prod(self.sizes):
            raise DataError(
                f"item number {int(numbers.max())} does not fit into {len(self.sizes)} digits of {self.sizes[0]}; "
                "fit again with more codebooks or a larger codebook_size"
            )
        codes = np.empty((len(numbers), len(self.sizes)), np.int32)
        rest = numbers
        for digit in range(len(self.sizes) - 1, -1, -1):
            rest, codes[:, digit] = np.divmod(rest, self.sizes[digit])
        return codes


class RandomCodes(BaseCodec):
    """Every digit from a hash of the vector and the seed."""

    kind = "random"

    def __init__(self, sizes: Sequence[int], width: int, seed: int) -> None:
        self.sizes, self.width, self.options = tuple(sizes), width, {"seed": seed}

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32, each digit uniform."""
        vectors = self.checked_vectors(vectors)
        codes = np.empty((len(vectors), len(self.sizes)), np.int32)
        for digit, size in enumerate(self.sizes):
            # The remainder of 64 bits favours small digits by less than size / 2^64.
            codes[:, digit] = row_hashes(vectors, derive(self.options["seed"], "digit", digit)) % np.uint64(size)
        return codes

    def arrays(self) -> dict[str, np.ndarray]:
        """Return no arrays: the seed is all there is."""
        return {}


def fit_base(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> BaseConversion:
    """Number the items by their rows; ConfigError when N^L is smaller than their number. Nothing is random."""
    sizes = _sizes("base", options)
    if math.prod(sizes) < len(vectors):
        raise ConfigError(
            f"{len(sizes)} digits of {sizes[0]} number {math.prod(sizes):,} items, {len(vectors):,} given; "
            "raise codebooks or codebook_size"
        )
    hashes, numbers = np.unique(row_hashes(vectors), return_index=True)
    return BaseConversion(sizes, vectors.shape[1], hashes, numbers.astype(np.int64))


def fit_random(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> RandomCodes:
    """Return random codes of this seed."""
    return RandomCodes(_sizes("random", options), vectors.shape[1], seed)


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> BaseCodec:
    """Open either control."""
    if spec["kind"] == "base":
        return BaseConversion(spec["sizes"], spec["width"], arrays["hashes"], arrays["numbers"])
    return RandomCodes(spec["sizes"], spec["width"], int(spec["options"]["seed"]))


def _sizes(kind: str, options: dict[str, Any]) -> tuple[int, ...]:
    taken = take_options(kind, options, codebooks=4, codebook_size=256)
    return digit_sizes(taken["codebooks"], taken["codebook_size"])
