"""Planted worlds for scale: millions of items, users with several interests, a known optimum, and a dial.

The law of an event, with λ = ``interaction`` (terms in ``world.law``, ``world.catalogue`` and ``world.users``):

    P(c | u)  ∝  w_c · exp( (1-λ) θ ⟨m, z_c⟩  +  λ log Σ_j π_j exp(θ ⟨v_j, z_c⟩) )

w_c: Zipf popularity; z_c: latent vector of the item; v_j, π_j: interests of the user and their shares; m: direction of
their mean. λ = 0 is a pure dot product, which a two-tower of width d + 1 expresses; λ = 1 is pure interaction.
An event of a user follows this law over the items the user has not taken before, and so does the last one, which a
split by last event holds out. The optimum is therefore the ranking by P(c | u) of the items outside the history.
It knows the latent state of the user, which no system sees: an upper bound for all that see histories. (What is best
given the history alone is an integral over all states a user might have, and is not computed.)

What λ = 1 takes from a dot product (NDCG@10 as a share of the optimum, d = 64, by default arguments): ranking by the
mixed vector keeps 100 % at λ = 0 and about 75 % at λ = 1. Item vectors of 65 free coordinates, fitted from the true
ones by full softmax to the whole law of some 3,000 users, keep 98 % for other users, whose vectors are fitted to their
law too, over 10,000 items (over 2,000 items 99.6 %, and 92 % in a world of d = 16 with 17 coordinates): wide free
vectors can imitate a few interests. So λ = 1 does not put the optimum out of a two-tower's reach; what one learns from
histories is to be measured.

θ is solved so that a user chooses from ``perplexity`` items, at every λ: the optimum stays comparable over the dial.
Sampling is exact (``world.sampling``), scores are float64, and nothing of the size users x items is ever kept: items
take about 100 bytes each, users are made anew from the seed in blocks. Item and user ids are 0, 1, 2, ...; they are
exchangeable, so ids tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa

from sparcode.data.tables import Tables
from sparcode.errors import DataError
from sparcode.files import read_json
from sparcode.scale.world.catalogue import Catalogue, make_catalogue
from sparcode.scale.world.files import ARGUMENTS, item_table, write_folder
from sparcode.scale.world.law import Law, calibrate
from sparcode.scale.world.optimum import Best, Optimum
from sparcode.scale.world.sampling import Proposals, draw_distinct
from sparcode.scale.world.users import BLOCK, Tastes, draw_tastes
from sparcode.seeding import generator
from sparcode.types import Sequences

_CALIBRATION_USERS = 64
_USERS_AT_ONCE = 64
_ITEMS_AT_ONCE = 8192
_ROWS_AT_ONCE = 1 << 20
_START = 1_600_000_000
_YEAR = 365 * 86_400
_FORMAT = "sparcode scale world 1"


@dataclass(frozen=True)
class ScaleWorld:
    """A planted world; equal arguments give equal worlds.

    ``interaction``: λ. ``events_per_user``: mean length of a history with its next event; lengths are uniform from
    half to one and a half of it. ``exponent``: of Zipf's law. ``interests``: most interests of a user. ``width``: d, a
    multiple of 4. ``topics``, ``perplexity``: 0 for about √n of both. DataError when an argument is out of range.
    """

    items: int
    users: int
    interaction: float = 0.5
    seed: int = 0
    events_per_user: int = 20
    exponent: float = 0.8
    interests: int = 4
    width: int = 64
    topics: int = 0
    perplexity: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments and fill in those left to the number of items."""
        _check(self)
        root = max(round(self.items**0.5), 16)
        chosen = {"topics": self.topics or root, "perplexity": self.perplexity or max(root, 20)}
        for name, kind in get_type_hints(type(self)).items():
            # Numbers of numpy become plain ones, which JSON can hold.
            object.__setattr__(self, name, kind(chosen.get(name, getattr(self, name))))

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items."""
        return make_catalogue(self.items, self.topics, self.width, self.exponent, self.seed)

    @cached_property
    def law(self) -> Law:
        """λ and the solved θ. DataError when no θ gives the wanted perplexity."""
        tastes = draw_tastes(self.catalogue, _CALIBRATION_USERS, self.interests, self.seed, "scale world calibration")
        return calibrate(self.catalogue, tastes, self.interaction, self.perplexity)

    @cached_property
    def _drawn(self) -> dict[int, Sequences]:
        return {}

    def events(self) -> Sequences:
        """Return what every user took, in order and each item once; the last event is the held-out next one.

        Times: seconds. Drawn when first asked for, block by block, and kept: 12 bytes an event.
        """
        blocks = [self._block_events(block) for block in range(-(-self.users // BLOCK))]
        lengths = np.concatenate([np.diff(block.indptr) for block in blocks])[: self.users]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        items, times = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("items", "times"))
        return Sequences(indptr, items[: indptr[-1]], times[: indptr[-1]])

    def events_of(self, user: int) -> np.ndarray:
        """Return the items a user took, int32, oldest first; only the block of the user is drawn."""
        block, row = divmod(int(self._known_users(np.array([user]))[0]), BLOCK)
        return self._block_events(block).row(row)

    def tastes(self, users: np.ndarray) -> Tastes:
        """Return the latent states of users (ids, any order)."""
        users = self._known_users(users)
        blocks, row = np.divmod(users, BLOCK)
        width = self.interests
        result = Tastes(np.empty((len(users), width + 1, self.width)), np.empty((len(users), width)))
        for block in np.unique(blocks):
            mine = blocks == block
            drawn = self._block_tastes(int(block)).take(row[mine])
            result.vectors[mine], result.log_shares[mine] = drawn.vectors, drawn.log_shares
        return result

    def true_scores(self, users: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """Return log P(c | u) up to a constant of the user, for all items or some: float64 (B, items).

        The order of these is the optimum. DataError for a user or item that is not there.
        """
        users = self._known_users(users)
        items = np.arange(self.items) if items is None else _known(items, self.items, "item")
        tastes, result = self.tastes(users), np.empty((len(users), len(items)))
        for columns in _pieces(len(items), _ITEMS_AT_ONCE):
            latents, weight = self._latents(items[columns])
            for rows in _pieces(len(users), _USERS_AT_ONCE):
                result[rows, columns] = self.law.scores(tastes.take(rows), latents, weight)
        return result

    def targets(self, users: np.ndarray) -> np.ndarray:
        """Return the held-out next item of every user: int32 (B,)."""
        return np.array([self.events_of(user)[-1] for user in users], dtype=np.int32)

    def optimum(self, users: np.ndarray, k: int, *, seen: bool = False, chunk: int = _ITEMS_AT_ONCE) -> Optimum:
        """Return the exact best k items and their probabilities, as one goes through all items ``chunk`` at a time.

        Items of the history are left out and their probability is shared out among the others, as in evaluation;
        with ``seen`` they are ranked too, and no events are drawn. DataError when fewer than k items are left.
        """
        users = self._known_users(users)
        histories = [np.zeros(0, np.int32) if seen else self.events_of(user)[:-1] for user in users]
        left = self.items - max(map(len, histories), default=0)
        if not 1 <= k <= left or chunk < 1:
            raise DataError(f"optimum(k={k}, chunk={chunk}): {left:,} items are left to rank; expected k of 1 to that")
        parts = list(_pieces(len(users), _USERS_AT_ONCE))
        everyone = self.tastes(users)
        tastes = [everyone.take(part) for part in parts]
        best = [Best(histories[part], k) for part in parts]
        for piece in _pieces(self.items, chunk):
            latents, weight = self._latents(np.arange(piece.start, piece.stop))
            for one, who in zip(best, tastes, strict=True):
                one.add(self.law.scores(who, latents, weight), piece.start)
        found = [one.optimum() for one in best] or [Optimum(np.zeros((0, k), np.int64), np.zeros((0, k)))]
        return Optimum(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def expected_ndcg(self, users: np.ndarray, k: int) -> float:
        """Return the mean over users of the largest NDCG@k any ranking can expect for the next event."""
        return float(self.optimum(users, k).ndcg.mean())

    def drawn_ndcg(self, users: np.ndarray, ids: np.ndarray) -> float:
        """Return the mean NDCG@k of a ranking, item ids (B, k), on the held-out events."""
        hits = np.asarray(ids) == self.targets(users)[:, None]
        return float((hits @ (1 / np.log2(np.arange(2, hits.shape[1] + 2)))).mean())

    def tables(self) -> Tables:
        """Return the world as tables in memory."""
        interactions, items = (pa.concat_tables(parts) for parts in (self._event_tables(), self._item_tables()))
        return Tables(interactions, items, source=self._name())

    def write(self, folder: Path) -> Path:
        """Write a new folder, whole or not at all, that is a valid DATA: interactions and items as Parquet.

        ``world.json`` beside them holds the arguments; ``ScaleWorld.open`` reads it. DataError when the folder holds
        anything already.
        """
        arguments = {"format": _FORMAT} | asdict(self)
        return write_folder(Path(folder), self._event_tables(), self._item_tables(), arguments)

    @classmethod
    def open(cls, folder: Path) -> ScaleWorld:
        """Return the world that ``write`` wrote to a folder, made anew from its arguments."""
        path = Path(folder) / ARGUMENTS
        arguments = read_json(path, DataError)
        if not isinstance(arguments, dict) or arguments.pop("format", None) != _FORMAT:
            raise DataError(f"{path}: not the arguments of a scale world; expected format {_FORMAT!r}")
        try:
            return cls(**arguments)
        except TypeError as problem:
            raise DataError(f"{path}: {problem}; generate the world again") from None

    def _latents(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.catalogue.latents(items), self.catalogue.log_weight[items]

    def _block_tastes(self, block: int) -> Tastes:
        return draw_tastes(self.catalogue, BLOCK, self.interests, self.seed, "scale world users", block)

    def _block_events(self, block: int) -> Sequences:
        """Return the events of a whole block, so that those of a user do not depend on how many users there are."""
        if block not in self._drawn:
            random = generator(self.seed, "scale world events", block)
            lengths = random.integers(*_length_range(self.events_per_user), BLOCK, endpoint=True)
            times = _event_times(lengths, random)
            items = draw_distinct(Proposals.of(self.catalogue, self.law, self._block_tastes(block)), lengths, random)
            self._drawn[block] = Sequences(np.concatenate([[0], np.cumsum(lengths)]), items, times)
        return self._drawn[block]

    def _event_tables(self) -> Iterator[pa.Table]:
        events = self.events()
        users = np.repeat(np.arange(self.users), np.diff(events.indptr))
        for rows in _pieces(len(users), _ROWS_AT_ONCE):
            columns = (users[rows], events.items[rows].astype(np.int64), events.times[rows].astype(np.int64))
            yield pa.table(dict(zip(("user_id", "item_id", "timestamp"), columns, strict=True)))

    def _item_tables(self) -> Iterator[pa.Table]:
        for rows in _pieces(self.items, _ROWS_AT_ONCE):
            yield item_table(self.catalogue, np.arange(rows.start, rows.stop))

    def _known_users(self, users: np.ndarray) -> np.ndarray:
        return _known(users, self.users, "user")

    def _name(self) -> str:
        return f"scale world of {self.items:,} items, interaction {self.interaction:g}, seed {self.seed}"


def _pieces(count: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of at most ``size`` that cover ``range(count)``."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _known(ids: np.ndarray, count: int, kind: str) -> np.ndarray:
    found = np.asarray(ids)
    if found.ndim != 1 or not (np.issubdtype(found.dtype, np.integer) or not found.size):
        raise DataError(f"{kind} ids: expected whole numbers in one row, found {found.dtype} of shape {found.shape}")
    outside = found[(found < 0) | (found >= count)]
    if len(outside):
        raise DataError(f"unknown {kind} {outside[0]}: the world has {kind}s 0 to {count - 1}")
    return found.astype(np.int64)


def _event_times(lengths: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return float64 times, flat: every user starts within a year and takes something about once a day."""
    starts = _START + (random.random(len(lengths)) * _YEAR).astype(np.int64)
    gaps = 1 + random.exponential(86_400.0, (len(lengths), lengths.max())).astype(np.int64)
    times = starts[:, None] + np.cumsum(gaps, axis=1)
    return times[np.arange(times.shape[1]) < lengths[:, None]].astype(np.float64)


