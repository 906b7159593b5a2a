"""Hierarchical k-means: digit l is the child within the node the earlier digits lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparcode.quantize import hierarchical
from sparcode.quantize.hierarchical import Tree
from sparcode.semantic_id.codec import BaseCodec, FitContext, digit_sizes, take_options
from sparcode.semantic_id.codecs.checks import whole_number

MOST_CHILDREN = 32
"""Of a node when nobody says."""


class HierarchicalKMeans(BaseCodec):
    """A tree of centroids; nodes have as many children as their items fill, at most ``sizes[l]``."""

    kind = "hierarchical-kmeans"

    def __init__(self, tree: Tree, sizes: Sequence[int], options: Mapping[str, Any]) -> None:
        _check(tree, sizes)
        self.tree, self.sizes, self.width, self.options = tree, tuple(sizes), len(tree.root), dict(options)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32 of vectors (n, d); a row's code depends on that row alone."""
        return hierarchical.encode(self.checked_vectors(vectors), self.tree)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return (n, d) float32: the centroid of the leaf, or of the last node on the way that the tree has."""
        return hierarchical.decode(self.checked_codes(codes), self.tree)

    def last_digit_costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return (n, sizes[-1]) squared errors; a digit without child costs what the node itself costs."""
        vectors, codes = self.checked_vectors(vectors), self.checked_codes(codes)
        return hierarchical.last_digit_costs(vectors, codes, self.tree, self.sizes[-1])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return centroids and offsets of every level."""
        words = {f"words.{level}": words for level, words in enumerate(self.tree.words)}
        return {"root": self.tree.root} | words | {f"indptr.{level}": p for level, p in enumerate(self.tree.indptr)}


def _check(tree: Tree, sizes: Sequence[int]) -> None:
    """Raise ValueError unless every level fits the one above: kernels follow its offsets without looking."""
    nodes = 1
    for words, indptr, size in zip(tree.words, tree.indptr, sizes, strict=True):
        children = np.diff(indptr)
        whole = len(indptr) == nodes + 1 and indptr[0] == 0 and indptr[-1] == len(words)
        if not whole or children.min() < 1 or children.max() > size or words.shape[1:] != tree.root.shape:
            raise ValueError(f"a level of {len(words)} nodes does not fit {nodes} nodes above it")
        nodes = len(words)


def fit(vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> HierarchicalKMeans:
    """Fit to vectors (n, d) float32; ``iterations`` (25) of k-means in every node.

    At most 32 children a node unless ``codebook_size`` says otherwise, see ``_children``: 4 levels of 256 leave nothing
    for the last digits of most catalogues. Fewer items than children are no error: nodes have as many children as
    distinct items.
    """
    taken = take_options("hierarchical-kmeans", options, codebooks=4, codebook_size=None, iterations=25)
    codebooks, size = taken.pop("codebooks"), taken.pop("codebook_size")
    sizes = digit_sizes(codebooks, _children(len(vectors), codebooks) if size is None else size)
    whole_number("iterations", taken["iterations"], 1)
    return HierarchicalKMeans(hierarchical.fit(vectors, sizes, seed=seed, **taken), sizes, taken)


def _children(items: int, levels: Any) -> int:
    """Return the least power of two, up to ``MOST_CHILDREN``, of which all levels but the last name every item."""
    if not isinstance(levels, int) or levels < 2:
        return MOST_CHILDREN
    size = 2
    while size < MOST_CHILDREN and size ** (levels - 1) < items:
        size *= 2
    return size


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> HierarchicalKMeans:
    """Open a fitted codec."""
    levels = range(len(spec["sizes"]))
    words = [np.ascontiguousarray(arrays[f"words.{level}"], np.float32) for level in levels]
    indptr = [np.ascontiguousarray(arrays[f"indptr.{level}"], np.int64) for level in levels]
    return HierarchicalKMeans(Tree(arrays["root"], words, indptr), spec["sizes"], spec["options"])
