"""RQ-KMeans: k-means of the vectors, k-means of what is left, and so on; books may differ in size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparcode.errors import ConfigError
from sparcode.quantize import residual
from sparcode.quantize.beam import stack_of
from sparcode.semantic_id.codec import BaseCodec, FitContext, digit_sizes, take_options
from sparcode.semantic_id.codecs.checks import enough_items, fitting_size, whole_number

LARGEST_BEAM = 256
MOST_REFINED = 4096
"""Codewords of all books that are refined together: a matrix of their number squared, float64, 128 MiB."""


class RQKMeans(BaseCodec):
    """``books``: L arrays (N_l, d) float32; ``beam`` codes are kept while encoding, 1 is greedy."""

    kind = "rq-kmeans"

    def __init__(self, books: Sequence[np.ndarray], options: Mapping[str, Any]) -> None:
        if len({book.shape[1] for book in books}) != 1:
            raise ValueError(f"books of shapes {[book.shape for book in books]}")
        self.books = [np.ascontiguousarray(book, np.float32) for book in books]
        self.sizes, self.width = tuple(map(len, self.books)), self.books[0].shape[1]
        self.options = dict(options)
        self._stack = stack_of(self.books)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32 of vectors (n, d); a row's code depends on that row alone."""
        return residual.encode(self.checked_vectors(vectors), self._stack, self.options["beam"])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the sums (n, d) float32 of the codewords."""
        return residual.decode(self.checked_codes(codes), self.books)

    def last_digit_costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return (n, N_L) squared errors, each word of the last book tried."""
        return residual.last_digit_costs(self.checked_vectors(vectors), self.checked_codes(codes), self.books)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the books."""
        return {f"book.{level}": book for level, book in enumerate(self.books)}


def fit(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> RQKMeans:
    """Fit to vectors (n, d) float32.

    Options: ``beam`` (1) codes kept while encoding; ``refine`` (0) rounds that move all books together to the least
    error for the codes of the beam; ``iterations`` (25) of k-means; ``rows_per_word`` (256) items a codeword sees.
    """
    taken = take_options(
        "rq-kmeans", options, codebooks=4, codebook_size=None, beam=1, refine=0, iterations=25,
        rows_per_word=residual.ROWS_PER_WORD,
    )  # fmt: skip
    size = taken.pop("codebook_size")
    sizes = digit_sizes(taken.pop("codebooks"), fitting_size(len(vectors)) if size is None else size)
    for name, least in (("beam", 1), ("refine", 0), ("iterations", 1), ("rows_per_word", 1)):
        whole_number(name, taken[name], least)
    if taken["beam"] > LARGEST_BEAM:
        raise ConfigError(f"beam={taken['beam']}: at most {LARGEST_BEAM} expected")
    if taken["refine"] and sum(sizes) > MOST_REFINED:
        raise ConfigError(f"refine={taken['refine']}: at most {MOST_REFINED:,} codewords in all, found {sum(sizes):,}")
    enough_items("rq-kmeans", vectors, sizes)
    return RQKMeans(residual.fit(vectors, sizes, seed=seed, **taken), taken)


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> RQKMeans:
    """Open a fitted codec."""
    return RQKMeans([arrays[f"book.{level}"] for level in range(len(spec["sizes"]))], spec["options"])