def _length_range(events: int) -> tuple[int, int]:
    """Smallest and largest number of events of a user; with 3 and more every part of a split has one."""
    return max((events + 1) // 2, 3), max(events * 3 // 2, 3)


def _check(world: ScaleWorld) -> None:
    most = _length_range(world.events_per_user)[1] if _is_whole(world.events_per_user) else 0
    rules = (
        ("items", _is_whole(world.items) and 50 <= world.items < 2**24, "a whole number from 50 to 16,777,215"),
        ("users", _is_whole(world.users) and world.users >= 1, "a whole number from 1 on"),
        ("interaction", _is_number(world.interaction) and 0 <= world.interaction <= 1, "a number from 0 to 1"),
        ("seed", _is_whole(world.seed) and world.seed >= 0, "a whole number from 0 on"),
        ("events_per_user", 3 <= most <= world.items / 8 and world.events_per_user >= 3, "3 to a twelfth of the items"),
        ("exponent", _is_number(world.exponent) and 0 <= world.exponent <= 2, "a number from 0 to 2"),
        ("interests", _is_whole(world.interests) and 1 <= world.interests <= 16, "a whole number from 1 to 16"),
        (
            "width",
            _is_whole(world.width) and 8 <= world.width <= 1024 and world.width % 4 == 0,
            "a multiple of 4, 8 on",
        ),
        ("topics", _is_whole(world.topics) and (world.topics == 0 or 8 <= world.topics <= 8192), "0, or 8 to 8,192"),
        ("perplexity", _is_number(world.perplexity) and world.perplexity >= 0, "0, or a number of items"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise DataError(f"{name}={getattr(world, name)!r}: expected {expected}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))
