"""Which queries of two evaluation sets are the same. A user (or session) may ask several queries."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable

import numpy as np

from sparcode.errors import DataError
from sparcode.types import EvaluationSet

Key = tuple[int, int, bytes, int]
"""User, length of the history, digest of history and targets, how many equal queries stand before it."""


def query_keys(part: EvaluationSet) -> list[Key]:
    """Return what tells each query from all others of the set; equal queries of a user are numbered in their order."""
    seen: Counter[Hashable] = Counter()
    keys = []
    for row, user in enumerate(part.users.tolist()):
        history, targets = part.queries.history(row), part.targets(row)
        content = hashlib.sha256(history.astype("<i8").tobytes() + b"|" + targets.astype("<i8").tobytes()).digest()
        same = (user, len(history), content)
        keys.append((*same, seen[same]))
        seen[same] += 1
    return keys


def ordinals(users: np.ndarray) -> np.ndarray:
    """Return int64 (B,): how many queries of the same user stand before each."""
    order = np.argsort(users, kind="stable")
    starts = np.flatnonzero(np.diff(users[order], prepend=users[order][:1] - 1))
    places = np.arange(len(users)) - np.repeat(starts, np.diff(starts, append=len(users)))
    found = np.empty(len(users), np.int64)
    found[order] = places
    return found


def common_queries(a: EvaluationSet, b: EvaluationSet, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the queries that both sets hold, in the order of ``a``: two int64 arrays of one length.

    Samples of one set are paired by what they share. Raises DataError, in which ``names`` stand for the sets, when
    nothing is shared, or when a user is asked something else in each: then the sets are of different splits or data.
    """
    if a is b:
        rows = np.arange(len(a))
        return rows, rows
    keys_a, keys_b = query_keys(a), query_keys(b)
    where = {key: row for row, key in enumerate(keys_b)}
    pairs = [(row, where[key]) for row, key in enumerate(keys_a) if key in where]
    if not set(a.users.tolist()) & set(b.users.tolist()):
        raise DataError(f"{names[0]} and {names[1]} were evaluated on different users; nothing to compare")
    odd = _contradictions(keys_a, keys_b)
    if odd or not pairs:
        raise DataError(
            f"{names[0]} and {names[1]} were evaluated on different queries: they share {len(pairs):,} of {len(a):,} "
            f"and {len(b):,}, and {odd:,} users have other histories or targets in each; use one split for both"
        )
    rows_a, rows_b = np.array(pairs, np.int64).T
    return rows_a, rows_b


def _contradictions(keys_a: list[Key], keys_b: list[Key]) -> int:
    """Count users who ask one query in each set, or one of the same length of history, that is not the same."""
    alone = [Counter(key[0] for key in keys) for keys in (keys_a, keys_b)]
    content = [{key[:2]: key[2] for key in keys} for keys in (keys_a, keys_b)]
    single = [{key[0]: key[:3] for key in keys} for keys in (keys_a, keys_b)]
    shared = alone[0].keys() & alone[1].keys()
    odd = {user for user in shared if alone[0][user] == alone[1][user] == 1 and single[0][user] != single[1][user]}
    return len(odd | {key[0] for key in content[0].keys() & content[1].keys() if content[0][key] != content[1][key]})
