"""The items of a planted scale world: topics in groups, styles shared by all topics, Zipf popularity, attributes.

An item c of topic t(c) and style s(c) has the latent vector ``z_c = [√(1-τ) a_t ; √τ (r_s + e_c)]``: a_t and r_s are
unit vectors, ``‖e_c‖ ≤ SPREAD`` is its own, τ = TASTE. Its popularity prior w_c is Zipf over a random ranking, so ids
say nothing. A *shelf* is the items of one topic and one style. Letters: n items, T topics, S styles, d = A + E.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparcode.seeding import generator

STYLES = 64
"""Styles S; every topic has items of all of them."""
TASTE = 0.5
"""τ: the share of the style in a latent vector's squared length."""
SPREAD = 0.3
"""Largest distance of an item from its style."""
_COHESION = 0.5  # cosine of two topics of one group
_TOPIC_ZIPF = 0.5  # how unequal topics are in number of items


@dataclass(frozen=True)
class Catalogue:
    """Arrays of n items.

    ``topics``: float64 (T, A) and ``styles``: float64 (S, E), unit rows. ``group_of_topic``: int32 (T,).
    ``topic``: int32 (n,), ``style``: uint8 (n,), ``offset``: float32 (n, E), the e_c. ``log_weight``: float64 (n,),
    log w_c; the w_c sum to 1.
    """

    topics: np.ndarray
    styles: np.ndarray
    group_of_topic: np.ndarray
    topic: np.ndarray
    style: np.ndarray
    offset: np.ndarray
    log_weight: np.ndarray

    def __len__(self) -> int:
        return len(self.topic)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept, the order by shelves included."""
        own = (value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))
        return sum(own) + self.shelves.nbytes

    def latents(self, items: np.ndarray | slice) -> np.ndarray:
        """Return z_c, float64 (items, d)."""
        style = self.styles[self.style[items]] + self.offset[items]
        return np.concatenate([np.sqrt(1 - TASTE) * self.topics[self.topic[items]], np.sqrt(TASTE) * style], axis=1)

    @cached_property
    def shelves(self) -> Shelves:
        """Items in the order of their shelves."""
        shelf = self.topic.astype(np.int64) * len(self.styles) + self.style
        order = np.argsort(shelf, kind="stable").astype(np.int32)
        pointers = np.zeros(len(self.topics) * len(self.styles) + 1, dtype=np.int64)
        np.cumsum(np.bincount(shelf, minlength=len(pointers) - 1), out=pointers[1:])
        return Shelves(order, pointers, np.concatenate([[0.0], np.cumsum(np.exp(self.log_weight[order]))]))

    @cached_property
    def shelf_weights(self) -> np.ndarray:
        """Float64 (T, S): summed w_c of every shelf, 0 where a shelf is empty."""
        shelves = self.shelves
        sums = np.diff(shelves.cumulative[shelves.pointers])
        return sums.reshape(len(self.topics), len(self.styles))

    @cached_property
    def topic_sizes(self) -> np.ndarray:
        """Int64 (T,): items of every topic."""
        return np.bincount(self.topic, minlength=len(self.topics))


@dataclass(frozen=True)
class Shelves:
    """``order``: int32 (n,) items by shelf. ``pointers``: int64 (TS + 1,). ``cumulative``: float64 (n + 1,) of w_c."""

    order: np.ndarray
    pointers: np.ndarray
    cumulative: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.order.nbytes + self.pointers.nbytes + self.cumulative.nbytes

    def find(self, shelf: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return items drawn by weight: ``place`` in [0, 1) is a point of the shelf's weight. Empty shelves mislead."""
        low = self.cumulative[self.pointers[shelf]]
        point = low + place * (self.cumulative[self.pointers[shelf + 1]] - low)
        found = np.searchsorted(self.cumulative, point, side="right") - 1
        # Rounding may step over the last item of a shelf.
        return self.order[np.clip(found, self.pointers[shelf], np.maximum(self.pointers[shelf + 1] - 1, 0))]


def make_catalogue(items: int, topics: int, width: int, exponent: float, seed: int) -> Catalogue:
    """Draw a catalogue. ``width``: d, of which a quarter is the style. ``exponent``: of Zipf's law, 0 for none."""
    random = generator(seed, "scale world items")
    directions, group = _topics(topics, width - width // 4, random)
    styles = unit(random.standard_normal((STYLES, width // 4)))
    share = zipf(topics, _TOPIC_ZIPF)
    topic = np.searchsorted(np.cumsum(share)[:-1], random.random(items), side="right").astype(np.int32)
    style = random.integers(0, STYLES, items, dtype=np.uint8)
    weight = random.permutation(zipf(items, exponent))
    return Catalogue(directions, styles, group, topic, style, _ball(items, width // 4, random), np.log(weight))


def zipf(count: int, exponent: float) -> np.ndarray:
    """Return float64 (count,) weights ``rank ** -exponent`` that sum to 1, largest first."""
    weights: np.ndarray = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def unit(rows: np.ndarray) -> np.ndarray:
    """Return the vectors along the last axis with length 1; a zero vector stays."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _topics(count: int, width: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    groups = max(round(count**0.5), 1)
    centres = unit(random.standard_normal((groups, width)))
    group = np.arange(count, dtype=np.int32) % groups
    own = unit(random.standard_normal((count, width)))
    return unit(np.sqrt(_COHESION) * centres[group] + np.sqrt(1 - _COHESION) * own), group


def _ball(count: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Return float32 (count, width), uniform in the ball of radius SPREAD."""
    points = random.standard_normal((count, width), dtype=np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", points, points))
    # Just inside, so that rounding to float32 leaves no point beyond the bound the sampler relies on.
    radius = (SPREAD * (1 - 1e-6)) * random.random(count) ** (1 / width)
    points *= (radius / length)[:, None].astype(np.float32)
    return points
