"""Items that share a code: four policies, each with what it costs in distortion.

* ``none``: items share SIDs.
* ``extra-digit``: one more digit numbers the items of a code; nothing moves, the SID is longer.
* ``next-best``: of the items of a code the one that fits best keeps it, each other one takes the best code that is
  still free behind its prefix.
* ``sinkhorn-last``: the last digits of all such items behind a prefix are assigned anew together (optimal transport).

The last two move items inside their prefix only. Where a prefix has more items than last digits, the rest stays where
it is, is counted as unresolved, and a warning says so. New items never move old ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sparcode.errors import ConfigError, DataError, QueryError
from sparcode.semantic_id.codec import Codec
from sparcode.semantic_id.keys import group, keys, rank_in_group
from sparcode.semantic_id.rows import BLOCK_ROWS, row_hashes
from sparcode.semantic_id.sinkhorn import round_plan, sinkhorn
from sparcode.wording import warn

POLICIES = ("none", "extra-digit", "next-best", "sinkhorn-last")
MIN_EXTRA = 16
"""Fewest values of the extra digit: new items find room in a vocabulary that does not change."""
COST_ROWS = 4096
MAX_PLAN = 1 << 22


@dataclass(frozen=True)
class CollisionReport:
    """What handling found and what it cost. Rates are 1 - distinct SIDs / items.

    ``rate_of_distinct_vectors`` leaves items with equal vectors out: no content-based method can tell them apart.
    ``mse_*`` are mean squared errors a coordinate of the vectors that were quantised; null without a decoder.
    """

    policy: str
    items: int
    distinct_vectors: int
    distinct_before: int
    distinct_after: int
    rate_before: float
    rate_of_distinct_vectors: float
    rate_after: float
    largest_group: int
    moved: int
    unresolved: int
    extra_size: int
    mse_before: float | None
    mse_after: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able, with the added distortion in percent."""
        known = self.mse_before is not None and self.mse_after is not None and self.mse_before > 0
        added = 100 * (self.mse_after / self.mse_before - 1) if known else None  # type: ignore[operator]
        return asdict(self) | {"added_distortion_percent": added}


def resolve(
    policy: str, codec: Codec, vectors: np.ndarray, codes: np.ndarray, *, extra_size: int | None = None
) -> tuple[np.ndarray, CollisionReport]:
    """Return the SIDs (n, L), with ``extra-digit`` (n, L + 1), of items with codes (n, L), and the report.

    ``vectors`` (n, d) as the codec takes them. The result depends on the arguments alone.
    """
    check_policy(policy)
    handled = np.array(codes, np.int32)
    unresolved, size = 0, 0
    if policy == "extra-digit":
        handled, size = _with_extra_digit(codes, codec.sizes, extra_size)
    elif policy != "none" and len(codes):
        move = _sinkhorn_last if policy == "sinkhorn-last" else _next_best
        try:
            unresolved = move(codec, vectors, handled)
        except QueryError as problem:
            raise ConfigError(f"collisions={policy!r}: {problem}; choose extra-digit or none") from None
    if unresolved:
        warn(
            f"{unresolved:,} items still share a SID: their prefixes have more items than last digits; "
            "collisions=extra-digit separates them, so do more codebooks",
            stacklevel=3,
        )
    return handled, _report(policy, codec, vectors, codes, handled, unresolved, size)


def append(
    policy: str, codec: Codec, vectors: np.ndarray, codes: np.ndarray, taken: np.ndarray, sizes: tuple[int, ...]
) -> np.ndarray:
    """Return SIDs of new items with codes (n, L) beside the ``taken`` SIDs (m, len(sizes)), which stay.

    Items are placed one after the other: appending them in one call or in several gives the same SIDs.
    Raises DataError when no SID is left where an item belongs.
    """
    if policy == "none" or not len(codes):
        return np.asarray(codes, np.int32)
    if policy == "extra-digit":
        return _append_extra(codes, taken, sizes)
    handled = np.array(codes, np.int32)
    full = _place_in_order(codec, vectors, handled, np.arange(len(handled)), _occupied(handled, taken, codec.sizes))
    if len(full):
        raise DataError(
            f"no SID is left behind the prefix {_text(codes[full[0], :-1])} for the new item in row {full[0]}: all "
            f"{codec.sizes[-1]} last digits are taken; fit again with more codebooks, or with collisions=extra-digit"
        )
    return handled


