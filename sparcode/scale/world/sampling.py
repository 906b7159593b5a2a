"""Exact draws from the law of a planted scale world without a sum over items: rejection from shelves.

With ``g_j = θ ((1-λ) m + λ v_j)`` and (Σ x_j)^λ ≤ Σ x_j^λ the law is, up to its constant, at most

    Σ_j π_j^λ · w_c · exp(⟨g_j, z_c⟩)  ≤  Σ_j π_j^λ · w_c · exp(⟨g_j, z_shelf(c)⟩ + √τ ‖g_j^style‖ SPREAD),

a sum of products over interest, topic, style and item, from which one draws by four look-ups. A proposal is accepted
with the ratio of law and bound; accepted ones are independent draws from the law, whatever the bound. The first L
*distinct* ones, in their order, are L draws without replacement: every next event follows P(c | u) over the items its
user has not taken yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparcode.scale.world.catalogue import SPREAD, TASTE, Catalogue
from sparcode.scale.world.law import Law, log_sum_exp
from sparcode.scale.world.users import Tastes

_FIRST_PRICE = 8  # proposals a draw, before anything is known of a user
_AT_ONCE = 1 << 16  # proposals of a round, which bounds memory


@dataclass(frozen=True)
class Proposals:
    """Tables of B users from which proposals are drawn.

    ``topic_dots``: (J + 1, B, T) and ``style_dots``: (J + 1, B, S), the two parts of ⟨v_j, z⟩ and ⟨m, z⟩ on shelves.
    ``offsets``: (J, B) log of a component's factor, -inf without an interest. ``cumulative``: (B J T,) running sum of
    interest and topic, every user's part 1. ``style_factors``: (B, J, S).
    """

    catalogue: Catalogue
    law: Law
    tastes: Tastes
    topic_dots: np.ndarray
    style_dots: np.ndarray
    offsets: np.ndarray
    cumulative: np.ndarray
    style_factors: np.ndarray

    @classmethod
    def of(cls, catalogue: Catalogue, law: Law, tastes: Tastes) -> Proposals:
        """Fill the tables: work and memory grow with users times topics."""
        width = catalogue.topics.shape[1]
        vectors = tastes.vectors.transpose(1, 0, 2)
        topic_dots = np.sqrt(1 - TASTE) * (vectors[:, :, :width] @ catalogue.topics.T)
        style_dots = np.sqrt(TASTE) * (vectors[:, :, width:] @ catalogue.styles.T)
        steer = np.linalg.norm(_toward(law, vectors[:, :, width:]), axis=2)
        present = np.isfinite(tastes.log_shares.T)
        shares = np.where(present, law.interaction * np.where(present, tastes.log_shares.T, 0.0), -np.inf)
        offsets = shares + np.sqrt(TASTE) * SPREAD * steer
        log_styles = _toward(law, style_dots)
        highest = log_styles.max(axis=2)
        factors = np.exp(log_styles - highest[:, :, None])
        table = _toward(law, topic_dots) + (offsets + highest)[:, :, None]
        table -= table.max(axis=(0, 2))[:, None]
        table = (np.exp(table) * (factors @ catalogue.shelf_weights.T)).transpose(1, 0, 2)
        table /= table.sum(axis=(1, 2), keepdims=True)
        cumulative = np.cumsum(table.ravel())
        return cls(
            catalogue, law, tastes, topic_dots, style_dots, offsets, cumulative, factors.transpose(1, 0, 2).copy()
        )

    def draw(self, users: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Propose one item for each of ``users`` (rows of the tables); returns items and whether they are accepted."""
        interests, topics = len(self.offsets), len(self.catalogue.topics)
        uniform = random.random((4, len(users)))
        size = interests * topics
        before = np.where(users > 0, self.cumulative[users * size - 1], 0.0)
        point = before + uniform[0] * (self.cumulative[(users + 1) * size - 1] - before)
        cell = np.searchsorted(self.cumulative, point, side="right")
        interest, topic = np.divmod(np.clip(cell - users * size, 0, size - 1), topics)
        style = self._styles(users, interest, topic, uniform[1])
        items = self.catalogue.shelves.find(topic * self.style_factors.shape[2] + style, uniform[2])
        # Rounding at the end of a running sum may lead to an empty shelf, and then to an item of another one.
        found = (self.catalogue.topic[items] == topic) & (self.catalogue.style[items] == style)
        return items, found & (np.log1p(-uniform[3]) < self._log_acceptance(users, topic, style, items))

    def _styles(self, users: np.ndarray, interest: np.ndarray, topic: np.ndarray, place: np.ndarray) -> np.ndarray:
        weights = self.catalogue.shelf_weights[topic]
        weights *= self.style_factors[users, interest]
        np.cumsum(weights, axis=1, out=weights)
        reached = weights <= (place * weights[:, -1])[:, None]
        return np.minimum(np.count_nonzero(reached, axis=1), weights.shape[1] - 1)

    def _log_acceptance(self, users: np.ndarray, topic: np.ndarray, style: np.ndarray, items: np.ndarray) -> np.ndarray:
        tail = self.catalogue.offset.shape[1]
        dots = self.topic_dots[:, users, topic] + self.style_dots[:, users, style]
        bound = log_sum_exp(_toward(self.law, dots) + self.offsets[:, users])
        own = np.einsum("pjd,pd->jp", self.tastes.vectors[users, :, -tail:], self.catalogue.offset[items])
        shares = self.tastes.log_shares[users].T
        return np.asarray(self.law.combine(dots + np.sqrt(TASTE) * own, shares) - bound)


def draw_distinct(proposals: Proposals, lengths: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the first ``lengths[b]`` distinct draws of every user b, flat and in order of users: int32."""
    count = len(proposals.catalogue)
    users, items = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
    gained, tried = np.zeros_like(lengths), np.zeros_like(lengths)
    while (lacking := np.flatnonzero(gained < lengths)).size:
        # As many as the yield so far asks for. It looks at earlier rounds only, so it changes no probability.
        price = (tried[lacking] + _FIRST_PRICE) / (gained[lacking] + 1)
        asked = np.ceil((lengths - gained)[lacking] * price).astype(np.int64)
        asked = np.minimum(asked, max(_AT_ONCE // len(lacking), 1))
        tried[lacking] += asked
        rows = np.repeat(lacking, asked)
        drawn, accepted = proposals.draw(rows, random)
        users, items = np.concatenate([users, rows[accepted]]), np.concatenate([items, drawn[accepted]])
        first = np.sort(np.unique(users * count + items, return_index=True)[1])
        users, items = users[first], items[first]
        gained = np.bincount(users, minlength=len(lengths))
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    place = np.arange(len(users)) - np.searchsorted(users, np.arange(len(lengths)))[users]
    return items[place < lengths[users]]


def _toward(law: Law, values: np.ndarray) -> np.ndarray:
    """Return what belongs to the g_j, (J, ...), of values that belong to the v_j and last to m: (J + 1, ...)."""
    mixed = law.steepness * (1 - law.interaction) * values[-1]
    return np.asarray(law.steepness * law.interaction * values[:-1] + mixed)
