"""From kept candidates to an Index: offset applied, families merged under one scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparcode.build.cut import Cut
from sparcode.build.score.candidates import Candidates
from sparcode.index.arrays import Arrays
from sparcode.index.layout import Family, Index, choose_scale, make_index, pack, quantise, unpack


def select(candidates: Candidates, cut: Cut) -> Candidates:
    """Return the kept candidates with the values to store: S + offset, at least the smallest positive step."""
    codes = candidates.codes[cut.kept]
    values = candidates.values[cut.kept] + np.float32(cut.offset)
    peak = float(values.max(initial=0.0))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(candidates.indptr) - 1))]).astype(np.int64)
    # Floors of policy budget may lie below the cut; they are stored with the smallest impact rather than lost.
    return Candidates(indptr, candidates.items[cut.kept], np.maximum(values, np.float32(max(peak, 1.0) * 1e-6)))


def assemble(
    item_count: int,
    codes: np.ndarray | None,
    learned: Candidates | None,
    items: Arrays | None,
    table: np.ndarray | None,
    words: Mapping[str, Arrays] | None = None,
) -> Index:
    """Merge families under one scale: each family's largest value becomes impact 255, its unit is its multiplier.

    ``words``: lists (``indptr``, ``items``, ``values``) of further families by name, in the order of their rows.
    """
    parts: list[tuple[str, Candidates]] = [] if learned is None else [("learned", learned)]
    for name, lists in (({} if items is None else {"item": items}) | dict(words or {})).items():
        parts.append((name, Candidates(*(np.array(lists[part]) for part in ("indptr", "items", "values")))))
    families: list[Family] = []
    indptrs, postings, row, scale = [np.zeros(1, np.int64)], [np.zeros(0, np.uint32)], 0, None
    for name, part in parts:
        own = choose_scale(float(part.values.max(initial=0.0)))
        scale = own if scale is None else scale
        families.append(Family(name, row, len(part.indptr) - 1, own / scale))
        postings.append(pack(part.items, quantise(part.values, own)))
        indptrs.append(part.indptr[1:] + indptrs[-1][-1])
        row += len(part.indptr) - 1
    return make_index(
        np.concatenate(indptrs), np.concatenate(postings), item_count, scale or 1.0, families,
        code_table=codes, code_rows=table,
    )  # fmt: skip


def items_in_no_list(index: Index) -> dict[str, int]:
    """Return how many items no list of a family holds, by its name, and of no family at all, as "any"."""
    held, missing = np.zeros(index.item_count, bool), {}
    for family in index.families:
        low, high = int(index.indptr[family.first_row]), int(index.indptr[family.stop_row])
        own = np.zeros(index.item_count, bool)
        own[unpack(index.postings[low:high])[0]] = True
        missing[family.name] = int((~own).sum())
        held |= own
    return missing | {"any": int((~held).sum())}
