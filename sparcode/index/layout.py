"""The index in memory: posting lists of several code families in one CSR, one global scale.

Rows are posting lists. A posting is one uint32, ``id << 8 | impact``: the upper 24 bits are the internal
item id, the lower 8 bits a quantised score 1..255 (0 is never stored). Rows are sorted by id and hold an
id once. The score of a query is ``scale * sum(weight * impact)`` over its rows, an exact integer sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcode.errors import DataError, SparcodeError

if TYPE_CHECKING:
    import scipy.sparse

MAX_ITEMS = (1 << 24) - 1
"""Largest number of items a 24-bit id can name; more need a 64-bit layout, which does not exist yet."""

MAX_ROWS = (1 << 31) - 1
"""Largest number of posting lists: a query names its rows by int32."""

MAX_BOOKS = 64
"""Most sub-codebooks a code may have; N^M fits 64 bits only far below."""

MAX_IMPACT = 255
MAX_CODE_TABLE = 1 << 18
"""Largest N^M for which every composite code has an entry in ``code_rows``."""


_BLOCK = 1 << 22


class LayoutError(ValueError):
    """A broken rule of the layout; ``part`` is the array it is about, or ``manifest`` for the numbers beside them."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True)
class Family:
    """A block of rows of one kind of code (``learned``, ``item``, ...).

    ``multiplier`` says what one impact step of this family is worth in the family's own unit:
    own value = impact * scale * multiplier. It explains; the sum of a query never uses it.
    """

    name: str
    first_row: int
    rows: int
    multiplier: float = 1.0

    @property
    def stop_row(self) -> int:
        """One past the last row."""
        return self.first_row + self.rows


@dataclass(frozen=True)
class Index:
    """Posting lists and what is needed to find the row of a code.

    ``indptr``: (rows + 1,) uint64. ``postings``: (P,) uint32. ``item_count``: n. ``scale``: float > 0.
    ``families``: contiguous, in row order, covering all rows. ``code_table``: (C, M) uint16, the learned
    codes in row order. ``code_rows``: (N^M,) int32 or None, the nearest stored learned code (0..C-1) of every
    composite code. ``scores``: (P,) float32 unquantised scores beside the postings, or None.
    """

    indptr: np.ndarray
    postings: np.ndarray
    item_count: int
    scale: float
    families: tuple[Family, ...]
    code_table: np.ndarray
    code_rows: np.ndarray | None = None
    scores: np.ndarray | None = None

    @property
    def row_count(self) -> int:
        """Number of posting lists."""
        return len(self.indptr) - 1

    @property
    def cache_bytes(self) -> int:
        """Bytes of lists, offsets and fallback tables."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the stored arrays by name, absent ones left out."""
        named = {
            "indptr": self.indptr,
            "postings": self.postings,
            "code_table": self.code_table,
            "code_rows": self.code_rows,
            "scores": self.scores,
        }
        return {name: array for name, array in named.items() if array is not None}

    def family(self, name: str) -> Family:
        """Return a family by name; KeyError when the index has none of that name."""
        for family in self.families:
            if family.name == name:
                return family
        raise KeyError(name)

    def has_family(self, name: str) -> bool:
        """Whether the index holds a family of that name."""
        return any(family.name == name for family in self.families)

    def family_of(self, row: int) -> Family:
        """Return the family that row belongs to."""
        for family in self.families:
            if family.first_row <= row < family.stop_row:
                return family
        raise IndexError(f"row {row} is outside the index of {self.row_count} rows")

    def row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int32, impacts uint8) of one posting list."""
        return unpack(self.postings[int(self.indptr[row]) : int(self.indptr[row + 1])])

    def lengths(self) -> np.ndarray:
        """(rows,) int64 list lengths."""
        return np.diff(self.indptr.astype(np.int64))

    def learned_rows(self, codes: np.ndarray, codewords: int) -> np.ndarray:
        """Map codes (..., M) uint16 to rows (...) int32; -1 where no table says what row to read.

        With ``code_rows`` every code has a row (its nearest stored code); without it only stored codes have.
        """
        family = self.family("learned")
        keys = composite(codes, codewords)
        if self.code_rows is not None:
            return self.code_rows[keys] + np.int32(family.first_row)
        stored = composite(self.code_table, codewords)
        order = np.argsort(stored, kind="stable")
        place = np.minimum(np.searchsorted(stored[order], keys), max(len(stored) - 1, 0))
        if not len(stored):
            return np.full(keys.shape, -1, np.int32)
        rows = order[place]
        return np.where(stored[rows] == keys, rows + family.first_row, -1).astype(np.int32)

    def validate(self, *, postings: bool = True) -> None:
        """Check every rule of the layout; LayoutError (a ValueError) names the first one broken.

        ``postings=False`` leaves out the O(P) checks (ids < n, impacts >= 1, ids ascending in a row, scores > 0).
        Works in blocks: what it allocates does not grow with the index.
        """
        _check_shapes(self)
        _check_offsets(self)
        _check_families(self)
        _check_code_tables(self)
        if postings:
            check_postings(self.indptr, self.postings, self.item_count)
            _check_scores(self.scores)

    def to_scipy(self) -> scipy.sparse.csr_matrix:
        """Return the scores as a (rows, n) float32 CSR matrix: impact * scale, or ``scores`` when stored."""
        from scipy.sparse import csr_matrix

        ids, impacts = unpack(self.postings)
        values = self.scores if self.scores is not None else impacts * np.float32(self.scale)
        return csr_matrix(
            (np.asarray(values, np.float32), ids, self.indptr.astype(np.int64)), shape=(self.row_count, self.item_count)
        )


def pack(ids: np.ndarray, impacts: np.ndarray) -> np.ndarray:
    """Pack ids (0..2^24-1) and impacts (1..255) into uint32 postings; ValueError outside these ranges."""
    ids, impacts = np.asarray(ids), np.asarray(impacts)
    if ids.size and (ids.min() < 0 or ids.max() > MAX_ITEMS):
        raise ValueError(f"item ids must be 0..{MAX_ITEMS}, found {ids.min()}..{ids.max()}")
    if impacts.size and (impacts.min() < 1 or impacts.max() > MAX_IMPACT):
        raise ValueError(f"impacts must be 1..{MAX_IMPACT}, found {impacts.min()}..{impacts.max()}")
    return (ids.astype(np.uint32) << np.uint32(8)) | impacts.astype(np.uint32)


def unpack(postings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids int32, impacts uint8) of packed postings."""
    return (postings >> np.uint32(8)).astype(np.int32), (postings & np.uint32(255)).astype(np.uint8)


