"""How good are semantic ids? Use of the codewords, collisions, reconstruction, neighbours, categories, co-purchases.

usage          codewords that some item uses / codewords
perplexity     2^entropy of a digit's codewords over items: the number of equally used codewords it amounts to
collisions     1 - distinct ids / items; items of equal vectors, which no content can tell apart, are counted apart
mse            mean squared error of a coordinate of the reconstruction; explained: 1 - error / variance
neighbours     recall of the exact 10 nearest, see ``neighbours``; purity and co-purchases: see ``prefixes``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sparcode.errors import DataError
from sparcode.semantic_id.embedding_checks import blocks, distinct_rows
from sparcode.semantic_id.neighbours import exact_neighbours, recall_by_digits, recall_by_distance, sample_queries
from sparcode.semantic_id.prefixes import Agreement, co_purchase, prefix_groups, prefix_purity
from sparcode.types import Sequences

COLLAPSED = 0.05
"""A digit whose perplexity is under this share of what its items could reach is told as collapsed."""
THIN, DEAD = 0.3, 0.5
"""So is one under the share ``THIN`` that leaves the share ``DEAD`` of the codewords it could use without an item."""


@dataclass(frozen=True)
class DigitUse:
    """Use of one digit: ``size`` codewords, ``used`` of them, ``perplexity``, ``entropy`` in bits.

    ``vectors``: how many different ones there are to use them.
    """

    size: int
    used: int
    perplexity: float
    entropy: float
    vectors: int

    @property
    def usage(self) -> float:
        """Share of the codewords that are used."""
        return self.used / self.size

    @property
    def collapsed(self) -> bool:
        """Whether few codewords hold nearly all items; codewords that there are no vectors for do not count.

        Uneven use alone is none: of vectors that lie in heaps, all codewords may be used and most items share some.
        """
        reach = min(self.size, self.vectors)
        if reach < 2:
            return False
        thin = self.perplexity < THIN * reach and self.used <= (1 - DEAD) * reach
        return self.used == 1 or thin or self.perplexity < COLLAPSED * reach


@dataclass(frozen=True)
class Collisions:
    """``rate``: 1 - distinct / items. ``duplicate_rate``: 1 - distinct vectors / items.

    ``rate_apart``: the rate over one item of every distinct vector, what is left to blame on the codes; both None
    without vectors. ``largest``: most items of one id.
    """

    items: int
    distinct: int
    rate: float
    largest: int
    duplicate_rate: float | None = None
    rate_apart: float | None = None


@dataclass(frozen=True)
class Neighbours:
    """Recall of the exact ``k`` nearest: by distance of reconstructions (None without), by prefix, by equal digits."""

    k: int
    queries: int
    chance: float
    by_distance: float | None
    by_prefix: float
    by_digits: float


@dataclass(frozen=True)
class CodeReport:
    """All that was asked for; a part is None where its input was not given."""

    digits: list[DigitUse]
    collisions: Collisions
    mse: float | None = None
    explained: float | None = None
    neighbours: Neighbours | None = None
    purity: Agreement | None = None
    co_purchase: Agreement | None = None

    def notes(self) -> list[str]:
        """Return a sentence for everything a user should not overlook."""
        found = [
            f"digit {place}: perplexity {digit.perplexity:.1f} of {digit.size} codewords, collapsed"
            if digit.used > 1
            else f"digit {place}: all items have the same codeword"
            for place, digit in enumerate(self.digits, start=1)
            if digit.collapsed
        ]
        if self.collisions.rate_apart:
            found.append(f"{self.collisions.rate_apart:.2%} of the distinct vectors share an id with another one")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able values; ``usage`` of digits and ``lift`` of agreements are among them."""
        content = asdict(self)
        for entry, digit in zip(content["digits"], self.digits, strict=True):
            entry |= {"usage": digit.usage, "collapsed": digit.collapsed}
        for name, agreement in (("purity", self.purity), ("co_purchase", self.co_purchase)):
            if agreement is not None:
                content[name]["lift"] = agreement.lift
        return content


