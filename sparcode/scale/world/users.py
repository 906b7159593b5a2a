"""The users of a planted scale world: several interests each, made anew from the seed, block by block.

An interest j of user u is a unit vector ``v_j = [√(1-τ) p_j ; √τ q_j]``: p_j lies near a topic, q_j near a style, so
what is liked *within* a topic differs from interest to interest. Shares π_j > 0 sum to 1. The mixed vector m of a user
is the direction of Σ_j π_j v_j. Letters: B users, J most interests of a user, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.scale.world.catalogue import TASTE, Catalogue, unit
from sparcode.seeding import generator

BLOCK = 512
"""Users that share one stream of random numbers: what is drawn of a user depends on no other block."""
_BLUR = 0.3  # distance of an interest from its topic and its style


@dataclass(frozen=True)
class Tastes:
    """Latent states of B users.

    ``vectors``: float64 (B, J + 1, d): the interests, 0 where a user has fewer than J, and last the mixed vector.
    ``log_shares``: float64 (B, J), log π_j, -inf where there is no interest.
    """

    vectors: np.ndarray
    log_shares: np.ndarray

    def __len__(self) -> int:
        return len(self.log_shares)

    def take(self, rows: np.ndarray | slice) -> Tastes:
        """Return some of the users."""
        return Tastes(self.vectors[rows], self.log_shares[rows])


def draw_tastes(catalogue: Catalogue, count: int, interests: int, seed: int, *purpose: str | int) -> Tastes:
    """Draw users with 1 .. ``interests`` interests; topics by their number of items, never the same one twice."""
    random = generator(seed, *purpose)
    number = random.integers(1, interests + 1, count)
    present = np.arange(interests) < number[:, None]
    topics = _distinct_topics(catalogue, count, interests, random)
    styles = random.integers(0, len(catalogue.styles), (count, interests))
    liked = [catalogue.topics[topics], catalogue.styles[styles]]
    blurred = [unit(part + _BLUR * unit(random.standard_normal(part.shape))) for part in liked]
    vectors = np.concatenate([np.sqrt(1 - TASTE) * blurred[0], np.sqrt(TASTE) * blurred[1]], axis=2)
    shares = np.where(present, random.gamma(2.0, size=present.shape), 0.0)
    shares /= shares.sum(axis=1, keepdims=True)
    vectors *= present[:, :, None]
    mixed = unit(np.einsum("bj,bjd->bd", shares, vectors))
    with np.errstate(divide="ignore"):
        return Tastes(np.concatenate([vectors, mixed[:, None]], axis=1), np.log(shares))


def _distinct_topics(catalogue: Catalogue, count: int, interests: int, random: np.random.Generator) -> np.ndarray:
    """Draw without replacement by the Gumbel trick: the largest of log weight + noise."""
    with np.errstate(divide="ignore"):
        keys = np.log(catalogue.topic_sizes) + random.gumbel(size=(count, len(catalogue.topics)))
    best = np.argpartition(-keys, interests - 1, axis=1)[:, :interests]
    order = np.argsort(-np.take_along_axis(keys, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)
