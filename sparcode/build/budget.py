"""What a budget of bytes affords: postings of item lists, stored codes, postings of learned lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sparcode.build.cut import up_to
from sparcode.build.stored_codes import Stored
from sparcode.errors import BudgetError
from sparcode.index.arrays import Arrays
from sparcode.index.layout import MAX_CODE_TABLE

AFFORDED = 16
"""No more codes are stored than the storage can give this many postings each."""
ITEM_SHARE = 0.6
"""Share of the bytes that the postings of item lists may take when there are learned codes too."""
POSTING_BYTES = 4


@dataclass(frozen=True)
class ByteBudget:
    """A budget of ``megabytes`` (10^6 bytes) for an index of ``item_count`` items.

    ``lists``: lists (``indptr``, ``items``) of all families but the learned one that are there so far, by name.
    """

    megabytes: float
    item_count: int
    lists: Mapping[str, Arrays]

    def item_postings(self) -> int:
        """Return how many postings of item lists are affordable when there are no learned codes."""
        return self._item_postings(self.megabytes * 1e6, 8 * (self.item_count + 1))

    def item_postings_beside_codes(self, books: int, codewords: int, floor: int, trained: int) -> int:
        """Return how many are, beside the fewest codes and ``floor`` learned lists of each of ``trained`` items."""
        codes = max(1, floor)
        reserved = 8 * (self.item_count + 1) + self._fixed(codes, books, codewords)
        reserved += self._least_list * codes + POSTING_BYTES * floor * trained
        return self._item_postings(ITEM_SHARE * self.megabytes * 1e6, reserved)

    def codes(self, books: int, codewords: int, needs: np.ndarray | None) -> int:
        """Return how many codes of ``books`` words may be stored; ``needs`` (n,): learned lists each item is to be in.

        Raises BudgetError, with the smallest feasible budget, when not even the fewest codes fit.
        """
        # What the needs of items may cost is set aside before codes are chosen, so that they fit beside any floor.
        fewest, needed = (1, 0) if needs is None else (max(1, int(needs.max())), int(needs.sum()))
        left = self.megabytes * 1e6 - self._fixed(0, books, codewords) - POSTING_BYTES * needed
        most = int(left // (8 + 2 * books + self._least_list))
        if most < fewest:
            least = self._fixed(fewest, books, codewords) + self._least_list * fewest + POSTING_BYTES * needed
            floor = "" if needs is None else f", {needed:,} postings for item_floor"
            raise BudgetError(
                f"budget of {self.megabytes:g} MB found, the smallest feasible is {up_to(least / 1e6)} MB "
                f"(lists of the other families, offsets, fallback table{floor} and {_codes(fewest)})"
            )
        return most

    def learned_postings(self, stored: Stored) -> int:
        """Return how many postings the lists of the stored codes may hold together."""
        fixed = self._fixed(len(stored.codes), stored.codes.shape[1], stored.codewords)
        return int((self.megabytes * 1e6 - fixed) // POSTING_BYTES)

    @property
    def _least_list(self) -> int:
        return POSTING_BYTES * min(AFFORDED, self.item_count)

    def _item_postings(self, share: float, reserved: int) -> int:
        return max(0, int(min(share, self.megabytes * 1e6 - reserved) // POSTING_BYTES))

    def _fixed(self, codes: int, books: int, codewords: int) -> int:
        """Return the bytes of an index with so many codes, less their postings."""
        lists = sum(POSTING_BYTES * len(each["items"]) for each in self.lists.values())
        rows = codes + sum(len(each["indptr"]) - 1 for each in self.lists.values())
        table = 4 * codewords**books if codewords**books <= MAX_CODE_TABLE else 0
        return lists + 8 * (rows + 1) + table + 2 * books * codes


def _codes(count: int) -> str:
    return "one code" if count == 1 else f"{count} codes"