def report(
    codes: np.ndarray, sizes: Sequence[int], *, vectors: np.ndarray | None = None, decoded: np.ndarray | None = None,
    categories: Sequence[str | None] | None = None, histories: Sequences | None = None, k: int = 10,
    queries: int = 1000, seed: int = 0, different: int | None = None,
) -> CodeReport:  # fmt: skip
    """Measure codes (n, L) with ``sizes`` codewords a digit.

    ``vectors``: float32 (n, d) they were made from. ``decoded``: (n, d), their reconstruction in the same space.
    ``categories``: one text (or None) an item. ``histories``: items are rows of ``codes``. ``different``: how many
    vectors were not equal, counted when absent. Raises DataError when parts do not fit together.
    """
    codes = checked(codes, sizes)
    mse, explained, neighbours = None, None, None
    if vectors is not None:
        vectors = _matrix(vectors, len(codes), "vectors")
        neighbours = measure_neighbours(codes, vectors, decoded, k, queries, seed)
    if vectors is not None and decoded is not None:
        mse, explained = reconstruction(vectors, _matrix(decoded, len(codes), "decoded"))
    content = None if vectors is None else distinct_rows(vectors)
    if different is None and content is not None:
        different = len(np.unique(content))
    return CodeReport(
        digits=digit_use(codes, sizes, different),
        collisions=count_collisions(codes, content),
        mse=mse,
        explained=explained,
        neighbours=neighbours,
        purity=None if categories is None else prefix_purity(codes, categories),
        co_purchase=None if histories is None else co_purchase(codes, histories),
    )


def checked(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return codes as int64 (n, L); DataError for another shape, no item, or a digit out of range."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != len(sizes) or not len(codes) or codes.dtype.kind not in "iu":
        raise DataError(f"codes are {codes.dtype} of shape {codes.shape}; expected integers (items, {len(sizes)})")
    wrong = np.flatnonzero((codes < 0).any(axis=1) | (codes >= np.array(sizes)).any(axis=1))
    if len(wrong):
        raise DataError(f"item {wrong[0]} has the code {codes[wrong[0]].tolist()}; sizes are {list(sizes)}")
    return codes.astype(np.int64)


def digit_use(codes: np.ndarray, sizes: Sequence[int], different: int | None = None) -> list[DigitUse]:
    """Return the use of every digit; ``different``: how many different vectors there are, the items when absent."""
    found = []
    for digit, size in zip(codes.T, sizes, strict=True):
        counts = np.unique(digit, return_counts=True)[1]
        share = counts / counts.sum()
        entropy = max(float(-(share * np.log2(share)).sum()), 0.0)
        found.append(DigitUse(int(size), len(counts), float(2**entropy), entropy, different or len(digit)))
    return found


def count_collisions(codes: np.ndarray, content: np.ndarray | None = None) -> Collisions:
    """Count items that share an id. ``content``: (n,) equal where items cannot be told apart (``distinct_rows``)."""
    group = prefix_groups(codes)[-1]
    counts = np.bincount(group)
    items, distinct = len(codes), len(counts)
    plain = Collisions(items, distinct, 1 - distinct / items, int(counts.max()))
    if content is None:
        return plain
    first = np.unique(content, return_index=True)[1]
    apart = 1 - len(np.unique(group[first])) / len(first)
    return Collisions(items, distinct, plain.rate, plain.largest, 1 - len(first) / items, apart)


def reconstruction(vectors: np.ndarray, decoded: np.ndarray) -> tuple[float, float | None]:
    """Return the mean squared error of a coordinate, and the explained share of the variance (None without any)."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    error = spread = 0.0
    for block in blocks(*vectors.shape):
        rows = vectors[block].astype(np.float64)
        error += float(((rows - decoded[block]) ** 2).sum())
        spread += float(((rows - mean) ** 2).sum())
    return error / vectors.size, 1 - error / spread if spread > 0 else None


def measure_neighbours(
    codes: np.ndarray, vectors: np.ndarray, decoded: np.ndarray | None, k: int = 10, queries: int = 1000, seed: int = 0
) -> Neighbours | None:
    """Return the recall of the k nearest neighbours of a sample of items; None with a single item."""
    count = len(codes)
    k = min(k, count - 1)
    if k < 1:
        return None
    rows = sample_queries(count, queries, seed)
    truth = exact_neighbours(vectors, rows, k)
    by_distance = None
    if decoded is not None:
        groups = prefix_groups(codes)[-1]
        table = np.ascontiguousarray(_matrix(decoded, count, "decoded")[np.unique(groups, return_index=True)[1]])
        by_distance = recall_by_distance(table, groups, rows, truth)
    return Neighbours(
        k, len(rows), k / (count - 1), by_distance, recall_by_digits(codes, rows, truth),
        recall_by_digits(codes, rows, truth, prefix=False),
    )  # fmt: skip


def _matrix(values: np.ndarray, rows: int, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or len(values) != rows:
        raise DataError(f"{name} have shape {values.shape}, expected one row for each of {rows:,} codes")
    return np.ascontiguousarray(values, np.float32)