def check_policy(policy: str) -> None:
    """Raise ConfigError for an unknown policy."""
    if policy not in POLICIES:
        raise ConfigError(f"collisions={policy!r}: one of {', '.join(POLICIES)} expected")


def extra_digit_size(largest: int) -> int:
    """Return the values of the extra digit for groups of at most ``largest``: a power of two with room to grow."""
    return max(MIN_EXTRA, 1 << int(largest).bit_length())


def _with_extra_digit(codes: np.ndarray, sizes: tuple[int, ...], extra_size: int | None) -> tuple[np.ndarray, int]:
    rank = rank_in_group(keys(codes, sizes))
    largest = int(rank.max(initial=0)) + 1
    size = extra_digit_size(largest) if extra_size is None else extra_size
    if size < largest:
        raise ConfigError(f"extra_size={size}: {largest} items share one code; expected at least {largest}")
    return np.column_stack([codes, rank]).astype(np.int32), size


def _append_extra(codes: np.ndarray, taken: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    content = sizes[:-1]
    old, new = keys(taken[:, :-1], content), keys(codes, content)
    # Old items may leave gaps when a mapping was cut: the next number is behind the largest, not the count.
    order = np.lexsort((taken[:, -1], old))
    last = np.searchsorted(old[order], new, side="right") - 1
    found = (last >= 0) & (old[order][last] == new) if len(old) else np.zeros(len(new), bool)
    first = np.where(found, taken[order[last], -1] + 1, 0) if len(old) else np.zeros(len(new), np.int64)
    extra = first + rank_in_group(new)
    full = np.flatnonzero(extra >= sizes[-1])
    if len(full):
        raise DataError(
            f"no extra digit is left behind {_text(codes[full[0]])} for the new item in row {full[0]}: "
            f"{sizes[-1]} items share that code; fit again, or with a larger extra_size"
        )
    return np.column_stack([codes, extra]).astype(np.int32)


def _text(digits: np.ndarray) -> str:
    return "-".join(map(str, np.asarray(digits).tolist())) or "(empty)"


def _next_best(codec: Codec, vectors: np.ndarray, codes: np.ndarray) -> int:
    rows, keeps = _colliding(codec, vectors, codes)
    movers = rows[~keeps]
    stay = np.ones(len(codes), bool)
    stay[movers] = False
    occupied = _occupied(codes[movers], codes[stay], codec.sizes)
    return len(_place_in_order(codec, vectors, codes, movers, occupied))


def _colliding(codec: Codec, vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose code is shared, ascending, and which of them keep it: the best fit of each code."""
    groups = group(keys(codes, codec.sizes))
    rows = np.flatnonzero(groups.counts[groups.of] > 1)
    errors = np.empty(len(rows), np.float32)
    for low in range(0, len(rows), COST_ROWS):
        part = rows[low : low + COST_ROWS]
        costs = codec.last_digit_costs(vectors[part], codes[part])
        errors[low : low + COST_ROWS] = costs[np.arange(len(part)), codes[part, -1]]
    order = np.lexsort((rows, errors, groups.of[rows]))
    first = np.ones(len(rows), bool)
    first[1:] = np.diff(groups.of[rows][order]) != 0
    keeps = np.zeros(len(rows), bool)
    keeps[order[first]] = True
    return rows, keeps


def _occupied(codes: np.ndarray, taken: np.ndarray, sizes: tuple[int, ...]) -> dict[Any, np.ndarray]:
    """Return for every prefix of ``codes`` which last digits (sizes[-1],) bool the SIDs ``taken`` hold."""
    prefix, held = keys(codes[:, :-1], sizes[:-1]), keys(taken[:, :-1], sizes[:-1])
    tables = {key: np.zeros(sizes[-1], bool) for key in dict.fromkeys(prefix.tolist())}
    inside = np.flatnonzero(np.isin(held, np.unique(prefix)))
    for key, digit in zip(held[inside].tolist(), taken[inside, -1].tolist(), strict=True):
        tables[key][digit] = True
    return tables


def _place_in_order(
    codec: Codec, vectors: np.ndarray, codes: np.ndarray, rows: np.ndarray, occupied: dict[Any, np.ndarray]
) -> np.ndarray:
    """Give each row, in order, its own last digit if free, else the best free one; return the rows without any."""
    prefix = keys(codes[rows, :-1], codec.sizes[:-1]).tolist()
    again = rank_in_group(keys(codes[rows], codec.sizes)) > 0
    full = []
    for low in range(0, len(rows), COST_ROWS):
        part = range(low, min(low + COST_ROWS, len(rows)))
        likely = [place for place in part if again[place] or occupied[prefix[place]][codes[rows[place], -1]]]
        costs = dict(zip(likely, codec.last_digit_costs(vectors[rows[likely]], codes[rows[likely]]), strict=True))
        for place in part:
            row, table = rows[place], occupied[prefix[place]]
            if table[codes[row, -1]] and not table.all():
                # An item that moved before may have taken this one's digit: its costs were not foreseen.
                if place not in costs:
                    costs[place] = codec.last_digit_costs(vectors[row : row + 1], codes[row : row + 1])[0]
                codes[row, -1] = np.where(table, np.inf, costs[place]).argmin()
            elif table[codes[row, -1]]:
                full.append(row)
            table[codes[row, -1]] = True
    return np.array(full, np.int64)


def _sinkhorn_last(codec: Codec, vectors: np.ndarray, codes: np.ndarray) -> int:
    rows, _ = _colliding(codec, vectors, codes)
    stay = np.ones(len(codes), bool)
    stay[rows] = False
    occupied = _occupied(codes[rows], codes[stay], codec.sizes)
    prefix = keys(codes[rows, :-1], codec.sizes[:-1])
    groups = group(prefix)
    unresolved = 0
    for number in range(len(groups.counts)):
        members = groups.order[groups.starts[number] : groups.starts[number + 1]]
        free = np.flatnonzero(~occupied[prefix[members[:1]].tolist()[0]])
        unresolved += max(0, len(members) - len(free))
        _balance(codec, vectors, codes, rows[members[: len(free)]], free)
    return unresolved


def _balance(codec: Codec, vectors: np.ndarray, codes: np.ndarray, rows: np.ndarray, free: np.ndarray) -> None:
    if len(rows) * len(free) > MAX_PLAN:
        raise ConfigError(
            f"collisions=sinkhorn-last: {len(rows):,} items of one prefix and {len(free):,} free codes are too many "
            "to balance together; choose next-best or extra-digit, or more codebooks"
        )
    costs = codec.last_digit_costs(vectors[rows], codes[rows])[:, free]
    codes[rows, -1] = free[round_plan(sinkhorn(costs))]


def _report(
    policy: str, codec: Codec, vectors: np.ndarray, before: np.ndarray, after: np.ndarray, unresolved: int, size: int
) -> CollisionReport:
    items = len(before)
    groups = group(keys(before, codec.sizes))
    hashes = row_hashes(vectors)
    distinct_vectors = len(np.unique(hashes))
    sizes = (*codec.sizes, size) if size else codec.sizes
    distinct, distinct_after = len(groups.counts), len(group(keys(after, sizes)).counts)
    moved = int((after[:, : before.shape[1]] != before).any(axis=1).sum())
    mse = _mse(codec, vectors, before)
    return CollisionReport(
        policy=policy,
        items=items,
        distinct_vectors=distinct_vectors,
        distinct_before=distinct,
        distinct_after=distinct_after,
        rate_before=_rate(distinct, items),
        rate_of_distinct_vectors=_rate(distinct, distinct_vectors),
        rate_after=_rate(distinct_after, items),
        largest_group=int(groups.counts.max(initial=0)),
        moved=moved,
        unresolved=unresolved,
        extra_size=size,
        mse_before=mse,
        mse_after=_mse(codec, vectors, after) if moved else mse,
    )


def _rate(distinct: int, items: int) -> float:
    return max(0.0, 1 - distinct / items) if items else 0.0


def _mse(codec: Codec, vectors: np.ndarray, codes: np.ndarray) -> float | None:
    total = 0.0
    try:
        for low in range(0, len(codes), BLOCK_ROWS):
            gap = vectors[low : low + BLOCK_ROWS] - codec.decode(codes[low : low + BLOCK_ROWS])
            total += float(np.einsum("nd,nd->", gap, gap, dtype=np.float64))
    except QueryError:
        return None
    return total / max(1, vectors.size)
