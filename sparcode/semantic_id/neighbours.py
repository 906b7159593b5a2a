"""Are items that are close as vectors close as codes? Recall of the exact nearest neighbours, ties counted fairly.

Codes bring many ties: all items of one code are equally far. A place among the k nearest that t tied items compete for
counts 1/t for each, the mean over all orders of them, so that no method gains by the order of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sparcode.seeding import generator

_BLOCK = 1 << 22


def sample_queries(count: int, queries: int, seed: int) -> np.ndarray:
    """Return int64 rows of at most ``queries`` items, drawn without repeats, ascending."""
    if count <= queries:
        return np.arange(count, dtype=np.int64)
    return np.sort(generator(seed, "neighbour queries").choice(count, queries, replace=False))


def exact_neighbours(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return int64 (queries, k): the rows nearest by Euclidean distance, nearest first, the query itself left out.

    ``vectors``: float32 (n, d), n > k, read once in blocks (a memory map stays on disk).
    """
    mean = vectors[queries].mean(axis=0, dtype=np.float64).astype(np.float32)
    wanted = vectors[queries] - mean  # without the mean rounding errors are smaller
    far, rows = np.full((len(queries), k), np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    step = max(_BLOCK // len(queries), k, 1)
    for start in range(0, len(vectors), step):
        distance = _squared(wanted, vectors[start : start + step] - mean)
        inside = np.flatnonzero((queries >= start) & (queries < start + step))
        distance[inside, queries[inside] - start] = np.inf
        best = np.argpartition(distance, k - 1, axis=1)[:, :k] if distance.shape[1] > k else None
        place = np.broadcast_to(np.arange(distance.shape[1]), distance.shape) if best is None else np.sort(best, axis=1)
        far = np.concatenate([far, np.take_along_axis(distance, place, axis=1)], axis=1)
        rows = np.concatenate([rows, place + start], axis=1)
        order = np.argsort(far, axis=1, kind="stable")[:, :k]
        far, rows = np.take_along_axis(far, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return rows


def recall_by_distance(decoded: np.ndarray, groups: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of ``truth`` (queries, k) found again among the k items nearest by reconstruction.

    ``decoded``: float32 (G, d), one row a distinct code; ``groups``: int64 (n,), the code of every item.
    """

    decoded = decoded - decoded.mean(axis=0, dtype=np.float64).astype(np.float32)

    def far(part: slice) -> np.ndarray:
        distance = _squared(decoded[groups[queries[part]]], decoded)
        # Rounding must not order items of one code.
        distance[np.arange(len(distance)), groups[queries[part]]] = -1.0
        return distance[:, groups]

    return _recall(far, queries, truth, len(groups))


def recall_by_digits(codes: np.ndarray, queries: np.ndarray, truth: np.ndarray, *, prefix: bool = True) -> float:
    """Return the share of ``truth`` found again among the items with the longest common prefix, then most equal digits.

    Without ``prefix`` equal digits count first, wherever they stand (product codes have no order of digits).
    """
    codes = np.asarray(codes)
    length = codes.shape[1]

    def far(part: slice) -> np.ndarray:
        shape = (part.stop - part.start, len(codes))
        common, running, matches = np.zeros(shape, np.int32), np.ones(shape, bool), np.zeros(shape, np.int32)
        for digit in codes.T:
            equal = digit[queries[part], None] == digit[None, :]
            running &= equal
            common += running
            matches += equal
        first, second = (common, matches) if prefix else (matches, common)
        return -(first * (length + 1) + second).astype(np.float32)

    return _recall(far, queries, truth, len(codes))


def _recall(far: Callable[[slice], np.ndarray], queries: np.ndarray, truth: np.ndarray, count: int) -> float:
    k, total = truth.shape[1], 0.0
    for part in _parts(len(queries), count):
        distance = far(part)
        distance[np.arange(len(distance)), queries[part]] = np.inf
        bar = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
        nearer, tied = distance < bar, distance == bar
        share = (k - nearer.sum(axis=1)) / tied.sum(axis=1)
        rows = np.arange(len(distance))[:, None]
        total += float((nearer[rows, truth[part]].sum(axis=1) + share * tied[rows, truth[part]].sum(axis=1)).sum())
    return total / (len(queries) * k)


def _parts(queries: int, count: int) -> Iterator[slice]:
    step = max(_BLOCK // max(count, 1), 1)
    return (slice(start, min(start + step, queries)) for start in range(0, queries, step))


def _squared(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return float32 squared distances up to a number a query, (queries, n), zero or more."""
    product = queries @ vectors.T
    norms = np.einsum("ij,ij->i", vectors, vectors)
    own = np.einsum("ij,ij->i", queries, queries)
    return np.maximum(norms[None, :] + own[:, None] - 2 * product, 0)
