"""What the models of the scale benchmark know of an item: its latent vector and how often it was taken.

A catalogue of a million items cannot be learned item by item from a sample of users. The models are therefore trained
on content alone (``model.item_ids = false``), and the map they learn from content to vectors serves every item.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from sparcode.data.tables import Tables
from sparcode.scale.world.world import ScaleWorld
from sparcode.types import Sequences

ROWS = 1 << 16
_HELD_OUT = 2


@dataclass(frozen=True)
class Catalogue:
    """The items of a world under the ids that an index gives them: by training popularity descending, then world id."""

    world: ScaleWorld

    @cached_property
    def events(self) -> Sequences:
        """The events of all users; items are world ids."""
        return self.world.events()

    @cached_property
    def training(self) -> np.ndarray:
        """(events,) bool: neither the last event of a user (test) nor the one before (validation)."""
        indptr = self.events.indptr
        place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], np.diff(indptr))
        return np.asarray(place < np.repeat(np.diff(indptr) - _HELD_OUT, np.diff(indptr)))

    @cached_property
    def popularity(self) -> np.ndarray:
        """(n,) int64: training events of every world item."""
        return np.bincount(self.events.items[self.training], minlength=self.world.items)

    @cached_property
    def order(self) -> np.ndarray:
        """(n,) int32: the world id of every internal id."""
        return np.lexsort((np.arange(self.world.items), -self.popularity)).astype(np.int32)

    @cached_property
    def internal(self) -> np.ndarray:
        """(n,) int32: the internal id of every world id."""
        places = np.empty(len(self.order), np.int32)
        places[self.order] = np.arange(len(places), dtype=np.int32)
        return places

    def content(self, items: np.ndarray) -> np.ndarray:
        """Return what is known of world items: float32 (items, d + 1), the latent vector and log(1 + events)."""
        known = np.log1p(self.popularity[items]) / max(float(np.log1p(self.popularity.max())), 1.0)
        return np.column_stack([self.world.catalogue.latents(items), known]).astype(np.float32)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield runs of internal ids with their content."""
        for start in range(0, len(self.order), ROWS):
            run = slice(start, min(start + ROWS, len(self.order)))
            yield run, self.content(self.order[run])


def sample_tables(catalogue: Catalogue, users: int) -> Tables:
    """Return events of the first ``users`` users, and the items they took with their content, as tables."""
    events = catalogue.events
    users = min(users, len(events))
    stop = events.indptr[users]
    who = np.repeat(np.arange(users), np.diff(events.indptr[: users + 1]))
    interactions = {"user_id": who, "item_id": events.items[:stop], "timestamp": events.times[:stop].astype(np.int64)}
    items = np.unique(events.items[:stop])
    vectors = catalogue.content(items)
    known = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return Tables(pa.table(interactions), pa.table({"item_id": items, "content": known}), source="a scale world")
