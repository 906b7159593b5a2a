"""The served query encoder of the additive model: a weighted sum of the vectors of the history's items. No torch.

    h = sum over ages a = 0 .. min(m, H) - 1 of age_weights[a] * sources[x_(m-a)],  token = h / |h|

of a history x_1 .. x_m, oldest first; a sum of zero stays zero.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.arithmetic import dot
from sparcode.errors import CorruptIndexError, QueryError
from sparcode.index.arrays import open_encoder_files, read_only
from sparcode.jit import contracted
from sparcode.spec_values import count_of, number_of
from sparcode.types import Queries

STEM = "additive"
"""Files of the model: ``additive.json`` and ``additive.safetensors``."""


class AdditiveEncoder:
    """Tokens of the additive model. Calls do not change it: threads may share one.

    ``spec``: {"temperature": tau, "width": d, "items": n, "history": H}. ``arrays``, all float32: "sources" (n, d),
    "targets" (n, d) unit rows, "age_weights" (H,). Raises CorruptIndexError when a part is missing or of another shape.
    """

    def __init__(self, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray], source: str = STEM) -> None:
        try:
            self.temperature = number_of(spec, "temperature", -1e9, 1e9)
            self.width, self.history = count_of(spec, "width", 1, 1 << 16), count_of(spec, "history", 1, 1 << 16)
            self.item_count = count_of(spec, "items", 0)
            table = (self.item_count, self.width)
            self.sources = _checked(source, "sources", arrays["sources"], table)
            self.targets = _checked(source, "targets", arrays["targets"], table)
            self.age_weights = _checked(source, "age_weights", arrays["age_weights"], (self.history,))
        except (KeyError, TypeError, ValueError) as problem:
            text = f"{type(problem).__name__}: {problem}"
            raise CorruptIndexError(
                f"{source}: spec and arrays do not fit together ({text}); train the run again"
            ) from None
        if not self.temperature > 0:
            raise CorruptIndexError(f"{source}: temperature {self.temperature:g}, expected above 0; train again")

    @classmethod
    def open(cls, folder: Path) -> AdditiveEncoder:
        """Open ``additive.json`` and ``additive.safetensors``; raises CorruptIndexError naming the file."""
        spec, arrays = open_encoder_files(Path(folder), STEM)
        return cls(spec, arrays, source=f"{Path(folder) / STEM}.json and {STEM}.safetensors")

    @property
    def bytes(self) -> int:
        """Bytes of what makes a token; the targets are not part of it."""
        return self.sources.nbytes + self.age_weights.nbytes

    def tokens(self, queries: Queries) -> np.ndarray:
        """Return unit tokens (B, 1, d) float32; zeros where the history is empty or its vectors add up to zero.

        Raises QueryError for an item the model does not know.
        """
        items = np.ascontiguousarray(queries.items, np.int32)
        indptr = np.ascontiguousarray(queries.indptr, np.int64)
        tokens = np.empty((len(queries), 1, self.width), np.float32)
        # Frozen views: numba compiles one version of the kernel for mapped and for ordinary arrays.
        bad = additive_tokens(self.sources, self.age_weights, read_only(items), read_only(indptr), tokens)
        if bad >= 0:
            raise QueryError(f"the history holds item {items[bad]}, but the model knows items 0..{self.item_count - 1}")
        return tokens

    def has_tokens(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: True where there is a history."""
        known: np.ndarray = np.diff(queries.indptr) > 0
        return known

    def encode_one(self, history: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """Return the unit token (1, d) of one history, oldest event first; equal to ``tokens`` bit for bit.

        ``features`` of the user are ignored: the model reads none.
        """
        return self.tokens(Queries(np.array([0, len(history)], np.int64), history))[0]


@contracted
def additive_tokens(sources, age_weights, items, indptr, tokens):
    """Write the tokens (B, 1, d) of histories ``items[indptr[b]:indptr[b + 1]]``.

    Returns the first position read whose item is not in ``sources`` (n, d), or -1.
    """
    n, width = sources.shape
    for b in range(tokens.shape[0]):
        token = tokens[b, 0]
        token[:] = np.float32(0.0)
        stop = indptr[b + 1]
        for age in range(min(age_weights.shape[0], stop - indptr[b])):
            place = stop - 1 - age
            item = items[place]
            if item < 0 or item >= n:
                return place
            for i in range(width):
                token[i] += age_weights[age] * sources[item, i]
        norm = np.sqrt(dot(token, token))
        if norm > 0:
            for i in range(width):
                token[i] /= norm
    return -1


def _checked(source: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape != shape:
        raise CorruptIndexError(
            f"{source}: array {name!r} has shape {array.shape}, expected {shape}; train the run again"
        )
    return read_only(np.ascontiguousarray(array, np.float32))
