"""Product quantization, plain (pq) or behind a learned rotation (opq): digit m is the codeword of sub-space m."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparcode.quantize import product
from sparcode.quantize.kmeans import sampled
from sparcode.quantize.rotation import mapped
from sparcode.semantic_id.codec import BaseCodec, FitContext, digit_sizes, take_options
from sparcode.semantic_id.codecs.checks import enough_items, equal_parts, fitting_size, whole_number

ROWS_PER_WORD = 256


class ProductCodes(BaseCodec):
    """``books``: M arrays (N_m, d/M) float32; ``rotation`` (d, d) float32 is applied before, None for pq."""

    def __init__(
        self, books: Sequence[np.ndarray], options: Mapping[str, Any], rotation: np.ndarray | None = None
    ) -> None:
        parts = {book.shape[1] for book in books}
        if len(parts) != 1:
            raise ValueError(f"books of shapes {[book.shape for book in books]}")
        self.books, self.rotation = [np.ascontiguousarray(book, np.float32) for book in books], rotation
        self.kind = "pq" if rotation is None else "opq"
        self.sizes, self.width = tuple(map(len, self.books)), parts.pop() * len(books)
        if rotation is not None and rotation.shape != (self.width, self.width):
            raise ValueError(f"a rotation of shape {rotation.shape} for width {self.width}")
        self.options = dict(options)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, M) int32 of vectors (n, d); a row's code depends on that row alone."""
        return product.encode(self._turned(vectors), self.books)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 of the codewords, rotated back."""
        vectors = product.decode(self.checked_codes(codes), self.books)
        return vectors if self.rotation is None else mapped(vectors, self.rotation.T)

    def last_digit_costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return (n, N_M) squared errors, each word of the last sub-space tried."""
        return product.last_digit_costs(self._turned(vectors), self.checked_codes(codes), self.books)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the books and, of opq, the rotation."""
        books = {f"book.{m}": book for m, book in enumerate(self.books)}
        return books if self.rotation is None else books | {"rotation": self.rotation}

    def _turned(self, vectors: np.ndarray) -> np.ndarray:
        vectors = self.checked_vectors(vectors)
        return vectors if self.rotation is None else mapped(vectors, self.rotation)


def fit_pq(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> ProductCodes:
    """Fit to vectors (n, d) float32; ``rows_per_word`` (256): items a codeword sees. ConfigError if M divides not d."""
    taken, sizes, rows = _prepared("pq", vectors, seed, options)
    return ProductCodes(product.fit_books(rows, sizes, seed), taken)


def fit_opq(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> ProductCodes:
    """Fit as ``fit_pq``; ``rounds`` (20): how often rotation and books are improved in turn."""
    taken, sizes, rows = _prepared("opq", vectors, seed, options, rounds=product.ROTATION_ROUNDS)
    whole_number("rounds", taken["rounds"], 0)
    rotation, books = product.fit_rotated(rows, sizes, seed, taken["rounds"])
    return ProductCodes(books, taken, rotation)


def _prepared(
    kind: str, vectors: np.ndarray, seed: int, options: dict[str, Any], **more: Any
) -> tuple[dict[str, Any], tuple[int, ...], np.ndarray]:
    taken = take_options(kind, options, codebooks=4, codebook_size=None, rows_per_word=ROWS_PER_WORD, **more)
    size = taken.pop("codebook_size")
    sizes = digit_sizes(taken.pop("codebooks"), fitting_size(len(vectors)) if size is None else size)
    whole_number("rows_per_word", taken["rows_per_word"], 1)
    equal_parts(kind, vectors.shape[1], len(sizes))
    enough_items(kind, vectors, sizes)
    rows = sampled(vectors, taken["rows_per_word"] * max(sizes), "product sample", seed=seed)
    return taken, sizes, np.ascontiguousarray(rows, np.float32)


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ProductCodes:
    """Open a fitted codec of either kind."""
    books = [arrays[f"book.{m}"] for m in range(len(spec["sizes"]))]
    return ProductCodes(books, spec["options"], arrays["rotation"] if spec["kind"] == "opq" else None)
