"""How embeddings were made, kept in a file: new items then get vectors in the same space, and codes like the old ones.

The file is safetensors with JSON metadata (``index/arrays``); nothing in it is executed. A source that knows items by
their histories knows nothing of a new item: fused with others it gives the mean, alone it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import CorruptIndexError, DataError
from sparcode.index.arrays import read_arrays, read_metadata, write_arrays
from sparcode.semantic_id.embeddings import Embeddings
from sparcode.semantic_id.fusion import Fusion
from sparcode.semantic_id.items import Items
from sparcode.semantic_id.transforms import Transform, Unknown, open_transform

FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """``transforms``: one a source, in the order they are fused. ``about``: JSON-able, as ``embed`` describes it."""

    transforms: list[Transform]
    fusion: Fusion
    about: dict[str, Any]

    def apply(self, items: Items) -> Embeddings:
        """Return embeddings of other items; DataError when no source can know them, or there is no table of items."""
        if all(isinstance(transform, Unknown) for transform in self.transforms):
            raise DataError(
                "these embeddings come from behaviour alone, which says nothing of new items; embed all items again, "
                "or fuse behaviour with text or features"
            )
        if items.table is None:
            raise DataError("embedding new items needs a table of items (items.*), and the data have none")
        table = items.table
        vectors = self.fusion.apply([transform.apply(table) for transform in self.transforms])
        return Embeddings(np.ascontiguousarray(vectors), items.ids.external)

    def save(self, path: str | Path) -> None:
        """Write the recipe atomically; equal recipes give equal bytes."""
        states = [transform.state() for transform in self.transforms]
        arrays = {f"fusion.{name}": array for name, array in self.fusion.state().items()}
        for place, (_, parts) in enumerate(states):
            arrays |= {f"source.{place}.{name}": array for name, array in parts.items()}
        sources = [content for content, _ in states]
        write_arrays(Path(path), arrays, {"format": FORMAT, "sources": sources, "about": self.about})

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read and verify a recipe; CorruptIndexError names the file."""
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected a recipe written by sparcode embed --recipe")
        try:
            arrays, content = read_arrays(path, verify=True), read_metadata(path)
        except CorruptIndexError as problem:
            raise CorruptIndexError(str(problem).replace("train the run again", "embed again with --recipe")) from None
        if content.get("format") != FORMAT:
            raise CorruptIndexError(f"{path} is no recipe of format {FORMAT}; write one with sparcode embed --recipe")
        try:
            transforms = [
                open_transform(source, _under(arrays, f"source.{place}."))
                for place, source in enumerate(content["sources"])
            ]
            return cls(transforms, Fusion.from_state(_under(arrays, "fusion.")), content["about"])
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise CorruptIndexError(f"{path} was edited: {type(problem).__name__}: {problem}; embed again") from None


def _under(arrays: dict[str, np.ndarray], stem: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(stem): array for name, array in arrays.items() if name.startswith(stem)}
