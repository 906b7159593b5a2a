"""The items' own categories as leading digits, then RQ-KMeans of what the category leaves open.

A category is a path, ``Beauty > Make-up > Lips``; each leading digit is one level of it, numbered inside its parent
in the order of the names. What the content digits quantise is the vector less the mean of its category, with books
shared by all categories: small categories need no books of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparcode.errors import ConfigError, DataError, QueryError
from sparcode.quantize import residual
from sparcode.quantize.kmeans import nearest
from sparcode.semantic_id.codec import BaseCodec, FitContext, digit_sizes, take_options
from sparcode.semantic_id.codecs.checks import enough_items, fitting_size

Path = tuple[str, ...]


class CategoryPrefix(BaseCodec):
    """``paths``: G category paths in order; ``means`` (G, d) and content ``books`` (N_l, d) float32."""

    kind = "category-prefix"

    def __init__(
        self, paths: Sequence[Path], separator: str, skip: int, means: np.ndarray, books: list[np.ndarray]
    ) -> None:
        if any(array.ndim != 2 or array.shape[1] != means.shape[1] for array in books) or len(means) != len(paths):
            raise ValueError(f"{len(paths)} categories, means {means.shape}, {len(books)} books")
        self._paths, self._means, self._books = list(paths), means, books
        self._numbers = {path: number for number, path in enumerate(self._paths)}
        self._prefixes = path_digits(self._paths)
        self.width = means.shape[1]
        self.sizes = (*(int(size) + 1 for size in self._prefixes.max(axis=0)), *map(len, books))
        self.options = {"separator": separator, "category_digits": self._prefixes.shape[1], "skip": skip}

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes of vectors alone: their category is the one whose mean is nearest."""
        return self.encode_items(vectors)

    def encode_items(
        self, vectors: np.ndarray, *, numbers: np.ndarray | None = None, categories: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return codes behind the given categories (n); an unknown or missing one is taken from the nearest mean."""
        vectors = self.checked_vectors(vectors)
        group = nearest(vectors, self._means)[0]
        if categories is not None:
            known = self._known(categories)
            group = np.where(known >= 0, known, group)
        content = residual.encode(vectors - self._means[group], self._books)
        return np.concatenate([self._prefixes[group], content], axis=1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the mean of the category plus the codewords of the content digits."""
        codes = self.checked_codes(codes)
        digits = self._prefixes.shape[1]
        return self._means[self._groups(codes[:, :digits])] + residual.decode(codes[:, digits:], self._books)

    def last_digit_costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return (n, N) squared errors; the last book is the only thing that varies."""
        vectors, codes = self.checked_vectors(vectors), self.checked_codes(codes)
        digits = self._prefixes.shape[1]
        rest = vectors - self._means[self._groups(codes[:, :digits])]
        return residual.last_digit_costs(rest, codes[:, digits:], self._books)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the means and the books."""
        return {"means": self._means} | {f"book.{number}": book for number, book in enumerate(self._books)}

    def spec(self) -> dict[str, Any]:
        """Return the spec; the names of the categories are part of it."""
        return super().spec() | {"paths": [list(path) for path in self._paths]}

    def _known(self, categories: Sequence[str | None]) -> np.ndarray:
        if isinstance(categories, str):
            raise DataError("one category found, a list of one an item expected")
        how = (self.options["separator"], self.options["category_digits"], self.options["skip"])
        paths = [None if text is None else split_path(text, *how) for text in categories]
        return np.array([-1 if path is None else self._numbers.get(path, -1) for path in paths], np.int64)

    def _groups(self, prefixes: np.ndarray) -> np.ndarray:
        # Digits are numbered inside their parent, so that not every combination in range is a category.
        sizes = self.sizes[: prefixes.shape[1]]
        known = np.ravel_multi_index(tuple(self._prefixes.T), sizes)
        wanted = np.ravel_multi_index(tuple(prefixes.T), sizes)
        order = np.argsort(known)
        places = order[np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)]
        missing = np.flatnonzero(known[places] != wanted)
        if len(missing):
            text = "-".join(map(str, prefixes[missing[0]].tolist()))
            raise QueryError(f"the SID prefix {text} is no category; {len(known)} categories are known")
        return places


def split_path(text: str, separator: str, digits: int, skip: int = 0) -> Path:
    """Return ``digits`` levels of a category behind the first ``skip``, stripped; levels it has not are empty."""
    levels = [level.strip() for level in text.split(separator.strip() or separator)][skip : skip + digits]
    return (*levels, *[""] * (digits - len(levels)))