def choose_scale(peak: float) -> float:
    """Return the scale at which the largest value ``peak`` becomes impact 255; 1.0 for an index without values."""
    if not math.isfinite(peak) or peak < 0:
        raise ValueError(f"scores must be finite, the largest is {peak}")
    return peak / MAX_IMPACT if peak > 0 else 1.0


def quantise(values: np.ndarray, scale: float) -> np.ndarray:
    """Return impacts uint8 of positive values: value / scale, rounded half up, clipped to 1..255.

    The loss is at most scale / 2 a posting below 255.5 * scale, except that a value under scale / 2 is lifted
    to 1 (a kept posting never vanishes). Values above 255.5 * scale are clipped.
    """
    steps = np.floor(np.asarray(values, np.float64) / scale + 0.5)
    return np.clip(steps, 1, MAX_IMPACT).astype(np.uint8)


def composite(codes: np.ndarray, codewords: int) -> np.ndarray:
    """Return codes (..., M) as one int64 each: k_1 * N^(M-1) + ... + k_M, N = ``codewords``."""
    keys = np.zeros(codes.shape[:-1], np.int64)
    for book in range(codes.shape[-1]):
        keys = keys * codewords + codes[..., book]
    return keys


def make_index(
    indptr: np.ndarray,
    postings: np.ndarray,
    item_count: int,
    scale: float,
    families: Iterable[Family | Mapping[str, Any]],
    *,
    code_table: np.ndarray | None = None,
    code_rows: np.ndarray | None = None,
    scores: np.ndarray | None = None,
) -> Index:
    """Build a checked Index: dtypes converted, families given as Family or dict; ValueError on a broken rule."""
    if item_count > MAX_ITEMS:
        raise SparcodeError(f"{item_count} items found, this index layout holds at most {MAX_ITEMS}")
    index = Index(
        np.ascontiguousarray(indptr, np.uint64),
        np.ascontiguousarray(postings, np.uint32),
        int(item_count),
        float(scale),
        tuple(family if isinstance(family, Family) else Family(**family) for family in families),
        np.ascontiguousarray(np.zeros((0, 0)) if code_table is None else code_table, np.uint16),
        None if code_rows is None else np.ascontiguousarray(code_rows, np.int32),
        None if scores is None else np.ascontiguousarray(scores, np.float32),
    )
    index.validate()
    return index


