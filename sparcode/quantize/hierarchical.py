"""Hierarchical k-means: a tree whose node on level l has up to sizes[l] children; digit l is the child within the node.

A node with no more distinct rows than sizes[l] gets a child for each, so the tree has no empty nodes and at most n
leaves. A digit no child has stands for the node itself: every code decodes, and a new item may take it.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparcode.jit import exact
from sparcode.quantize.exact import nearest, squared_gap
from sparcode.quantize.kmeans import greedy_trials, kmeans
from sparcode.seeding import derive

LARGE_NODE = 64
"""Rows from which a node is searched by matrix products."""


@dataclass(frozen=True)
class Tree:
    """Levels of a tree: the children of node i of level l are rows indptr[l][i] : indptr[l][i + 1] of words[l].

    Row r of ``words[l]`` (nodes of level l + 1, d) float32 is node r of level l + 1; ``indptr`` int64. ``root`` (d,)
    float32 is the mean of all.
    """

    root: np.ndarray
    words: list[np.ndarray]
    indptr: list[np.ndarray]


def fit(vectors: np.ndarray, sizes: Sequence[int], *, seed: int, iterations: int = 25) -> Tree:
    """Return the tree of ``vectors`` (n, d): k-means of the rows of every node into sizes[l] children."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    identity = _identity(vectors)
    tree = Tree(vectors.mean(axis=0, dtype=np.float64).astype(np.float32), [], [])
    owner, nodes = np.zeros(len(vectors), np.int64), 1
    for level, size in enumerate(sizes):
        # Children of any node in any order, and for every row its child; then put into the order of the nodes.
        small = np.bincount(owner, minlength=nodes)[owner] <= size
        parents, words, child = _distinct_rows(vectors, owner, identity, small)
        by_node = np.argsort(owner, kind="stable")
        bounds, count = np.searchsorted(owner[by_node], np.arange(nodes + 1)), len(words[0])
        for node in np.unique(owner[~small]):
            rows = by_node[bounds[node] : bounds[node + 1]]
            centroids, own = _clusters(vectors[rows], size, derive(seed, "hierarchical", level, int(node)), iterations)
            child[rows] = count + own
            count += len(centroids)
            parents.append(np.full(len(centroids), node))
            words.append(centroids)
        order, place, indptr = _in_order(np.concatenate(parents), nodes)
        tree.words.append(np.concatenate(words)[order])
        tree.indptr.append(indptr)
        owner, nodes = place[child], len(order)
    return tree


def _identity(vectors: np.ndarray) -> np.ndarray:
    """Return a number (n,) int64 of every row's bits: equal for equal rows."""
    rows = vectors.view(np.dtype((np.void, vectors.itemsize * vectors.shape[1]))).ravel()
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)


def _in_order(parent: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of children by ``parent``, the place of each in it, and the offsets (nodes + 1,)."""
    order = np.argsort(parent, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return order, place, np.searchsorted(parent[order], np.arange(nodes + 1)).astype(np.int64)


def _distinct_rows(
    vectors: np.ndarray, owner: np.ndarray, identity: np.ndarray, small: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Return parents and words of the children of nodes with few rows, one a distinct row, and every row's child."""
    rows, child = np.flatnonzero(small), np.zeros(len(vectors), np.int64)
    keys = owner[rows] * (int(identity.max()) + 1) + identity[rows]
    _, first, own = np.unique(keys, return_index=True, return_inverse=True)
    child[rows] = own
    return [owner[rows[first]]], [vectors[rows[first]]], child


def _clusters(rows: np.ndarray, size: int, seed: int, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``size`` centroids (k, d), each with rows, and the one of every row."""
    found = kmeans(rows, size, seed=seed, iterations=iterations, trials=greedy_trials(size))
    used, own = np.unique(found.assignment, return_inverse=True)
    return found.centroids[used], own


def encode(vectors: np.ndarray, tree: Tree) -> np.ndarray:
    """Return codes (n, L) int32: from the root to a leaf, always the nearest child, ties to the smaller.

    Distances are compared in float64; a row's code does not depend on the other rows.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    codes = np.empty((len(vectors), len(tree.words)), np.int32)
    node: np.ndarray = np.zeros(len(vectors), np.int64)
    for level, (words, indptr) in enumerate(zip(tree.words, tree.indptr, strict=True)):
        codes[:, level] = _digits(vectors, node, words, indptr)
        node = indptr[node] + codes[:, level]
    return codes


def _digits(vectors: np.ndarray, node: np.ndarray, words: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    digits = np.empty(len(vectors), np.int32)
    if not len(vectors):
        return digits
    order = np.argsort(node, kind="stable")
    present, starts = np.unique(node[order], return_index=True)
    small = np.ones(len(vectors), bool)
    for one, rows in zip(present, np.split(order, starts[1:]), strict=True):
        if len(rows) >= LARGE_NODE:
            found = np.empty(len(rows), np.int32)
            nearest(vectors[rows], words[indptr[one] : indptr[one + 1]], found)
            digits[rows], small[rows] = found, False
    nearest_children(vectors, np.flatnonzero(small), node, words, indptr, digits)
    return digits


@exact
def nearest_children(vectors, rows, node, words, indptr, digits):
    """Fill ``digits`` of ``rows`` with the nearest child of their nodes."""
    for r in rows:
        first = indptr[node[r]]
        least = squared_gap(vectors[r], words[first])
        digits[r] = 0
        for k in range(first + 1, indptr[node[r] + 1]):
            gap = squared_gap(vectors[r], words[k])
            if gap < least:
                digits[r], least = k - first, gap


def _descend(codes: np.ndarray, tree: Tree, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the last node (n,) of the tree on the way of ``levels`` digits, -1 where they leave it, and its vector."""
    node, vectors = np.zeros(len(codes), np.int64), np.repeat(tree.root[None], len(codes), axis=0)
    for level in range(levels):
        indptr, digit = tree.indptr[level], codes[:, level]
        inside = np.flatnonzero((node >= 0) & (digit < indptr[node + 1] - indptr[node]))
        below = np.full(len(codes), -1)
        below[inside] = indptr[node[inside]] + digit[inside]
        vectors[inside] = tree.words[level][below[inside]]
        node = below
    return node, vectors


def decode(codes: np.ndarray, tree: Tree) -> np.ndarray:
    """Return (n, d) float32: the centroids of the last nodes of the tree that codes (n, L) lead to."""
    return _descend(np.asarray(codes), tree, len(tree.words))[1]


def last_digit_costs(vectors: np.ndarray, codes: np.ndarray, tree: Tree, size: int) -> np.ndarray:
    """Return (n, size) float32: the squared error of ``vectors`` for every last digit after the others of ``codes``."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    node, parents = _descend(np.asarray(codes), tree, len(tree.words) - 1)
    costs = np.empty((len(vectors), size), np.float32)
    gaps_of_children(vectors, node, parents, tree.words[-1], tree.indptr[-1], costs)
    return costs


@exact
def gaps_of_children(vectors, node, parents, words, indptr, costs):
    """Fill ``costs`` (n, size) with squared distances to the children of nodes; to ``parents`` where there is none."""
    for r in range(vectors.shape[0]):
        children = indptr[node[r] + 1] - indptr[node[r]] if node[r] >= 0 else 0
        costs[r, children:] = squared_gap(vectors[r], parents[r])
        for k in range(children):
            costs[r, k] = squared_gap(vectors[r], words[indptr[node[r]] + k])
