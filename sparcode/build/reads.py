"""What queries read of an index that is being built, counted on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sparcode.build.stored_codes import Stored
from sparcode.config import FamiliesConfig
from sparcode.index.arrays import Arrays
from sparcode.query.encoder.encoder import Encoder
from sparcode.query.families import CategoryReader, ItemReader, RowReader, SegmentReader
from sparcode.run import Run


class Reads(NamedTuple):
    """What a validation query reads on average; all zero and empty without any."""

    codes: np.ndarray
    """How often it reads the list of each stored code, (C,) float64."""
    lists: dict[str, float]
    """Postings it reads in the lists of each other family, by name."""
    queries: int
    """Number of validation queries."""

    @property
    def of_others(self) -> float:
        """Postings in the lists of all other families."""
        return sum(self.lists.values())


def validation_reads(
    run: Run, families: FamiliesConfig, encoder: Encoder, stored: Stored,
    rows_of: Callable[[np.ndarray], np.ndarray], lists: Mapping[str, Arrays],
) -> Reads:  # fmt: skip
    """Count what validation queries read.

    ``rows_of``: stored rows (X,) of codes (X, M). ``lists``: lists of all families but the learned one, by name.
    """
    validation, reads = run.held_out("validation"), np.zeros(len(stored.codes))
    if validation is None or len(validation) == 0:
        return Reads(reads, {}, 0)
    count, probes = len(validation), families.learned.probes or 1
    for start in range(0, count, 4096):
        queries = validation.queries.slice(start, min(start + 4096, count))
        tokens = encoder.tokens(queries)[encoder.has_tokens(queries)]
        codes = encoder.codes(tokens, probes)[0].reshape(-1, stored.codes.shape[1])
        reads += np.bincount(rows_of(codes), minlength=len(reads))
    others: dict[str, float] = {}
    for name, each in lists.items():
        rows = _reader(name, each, families).read(validation.queries).rows
        others[name] = float(np.diff(each["indptr"])[rows].sum()) / count
    return Reads(reads / count, others, count)


def _reader(name: str, lists: Arrays, families: FamiliesConfig) -> RowReader:
    """Return the reader of a family's lists at the most it may read."""
    count = len(lists["indptr"]) - 1
    if name == "item":
        return ItemReader(0, (1,) * families.item.history)
    if name == "segment":
        return SegmentReader(0, count, 1)
    return CategoryReader(0, count, lists["item_indptr"], lists["item_words"], (1,) * families.category.history)