def shared_levels(texts: Sequence[str], separator: str) -> int:
    """Return how many leading levels are the same for all: they tell nothing apart. One level is always left."""
    paths = [[level.strip() for level in text.split(separator.strip() or separator)] for text in set(texts)]
    depth = max(map(len, paths))
    same = (len({tuple(path[: level + 1]) for path in paths}) == 1 for level in range(depth - 1))
    return next((level for level, shared in enumerate(same) if not shared), depth - 1)


def path_digits(paths: Sequence[Path]) -> np.ndarray:
    """Return (G, levels) int32: the number of each level among its siblings, in the order of the names."""
    digits = np.empty((len(paths), len(paths[0])), np.int32)
    for level in range(digits.shape[1]):
        siblings: dict[Path, list[str]] = {}
        for parent, name in sorted({(path[:level], path[level]) for path in paths}):
            siblings.setdefault(parent, []).append(name)
        places = {(*parent, name): place for parent, names in siblings.items() for place, name in enumerate(names)}
        digits[:, level] = [places[path[: level + 1]] for path in paths]
    return digits


def fit(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> CategoryPrefix:
    """Fit to vectors (n, d) and ``context.categories``.

    Options: ``category_digits`` (1) levels of the path become digits, behind those that
    all items share, split at ``separator`` (``>``); ``codebooks``
    counts all digits, a list of ``codebook_size`` holds those of content digits alone. An item without category (None
    or empty) takes the one whose mean is nearest.
    """
    taken = take_options("category-prefix", options, codebooks=4, codebook_size=None, category_digits=1, separator=">")
    if isinstance(taken["codebook_size"], list) and "codebooks" not in options:
        taken["codebooks"] = taken["category_digits"] + len(taken["codebook_size"])
    content = _content_digits(taken)
    size = taken["codebook_size"]
    sizes = digit_sizes(content, fitting_size(len(vectors)) if size is None else size)
    enough_items("category-prefix", vectors, sizes)
    paths, group, skip = _grouped(vectors, context.categories, taken["separator"], taken["category_digits"])
    means = _means(vectors, group, len(paths))
    books = residual.fit(vectors - means[group], sizes, seed=seed)
    return CategoryPrefix(paths, taken["separator"], skip, means, books)


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CategoryPrefix:
    """Open a fitted codec."""
    paths = [tuple(path) for path in spec["paths"]]
    books = [arrays[f"book.{number}"] for number in range(len(spec["sizes"]) - spec["options"]["category_digits"])]
    return CategoryPrefix(paths, spec["options"]["separator"], int(spec["options"]["skip"]), arrays["means"], books)


def _content_digits(taken: dict[str, Any]) -> int:
    levels, total = taken["category_digits"], taken["codebooks"]
    if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels < total:
        raise ConfigError(f"category_digits={levels!r}: 1 to {total - 1} expected, one digit is left for the content")
    if not isinstance(taken["separator"], str) or not taken["separator"]:
        raise ConfigError(f"separator={taken['separator']!r}: a text such as '>' expected")
    return int(total) - int(levels)


def _grouped(
    vectors: np.ndarray, categories: Sequence[str | None] | None, separator: str, digits: int
) -> tuple[list[Path], np.ndarray, int]:
    if categories is None or len(categories) != len(vectors):
        found = "no categories" if categories is None else f"{len(categories):,} categories"
        raise DataError(
            f"category-prefix: {found} found for {len(vectors):,} items; give categories=, one text an item"
        )
    named = np.array([bool(text and text.strip()) for text in categories])
    if not named.any():
        raise DataError("category-prefix: no item has a category; choose another method or another column")
    texts = [text for text in categories if text and text.strip()]
    skip = shared_levels(texts, separator)
    split = [split_path(text, separator, digits, skip) for text in texts]
    paths = sorted(set(split))
    numbers = {path: number for number, path in enumerate(paths)}
    group = np.zeros(len(vectors), np.int64)
    group[named] = [numbers[path] for path in split]
    if not named.all():
        means = _means(vectors[named], group[named], len(paths))
        group[~named] = nearest(vectors[~named], means)[0]
    return paths, group, skip


def _means(vectors: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, group, vectors)
    return (sums / np.bincount(group, minlength=count)[:, None]).astype(np.float32)
