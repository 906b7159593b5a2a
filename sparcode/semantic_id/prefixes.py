"""Groups of items that share the first digits of their semantic id, and what such groups agree in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparcode.errors import DataError
from sparcode.types import Sequences


@dataclass(frozen=True)
class Agreement:
    """``share``: for prefixes of length 1..L, the share of pairs that agree; None where there is no pair.

    ``chance``: what the share would be without any relation: one number for every length.
    """

    share: list[float | None]
    chance: list[float]

    @property
    def lift(self) -> list[float | None]:
        """Share divided by chance."""
        pairs = zip(self.share, self.chance, strict=True)
        return [None if share is None or not chance else share / chance for share, chance in pairs]


def prefix_groups(codes: np.ndarray) -> list[np.ndarray]:
    """Return int64 (n,) group numbers 0.. for prefixes of length 1..L of codes (n, L); any L and any sizes."""
    groups: list[np.ndarray] = []
    label = np.zeros(len(codes), np.int64)
    for digit in codes.T.astype(np.int64):
        _, label = np.unique(label * (int(digit.max(initial=0)) + 1) + digit, return_inverse=True)
        groups.append(label.astype(np.int64))
    return groups


def prefix_purity(codes: np.ndarray, categories: Sequence[str | None]) -> Agreement:
    """Share of the pairs of items with one prefix that are of one category; items without category are left out.

    Counted over pairs, so that a group of one item, which any id makes when prefixes are long, counts nothing:
    random ids get the chance, the share of all pairs that are of one category. Raises DataError for other lengths.
    """
    if len(categories) != len(codes):
        raise DataError(f"{len(categories):,} categories for {len(codes):,} items; expected one an item (or None)")
    known = np.array([bool(name) for name in categories], bool)
    _, label = np.unique(np.array([name for name in categories if name], dtype=object), return_inverse=True)
    label = label.astype(np.int64)
    everything = np.zeros(len(label), np.int64)
    shares = [_pair_share(group, label) for group in prefix_groups(np.asarray(codes)[known])]
    return Agreement(shares, [_pair_share(everything, label) or 0.0] * len(shares))


def _pair_share(group: np.ndarray, label: np.ndarray) -> float | None:
    """Return the share of the pairs of one group that have one label."""
    pairs = _pairs(group)
    both = group * (int(label.max(initial=0)) + 1) + label
    return _pairs(np.unique(both, return_inverse=True)[1]) / pairs if pairs else None


def _pairs(group: np.ndarray) -> int:
    counts = np.bincount(group) if len(group) else np.zeros(1, np.int64)
    return int((counts * (counts - 1)).sum()) // 2


def co_purchase(codes: np.ndarray, histories: Sequences) -> Agreement:
    """Share of the pairs of different items that follow each other in ``histories`` and have one prefix.

    ``histories`` hold rows of ``codes``. The chance of a length is that of two items drawn as often as they occur first
    and second in such pairs, given that they differ. Raises DataError for an item out of range.
    """
    codes = np.asarray(codes)
    first, second = _followers(histories, len(codes))
    if len(first) == 0:
        return Agreement([None] * codes.shape[1], [0.0] * codes.shape[1])
    early = np.bincount(first, minlength=len(codes)) / len(first)
    late = np.bincount(second, minlength=len(codes)) / len(first)
    same_item = float(early @ late)
    shares: list[float | None] = []
    chances = []
    for group in prefix_groups(codes):
        shares.append(float((group[first] == group[second]).mean()))
        met = np.bincount(group, weights=early) @ np.bincount(group, weights=late)
        chances.append(float((met - same_item) / max(1 - same_item, 1e-12)))
    return Agreement(shares, chances)


def _followers(histories: Sequences, count: int) -> tuple[np.ndarray, np.ndarray]:
    items = histories.items
    if len(items) and not 0 <= items.min() <= items.max() < count:
        raise DataError(
            f"histories hold item {int(items.max() if items.max() >= count else items.min())}, but there are codes of "
            f"items 0..{count - 1}; number the histories by the rows of the codes"
        )
    owner = np.repeat(np.arange(len(histories)), np.diff(histories.indptr))
    met = (owner[1:] == owner[:-1]) & (items[1:] != items[:-1])
    return items[:-1][met], items[1:][met]
