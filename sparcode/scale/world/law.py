"""The law by which a user of a planted scale world takes items, and its calibration.

    P(c | u)  ∝  w_c · exp( (1-λ) θ ⟨m, z_c⟩  +  λ log Σ_j π_j exp(θ ⟨v_j, z_c⟩) )

λ = ``interaction``. At λ = 0 the log-probability is a dot product, ⟨(θ m, 1), (z_c, log w_c)⟩ less a constant of the
user. At λ = 1 the law is a mixture of the laws of the single interests, which no dot product with z_c expresses: who
likes short jazz and long operas is, for a mixed vector, someone who also likes long jazz. Between them the utility is
the convex mixture, the law the geometric mean. The interest vectors of a user with one interest are the mixed vector,
and the law does not depend on λ.

The factor θ is solved so that the perplexity, exp of the mean entropy of P(· | u), has a given value at any λ: how
many items a user chooses from is the same over the dial, and so, about, is what the optimum reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.errors import DataError
from sparcode.scale.world.catalogue import STYLES, TASTE, Catalogue
from sparcode.scale.world.users import Tastes

_STEEPEST = 400.0
_STEPS = 22  # halvings of the interval of log θ


@dataclass(frozen=True)
class Law:
    """``interaction``: λ in [0, 1]. ``steepness``: θ."""

    interaction: float
    steepness: float

    def combine(self, dots: np.ndarray, log_shares: np.ndarray) -> np.ndarray:
        """Return log P(c | u) - log w_c up to a constant of the user.

        ``dots``: float64 (J + 1, ...) of ⟨v_j, z_c⟩ and last ⟨m, z_c⟩; it is overwritten. ``log_shares``: (J, ...).
        """
        dots *= self.steepness
        if self.interaction == 0:
            return np.asarray(dots[-1])
        dots[:-1] += log_shares
        together = log_sum_exp(dots[:-1])
        if self.interaction == 1:
            return together
        return np.asarray((1 - self.interaction) * dots[-1] + self.interaction * together)

    def scores(self, tastes: Tastes, latents: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
        """Return log P(c | u) up to a constant of the user: float64 (B, items).

        ``latents``: float64 (items, d), ``log_weight``: (items,).
        """
        users, vectors, width = tastes.vectors.shape
        dots = tastes.vectors.transpose(1, 0, 2).reshape(-1, width) @ latents.T
        shares = tastes.log_shares.T[:, :, None]
        return self.combine(dots.reshape(vectors, users, len(latents)), shares) + log_weight


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Return log Σ exp over the first axis, which must hold one finite value in every column; overwrites ``values``."""
    largest = values.max(axis=0)
    values -= largest
    np.exp(values, out=values)
    return np.asarray(np.log(values.sum(axis=0)) + largest)


def calibrate(catalogue: Catalogue, tastes: Tastes, interaction: float, perplexity: float) -> Law:
    """Return the law whose perplexity over ``tastes`` is ``perplexity``.

    Measured on shelves, as if an item's own part of its latent vector were 0. DataError when out of reach.
    """
    shelves = _ShelfLevel.of(catalogue)
    wanted = float(np.log(perplexity))
    low, high = np.log(1e-2), np.log(_STEEPEST)
    flat, steep = (shelves.entropy(Law(interaction, float(np.exp(end))), tastes) for end in (low, high))
    if not steep < wanted < flat:
        raise DataError(
            f"perplexity={perplexity:g}: {len(catalogue):,} items of this popularity allow {np.exp(steep):.3g} to "
            f"{np.exp(flat):.3g}; choose a value between, or more items"
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        entropy = shelves.entropy(Law(interaction, float(np.exp(middle))), tastes)
        low, high = (middle, high) if entropy > wanted else (low, middle)
    return Law(interaction, float(np.exp((low + high) / 2)))


@dataclass(frozen=True)
class _ShelfLevel:
    """``latents``: (shelves, d), ``log_weight``, ``entropies``: (shelves,) of w_c inside a shelf; no empty shelves."""

    latents: np.ndarray
    log_weight: np.ndarray
    entropies: np.ndarray

    @classmethod
    def of(cls, catalogue: Catalogue) -> _ShelfLevel:
        weight = catalogue.shelf_weights.ravel()
        used = np.flatnonzero(np.diff(catalogue.shelves.pointers) > 0)
        shelf = catalogue.topic.astype(np.int64) * STYLES + catalogue.style
        inner = np.bincount(shelf, -np.exp(catalogue.log_weight) * catalogue.log_weight, minlength=len(weight))[used]
        parts = [
            np.sqrt(1 - TASTE) * catalogue.topics[used // STYLES],
            np.sqrt(TASTE) * catalogue.styles[used % STYLES],
        ]
        entropies = inner / weight[used] + np.log(weight[used])
        return cls(np.concatenate(parts, axis=1), np.log(weight[used]), entropies)

    def entropy(self, law: Law, tastes: Tastes) -> float:
        """Mean over users of the entropy of P(· | u), nats."""
        total = 0.0
        for start in range(0, len(tastes), 4):
            scores = law.scores(tastes.take(slice(start, start + 4)), self.latents, self.log_weight)
            scores -= log_sum_exp(scores.T.copy())[:, None]
            total += float(np.sum(np.exp(scores) * (self.entropies - scores)))
        return total / len(tastes)
