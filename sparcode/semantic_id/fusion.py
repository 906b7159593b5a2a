"""Several vectors of one item made one: standardised part by part, then concatenated or projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparcode.errors import DataError
from sparcode.semantic_id.behaviour import one_thread
from sparcode.semantic_id.embedding_checks import blocks

Fusion = Literal["concat", "project"]
FUSIONS = ("concat", "project")
_NOISE = 1e-9


@dataclass(frozen=True)
class Part:
    """``vectors``: float32 (n, d). ``known``: (n,) bool, False where the source says nothing of an item."""

    name: str
    vectors: np.ndarray
    known: np.ndarray


def fuse(parts: list[Part], how: Fusion = "concat", width: int = 128) -> np.ndarray:
    """Return float32 (n, sum of widths) for ``concat``, (n, <= width) for ``project``; one part alone is left as it is.

    ``concat``: every part loses its mean over the known items and is divided by the root of its total variance, so
    that a wide part weighs as much as a narrow one; unknown items get zeros, the mean. ``project``: the
    principal directions of that.
    """
    if how not in FUSIONS:
        raise DataError(f"unknown fusion {how!r}; expected one of {', '.join(FUSIONS)}")
    if len(parts) == 1 and how == "concat":
        return parts[0].vectors
    joined = np.concatenate([standardised(part) for part in parts], axis=1)
    return principal(joined, width) if how == "project" else joined


def standardised(part: Part) -> np.ndarray:
    """Return float32 (n, d) of mean 0 and total variance 1 over the known items, zeros elsewhere."""
    known = part.vectors[part.known].astype(np.float64)
    if len(known) == 0:
        raise DataError(f"{part.name} knows none of the items; leave it out, or check the ids")
    mean = known.mean(axis=0)
    spread = float(np.sqrt(((known - mean) ** 2).sum(axis=1).mean()))
    result = np.zeros(part.vectors.shape, np.float32)
    if spread > _NOISE:
        result[part.known] = ((known - mean) / spread).astype(np.float32)
    return result


def principal(vectors: np.ndarray, width: int) -> np.ndarray:
    """Return float32 (n, <= width): the centred rows in their principal directions, the largest variance first.

    Directions without variance are left out. The sign of each is that of its largest coefficient.
    """
    with one_thread():
        mean = vectors.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((vectors.shape[1], vectors.shape[1]))
        for block in blocks(*vectors.shape):
            centred = vectors[block] - mean
            covariance += centred.T @ centred
        values, directions = np.linalg.eigh(covariance)
        kept = np.argsort(-values, kind="stable")[:width]
        kept = kept[values[kept] > _NOISE * max(values.max(), _NOISE)]
        directions = directions[:, kept]
        directions *= np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(len(kept))])
        result = np.empty((len(vectors), len(kept)), np.float32)
        for block in blocks(*vectors.shape):
            result[block] = (vectors[block] - mean) @ directions
    return result
