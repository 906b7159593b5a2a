"""Checks that several fitters make before they start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparcode.errors import ConfigError, DataError

ROWS_PER_WORD = 4
"""Vectors that a codeword should have at least: with fewer, later digits have nothing left to tell."""
DEFAULT_SIZE = 256


def fitting_size(items: int, most: int = DEFAULT_SIZE) -> int:
    """Return how many codewords a digit gets when nobody says: a power of two from 2 to ``most``.

    The largest that leaves every codeword ``ROWS_PER_WORD`` of ``items`` vectors. Equal vectors count: last digits must
    have room for them where items of a code are told apart.
    """
    return min(most, 1 << max((items // ROWS_PER_WORD).bit_length() - 1, 1))


def enough_items(kind: str, vectors: np.ndarray, sizes: Sequence[int]) -> None:
    """Raise DataError when there are fewer vectors than codewords to learn for one digit."""
    if len(vectors) < 2:
        raise DataError(f"{kind}: {len(vectors)} item found; at least 2 expected, whatever codebook_size is")
    if len(vectors) < max(sizes):
        raise DataError(
            f"{kind}: {len(vectors):,} items cannot fill {max(sizes):,} codewords; lower codebook_size to at most "
            f"{len(vectors):,}"
        )


def whole_number(name: str, value: Any, least: int) -> None:
    """Raise ConfigError unless ``value`` is a whole number from ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r}: a whole number from {least} expected")


def equal_parts(kind: str, width: int, parts: int) -> None:
    """Raise ConfigError unless ``parts`` sub-spaces of equal width make up ``width``."""
    if width % parts:
        fitting = [count for count in range(1, min(width, 64) + 1) if width % count == 0]
        raise ConfigError(
            f"{kind}: codebooks={parts} does not divide the width {width} of the vectors; choose one of "
            f"{', '.join(map(str, fitting))}"
        )
