"""Vectors of items from histories alone: factorised co-occurrences, or item2vec by stochastic gradients.

Both know the same pairs: two different items of one history, at most ``window`` events apart.

    counts     M_ij = max(0, log(c_ij C / sqrt(c_i f_j c_j f_i))), C = sum(c), f = c^.75 C / sum(c^.75);  M = U S V',
               vectors U sqrt(S) (positive pointwise mutual information, contexts smoothed; Levy, Goldberg, Dagan 2015)
    item2vec   skip-gram with negative sampling (Barkan, Koenigstein 2016): for a pair (i, j) and items z drawn with
               probability ~ count^.75, raise log s(u_i . w_j) + sum_z log s(-u_i . w_z); vectors u

Vectors get length one: a length says how much is known of an item, and would draw the few items with long vectors, not
what items are alike, into most codewords. Items without a pair get zeros. One seed gives the same vectors; everything
runs on one thread.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sparcode.errors import DataError
from sparcode.jit import exact
from sparcode.seeding import derive, generator
from sparcode.threads import limited
from sparcode.types import Sequences

Method = Literal["counts", "item2vec"]
METHODS = ("counts", "item2vec")
_SMOOTHING = 0.75
_NOISE_TABLE = 1 << 20
_OVERSAMPLED = 16
_POWER_STEPS = 6


@dataclass(frozen=True)
class BehaviourOptions:
    """``width``: columns of a vector. The last three are item2vec's: passes, negatives a pair, first step."""

    width: int = 128
    window: int = 5
    epochs: int = 20
    negatives: int = 5
    learning_rate: float = 0.025