def from_scores(
    indptr: np.ndarray,
    ids: np.ndarray,
    values: np.ndarray,
    item_count: int,
    *,
    families: Iterable[Family | Mapping[str, Any]] | None = None,
    scale: float | None = None,
    keep_scores: bool = False,
    code_table: np.ndarray | None = None,
    code_rows: np.ndarray | None = None,
) -> Index:
    """Quantise CSR scores (all > 0, ids ascending in a row) with one scale and build the Index.

    Without ``families`` all rows are one family named ``codes``; without ``scale`` the largest value is 255.
    """
    values = np.asarray(values, np.float32)
    if values.size and not (np.isfinite(values).all() and values.min() > 0):
        raise DataError("scores must be finite and > 0; leave out the pairs that score nothing")
    scale = choose_scale(float(values.max(initial=0.0))) if scale is None else scale
    families = [Family("codes", 0, len(indptr) - 1)] if families is None else families
    postings = pack(ids, quantise(values, scale))
    kept = values if keep_scores else None
    return make_index(
        indptr, postings, item_count, scale, families, code_table=code_table, code_rows=code_rows, scores=kept
    )


def from_scipy(matrix: scipy.sparse.spmatrix, **options: Any) -> Index:
    """Build an Index from a (rows, n) scipy sparse matrix of scores; explicit zeros are dropped.

    ``options`` go to ``from_scores``. Negative or non-finite scores raise DataError.
    """
    from scipy.sparse import csr_matrix

    csr = csr_matrix(matrix, dtype=np.float32, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    csr.sort_indices()
    return from_scores(csr.indptr, csr.indices, csr.data, csr.shape[1], **options)


def families_to_json(families: Iterable[Family]) -> list[dict[str, Any]]:
    """Return families as plain dictionaries."""
    return [asdict(family) for family in families]


def check_postings(indptr: np.ndarray, postings: np.ndarray, item_count: int) -> None:
    """Check ids < n, impacts >= 1 and strictly ascending ids in every row, in blocks; LayoutError if not.

    ``indptr``: (rows + 1,) uint64, rising from 0 to the length of ``postings`` (P,) uint32.
    """
    for low in range(0, len(postings), _BLOCK):
        # One posting of the block before: the order is checked across the edge.
        first = max(low - 1, 0)
        piece = np.asarray(postings[first : low + _BLOCK])
        _check_cells(piece, first, item_count)
        _check_order(indptr, piece >> np.uint32(8), first)


def _check_cells(piece: np.ndarray, first: int, item_count: int) -> None:
    impacts = piece & np.uint32(255)
    if impacts.min() == 0:
        place = first + int(impacts.argmin())
        raise LayoutError("postings", f"posting {place} has impact 0, expected 1..{MAX_IMPACT}")
    largest = int(piece.max()) >> 8
    if largest >= item_count:
        place = first + int(piece.argmax())
        raise LayoutError("postings", f"posting {place} names item {largest}, the index has {item_count} items")


def _check_order(indptr: np.ndarray, ids: np.ndarray, first: int) -> None:
    rising = ids[1:] > ids[:-1]
    # Keys of the array's own type: any other would convert, and copy, all offsets.
    edges = np.searchsorted(indptr, np.array([first + 1, first + len(ids)], indptr.dtype))
    rising[indptr[edges[0] : edges[1]].astype(np.int64) - first - 1] = True
    if not rising.all():
        place = first + 1 + int(rising.argmin())
        row = int(np.searchsorted(indptr, np.array(place, indptr.dtype), side="right")) - 1
        what = f"item {ids[place - first]} follows item {ids[place - first - 1]}"
        raise LayoutError("postings", f"the ids of posting list {row} are not strictly ascending: {what}")


def _check_scores(scores: np.ndarray | None) -> None:
    for low in range(0, 0 if scores is None else len(scores), _BLOCK):
        piece = np.asarray(scores[low : low + _BLOCK])  # type: ignore[index]
        sound = np.isfinite(piece) & (piece > 0)
        if not sound.all():
            place = int(sound.argmin())
            raise LayoutError("scores", f"score {low + place} is {piece[place]}, expected a finite number > 0")


def _check_shapes(index: Index) -> None:
    if not 0 <= index.item_count <= MAX_ITEMS:
        raise LayoutError("manifest", f"item count {index.item_count} is outside 0..{MAX_ITEMS}")
    if not (math.isfinite(index.scale) and index.scale > 0):
        raise LayoutError("manifest", f"scale {index.scale} is not a finite number > 0")
    if index.indptr.ndim != 1 or len(index.indptr) < 1 or index.postings.ndim != 1:
        raise LayoutError("indptr", "indptr and postings must be one-dimensional and indptr not empty")
    if index.row_count > MAX_ROWS:
        raise LayoutError("indptr", f"{index.row_count} posting lists, expected at most {MAX_ROWS}")
    if index.scores is not None and index.scores.shape != index.postings.shape:
        raise LayoutError("scores", f"{index.scores.shape} scores beside {index.postings.shape} postings")


def _check_offsets(index: Index) -> None:
    indptr, end = index.indptr, len(index.postings)
    if int(indptr[0]) != 0 or int(indptr[-1]) != end:
        raise LayoutError("indptr", f"offsets run {int(indptr[0])}..{int(indptr[-1])}, expected 0..{end}")
    for low in range(0, index.row_count, _BLOCK):
        piece = indptr[low : low + _BLOCK + 1]
        falls = piece[1:] < piece[:-1]
        if falls.any():
            row = low + int(falls.argmax())
            raise LayoutError("indptr", f"offsets fall: row {row} runs {int(indptr[row])}..{int(indptr[row + 1])}")
        lengths = np.diff(piece)
        longest = int(lengths.max())
        if longest > index.item_count:
            what = f"a posting list of {longest} postings in an index of {index.item_count} items"
            raise LayoutError("indptr", f"row {low + int(lengths.argmax())} is {what}")


def _check_families(index: Index) -> None:
    row = 0
    for family in index.families:
        if family.first_row != row or family.rows < 0:
            what = f"family {family.name!r} starts at row {family.first_row} and has {family.rows}"
            raise LayoutError("manifest", f"{what}, expected to start at {row}")
        if not (math.isfinite(family.multiplier) and family.multiplier > 0):
            what = f"the multiplier of family {family.name!r} is {family.multiplier}"
            raise LayoutError("manifest", f"{what}, expected a finite number > 0")
        row = family.stop_row
    if row != index.row_count or len({family.name for family in index.families}) != len(index.families):
        raise LayoutError("manifest", f"families cover {row} of {index.row_count} rows, expected all, each name once")


def _check_code_tables(index: Index) -> None:
    learned = index.family("learned").rows if index.has_family("learned") else 0
    table = index.code_table
    if table.ndim != 2 or len(table) not in (0, learned) or table.shape[1] > MAX_BOOKS:
        what = f"a code table of shape {table.shape} beside {learned} learned rows"
        raise LayoutError("code_table", f"{what}, expected (0 or {learned}, at most {MAX_BOOKS})")
    fallback = index.code_rows
    if fallback is None:
        return
    if fallback.ndim != 1 or not 0 < len(fallback) <= MAX_CODE_TABLE:
        what = f"fallback table of shape {fallback.shape}"
        raise LayoutError("code_rows", f"{what}, expected 1..{MAX_CODE_TABLE} entries")
    low, high = int(fallback.min()), int(fallback.max())
    if low < 0 or high >= learned:
        raise LayoutError(
            "code_rows", f"the fallback table names rows {low}..{high}, outside the {learned} learned rows"
        )