def item_vectors(
    sequences: Sequences,
    item_count: int,
    method: Method = "counts",
    options: BehaviourOptions | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return float32 (item_count, <= width), unit rows, of the training ``sequences``; DataError when no items meet."""
    options = options or BehaviourOptions()
    pairs = count_pairs(sequences, item_count, options.window)
    if len(pairs.columns) == 0:
        raise DataError("no history holds two different items, so behaviour says nothing; embed from text or features")
    if method == "counts":
        return unit_rows(factorised(positive_information(pairs), options.width, seed))
    if method == "item2vec":
        return unit_rows(item2vec(sequences, item_count, options, seed) * (np.diff(pairs.indptr) > 0)[:, None])
    raise DataError(f"unknown method {method!r} of behaviour; expected one of {', '.join(METHODS)}")


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return float32 rows of length one; zeros stay zeros."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    return np.asarray(np.where(norms > 0, vectors / np.where(norms > 0, norms, 1), 0), np.float32)


@dataclass(frozen=True)
class Pairs:
    """A symmetric sparse matrix (n, n): ``indptr`` int64 (n + 1,), ``columns`` int64 ascending a row, ``values``."""

    indptr: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Row of every value, int64."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


def count_pairs(sequences: Sequences, item_count: int, window: int) -> Pairs:
    """Count pairs of different items at most ``window`` events apart, in both directions; values float64."""
    owner = np.repeat(np.arange(len(sequences)), np.diff(sequences.indptr))
    items = sequences.items.astype(np.int64)
    keys: np.ndarray = np.zeros(0, np.int64)
    counts: np.ndarray = np.zeros(0)
    for distance in range(1, window + 1):
        met = (owner[distance:] == owner[:-distance]) & (items[distance:] != items[:-distance])
        early, late = items[:-distance][met], items[distance:][met]
        found, times = np.unique(
            np.concatenate([early * item_count + late, late * item_count + early]), return_counts=True
        )
        merged, place = np.unique(np.concatenate([keys, found]), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([counts, times]), minlength=len(merged))
        keys = merged
    indptr = np.searchsorted(keys, np.arange(item_count + 1, dtype=np.int64) * item_count)
    return Pairs(indptr.astype(np.int64), keys % item_count, counts)


def positive_information(pairs: Pairs) -> Pairs:
    """Return M of the module's first formula; its logarithm is the mean of both directions, so that M is symmetric."""
    totals = np.bincount(pairs.columns, weights=pairs.values, minlength=len(pairs.indptr) - 1)
    smooth = totals**_SMOOTHING
    smooth = smooth * (totals.sum() / smooth.sum())
    rows, columns = pairs.rows, pairs.columns
    expected = np.sqrt(totals[rows] * smooth[columns] * smooth[rows] * totals[columns])
    values = np.maximum(np.log(pairs.values * totals.sum() / expected), 0.0)
    kept = values > 0
    indptr = np.concatenate([[0], np.cumsum(kept)])[pairs.indptr].astype(np.int64)
    return Pairs(indptr, columns[kept], values[kept])


def factorised(matrix: Pairs, width: int, seed: int) -> np.ndarray:
    """Return float32 (n, <= width): U sqrt(S) of the largest singular values, by subspace iteration from a seed."""
    count = len(matrix.indptr) - 1
    size = min(width + _OVERSAMPLED, count)
    basis = generator(seed, "behaviour", "subspace").normal(size=(count, size))
    with limited(1):  # sums then round alike on machines with more cores
        for _ in range(_POWER_STEPS):
            basis, _ = np.linalg.qr(multiply(matrix, basis))
        inner = basis.T @ multiply(matrix, basis)
        values, vectors = np.linalg.eigh((inner + inner.T) / 2)
        largest = np.argsort(-np.abs(values), kind="stable")[:width]
        largest = largest[np.abs(values[largest]) > 1e-9 * np.abs(values).max()]
        result = basis @ (vectors[:, largest] * np.sqrt(np.abs(values[largest])))
    # A singular vector is known up to its sign.
    signs = np.sign(result[np.abs(result).argmax(axis=0), np.arange(result.shape[1])])
    result = (result * signs).astype(np.float32)
    result[np.diff(matrix.indptr) == 0] = 0
    return result


def multiply(matrix: Pairs, dense: np.ndarray) -> np.ndarray:
    """Return the product (n, k) float64 with a dense matrix (n, k) float64."""
    out = np.zeros((len(matrix.indptr) - 1, dense.shape[1]))
    sparse_product(matrix.indptr, matrix.columns, matrix.values, np.ascontiguousarray(dense), out)
    return out


class Walk(NamedTuple):
    """Sequences in CSR, ``indptr`` int64 and ``items`` int32, and the ``order`` int64 they are passed in."""

    indptr: np.ndarray
    items: np.ndarray
    order: np.ndarray


class Steps(NamedTuple):
    """Steps of one epoch: their rate falls in a line from the first to the last."""

    window: int
    negatives: int
    first_rate: float
    last_rate: float


def item2vec(sequences: Sequences, item_count: int, options: BehaviourOptions, seed: int) -> np.ndarray:
    """Return float32 (item_count, width), see the module; sequences in a new order every epoch."""
    random = generator(seed, "behaviour", "item2vec")
    vectors = ((random.random((item_count, options.width)) - 0.5) / options.width).astype(np.float32)
    contexts = np.zeros_like(vectors)
    counts = np.bincount(sequences.items, minlength=item_count)
    share = np.cumsum(counts**_SMOOTHING)
    noise = np.searchsorted(share, (np.arange(_NOISE_TABLE) + 0.5) / _NOISE_TABLE * share[-1]).astype(np.int32)
    state = np.array([derive(seed, "behaviour", "negatives") | 1], np.uint64)
    for epoch in range(options.epochs):
        order = random.permutation(len(sequences)).astype(np.int64)
        first, last = (options.learning_rate * max(1 - e / options.epochs, 1e-4) for e in (epoch, epoch + 1))
        walk = Walk(np.asarray(sequences.indptr, np.int64), np.asarray(sequences.items, np.int32), order)
        steps = Steps(options.window, options.negatives, first, last)
        skip_gram_epoch(walk, vectors, contexts, noise, state, steps)
    return vectors


@exact
def sparse_product(indptr, columns, values, dense, out):
    """Add a sparse matrix (n, m) times ``dense`` (m, k) to ``out`` (n, k)."""
    width = dense.shape[1]
    for row in range(len(indptr) - 1):
        for place in range(indptr[row], indptr[row + 1]):
            value, column = values[place], columns[place]
            for k in range(width):
                out[row, k] += value * dense[column, k]


@exact
def skip_gram_epoch(walk, vectors, contexts, noise, state, steps):
    """Pass once over sequences, a Walk, with ``steps``, Steps.

    ``vectors``, ``contexts``: float32 (n, d), changed. ``noise``: int32 (2^20,) items by their share of draws.
    ``state``: uint64 (1,), xorshift. The window of every event is drawn from 1..window.
    """
    indptr, items, order = walk
    window, negatives, first_rate, last_rate = steps
    width = vectors.shape[1]
    change = np.empty(width, np.float32)
    x = state[0]
    for number in range(len(order)):
        rate = np.float32(first_rate + (last_rate - first_rate) * number / len(order))
        start, stop = indptr[order[number]], indptr[order[number] + 1]
        for event in range(start, stop):
            x ^= x << np.uint64(13)
            x ^= x >> np.uint64(7)
            x ^= x << np.uint64(17)
            reach = 1 + np.int64((x >> np.uint64(33)) % np.uint64(window))
            item = items[event]
            for other in range(max(start, event - reach), min(stop, event + reach + 1)):
                if items[other] == item:
                    continue
                change[:] = 0
                for draw in range(negatives + 1):
                    target = items[other]
                    if draw > 0:
                        x ^= x << np.uint64(13)
                        x ^= x >> np.uint64(7)
                        x ^= x << np.uint64(17)
                        target = noise[np.int64(x >> np.uint64(44))]
                        if target == items[other] or target == item:
                            continue
                    product = np.float32(0)
                    for k in range(width):
                        product += vectors[item, k] * contexts[target, k]
                    wanted = np.float32(1) if draw == 0 else np.float32(0)
                    step = rate * (wanted - np.float32(1) / (np.float32(1) + np.exp(-product)))
                    for k in range(width):
                        change[k] += step * contexts[target, k]
                        contexts[target, k] += step * vectors[item, k]
                for k in range(width):
                    vectors[item, k] += change[k]
    state[0] = x
